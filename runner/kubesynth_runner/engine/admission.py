"""How many requests may be under way to one model on one endpoint. Pure: time is passed in.

Additive increase, multiplicative decrease (Chiu and Jain, 1989): one cut per congestion event, and
one slot more per `limit` answers, never above the configured concurrency. A server's Retry-After
closes the gate until then. An endpoint that cannot be reached at all is an outage: one request at a
time asks whether it is back, less and less often, and no record pays for that with its attempts.
"""

from __future__ import annotations

import dataclasses

CUT_FACTOR = 0.7
# 429s within this time of a cut belong to the congestion that the cut has already answered.
CONGESTION_EVENT_SECONDS = 0.5
# Without Retry-After, and doubled with every cut in a row.
PAUSE_SECONDS = 0.25
PAUSE_LIMIT_SECONDS = 30.0
# Of what a server asks for. It may know better than we do, but not be trusted with a day.
RETRY_AFTER_LIMIT_SECONDS = 300.0
# So many failures to connect in a row, without one answer between them, are an outage.
OUTAGE_AFTER_FAILURES = 3
OUTAGE_PAUSE_SECONDS = 0.5
OUTAGE_PAUSE_LIMIT_SECONDS = 15.0


@dataclasses.dataclass(slots=True)
class Admission:
    """The state of the gate in front of one model."""

    concurrency: int
    limit: float = dataclasses.field(init=False)
    in_flight: int = 0
    closed_until: float = 0.0
    outage_since: float | None = None
    _last_cut: float = float("-inf")
    _cuts_in_a_row: int = 0
    _unreachable_in_a_row: int = 0

    def __post_init__(self) -> None:
        self.limit = float(self.concurrency)

    def try_enter(self, now: float) -> bool:
        """Take a slot if one is free and the gate is open."""
        slots = 1 if self.outage_since is not None else int(self.limit)
        if now < self.closed_until or self.in_flight >= slots:
            return False
        self.in_flight += 1
        return True

    def leave(self) -> None:
        """Give the slot back."""
        self.in_flight -= 1

    def on_answer(self) -> None:
        """Note an answer of the model, good or bad: the endpoint is there and has room."""
        self._unreachable_in_a_row = 0
        self._cuts_in_a_row = 0
        self.outage_since = None
        self.limit = min(float(self.concurrency), self.limit + 1.0 / self.limit)

    def on_backpressure(self, now: float, retry_after_seconds: float | None) -> None:
        """Note that the server asks for fewer requests (429, 503)."""
        self._unreachable_in_a_row = 0
        if now - self._last_cut >= CONGESTION_EVENT_SECONDS:
            self._last_cut = now
            self.limit = max(1.0, self.limit * CUT_FACTOR)
            self._cuts_in_a_row += 1
        if retry_after_seconds is not None:
            pause = min(retry_after_seconds, RETRY_AFTER_LIMIT_SECONDS)
        else:
            pause = min(PAUSE_SECONDS * 2 ** min(self._cuts_in_a_row - 1, 10), PAUSE_LIMIT_SECONDS)
        self.closed_until = max(self.closed_until, now + pause)

    def on_unreachable(self, now: float) -> bool:
        """Note a failure to connect; return whether this is an outage."""
        self._unreachable_in_a_row += 1
        if self._unreachable_in_a_row < OUTAGE_AFTER_FAILURES:
            return False
        if self.outage_since is None:
            self.outage_since = now
        exponent = min(self._unreachable_in_a_row - OUTAGE_AFTER_FAILURES, 10)
        pause = min(OUTAGE_PAUSE_SECONDS * 2**exponent, OUTAGE_PAUSE_LIMIT_SECONDS)
        self.closed_until = max(self.closed_until, now + pause)
        return True
