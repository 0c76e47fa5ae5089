"""How many requests may be under way to one model on one endpoint. Pure: time is passed in.

These hold requests back, and the strictest one counts: the number under way (with `gradient` also
the one beyond which more are no use), a pause while the server wants none, a pace once it has
refused some (`pacing`), and the pace that its own headers allow (`quota`).

A refusal (429, 503) begins a congestion event: a short pause in which nothing is sent, then the
pace that the server was seen to take. All refusals within the pause belong to the same event.
Retry-After prolongs the pause. One second is the least that a header in whole seconds can say, so
`Retry-After: 1` is read as "within a second": then the server is asked again earlier, at the pace
learned, and each time twice as late if it has let nothing in. (The refused request itself waits
as long as it was told, whatever the gate does.)

Most servers limit a rate. Some limit how many requests they work on at once; that shows when they
refuse at the same number under way time and again, and then that number is kept to instead.

An endpoint that cannot be reached at all is an outage, and so is one that fails everybody
(`breaker`): one request at a time asks whether it is back, less and less often, and no record pays
for that with its attempts. So is a server that says for several pauses on end that it is not able
(503), and lets in nobody: it starts, or loads its model. What it let in last says nothing about how
much it takes when it is back.
"""

from __future__ import annotations

import dataclasses
from collections import deque

from kubesynth_runner.engine.gradient import LatencyGradient
from kubesynth_runner.engine.pacing import Pacer
from kubesynth_runner.engine.quota import Quota
from kubesynth_runner.llm.rate_limits import RateLimits

# Nothing is sent for so long after a refusal; doubled while nothing is let in.
PAUSE_SECONDS = 0.1
PAUSE_LIMIT_SECONDS = 30.0
# A server that asks for a longer wait is asked again after this time.
RETRY_AFTER_LIMIT_SECONDS = 300.0
# Refusals at numbers under way that differ by no more than this share, and by one in any case, are
# refusals at the same number; below the least one every rate looks like that.
SAME_NUMBER_REFUSALS = 3
SAME_NUMBER_SHARE = 0.05
LEAST_NUMBER = 4
# A refusal at a number this far below the supposed limit shows that it is not the number.
REFUTED_SHARE = 0.85
# A limit is left alone for so many round trips before one slot more is tried. A round trip is as
# many answers as there are slots.
STEADY_ROUND_TRIPS = 20.0
# So many failures to connect in a row, without one answer between them, are an outage.
OUTAGE_AFTER_FAILURES = 3
OUTAGE_PAUSE_SECONDS = 0.5
# So many pauses on end in which a server that calls itself unable has let nobody in are one.
OUTAGE_AFTER_PAUSES = 3
OUTAGE_PAUSE_LIMIT_SECONDS = 15.0


@dataclasses.dataclass(slots=True)
class _Congestion:
    """A congestion event: when, and with how many requests under way that were not refused.

    `longest_pause_seconds` bounds the doubling of its pause.
    """

    refused_at: float
    in_flight: int
    longest_pause_seconds: float = PAUSE_LIMIT_SECONDS
    pace_is_set: bool = False
    # Some refusal was about our rate, and not about the server's own state.
    limits_rate: bool = False


@dataclasses.dataclass(slots=True)
class Admission:
    """The state of the gate in front of one model."""

    concurrency: int
    limit: float = dataclasses.field(init=False)
    in_flight: int = 0
    # Given by the model to anybody, good or bad.
    answers: int = 0
    closed_until: float = 0.0
    outage_since: float | None = None
    # Where the server is watched for how many requests it takes before more are no use.
    gradient: LatencyGradient | None = None
    quota: Quota = dataclasses.field(default_factory=Quota)
    _pacer: Pacer = dataclasses.field(default_factory=Pacer)
    _congestion: _Congestion | None = None
    _fruitless_pauses: int = 0
    # How many requests were under way at the last refusals, one of each event.
    _refused_at_numbers: deque[int] = dataclasses.field(
        default_factory=lambda: deque(maxlen=SAME_NUMBER_REFUSALS)
    )
    _answers_until_rise: float = 0.0
    _unreachable_in_a_row: int = 0

    def __post_init__(self) -> None:
        self.limit = float(self.concurrency)

    @property
    def opens_at(self) -> float:
        """When the next request may start, given a free slot. It may be in the past."""
        if self._congestion is not None and not self._congestion.pace_is_set:
            return self.closed_until  # then there is a new pace
        return max(self.closed_until, self._pacer.next_start, self.quota.next_start)

    def pace(self, now: float) -> float:
        """Return how many requests per second may start, infinite if nothing limits them."""
        return min(self._pacer.rate(now), self.quota.per_second)

    @property
    def slots(self) -> int:
        """How many requests may be under way now."""
        if self.outage_since is not None:
            return 1
        if self.gradient is not None:
            return int(min(self.limit, self.gradient.limit))
        return int(self.limit)

    def try_enter(self, now: float) -> bool:
        """Take a slot if one is free and the gate is open."""
        if now < self.closed_until or self.in_flight >= self.slots:
            return False
        if self._congestion is not None and not self._end_pause(self._congestion, now):
            return False
        if now < self._pacer.next_start or now < self.quota.next_start:
            return False
        self._pacer.start(now)
        self.quota.start(now)
        self.in_flight += 1
        return True

    def _end_pause(self, congestion: _Congestion, now: float) -> bool:
        """Set the new pace; return False if the pause goes on, because nothing has been let in."""
        if not congestion.pace_is_set:
            congestion.pace_is_set = True
            pause_seconds = self.closed_until - congestion.refused_at
            was_fruitful = self._pacer.resume(congestion.refused_at, pause_seconds, now)
            self._judge_number(congestion.in_flight)
            if self.limit < self.concurrency:
                self._pacer.restart()
                patience = max(1.0, pause_seconds / PAUSE_SECONDS)
                self._answers_until_rise = STEADY_ROUND_TRIPS * self.limit * patience
            self._fruitless_pauses = 0 if was_fruitful else self._fruitless_pauses + 1
            if not was_fruitful:
                pause_seconds = PAUSE_SECONDS * 2.0 ** min(self._fruitless_pauses, 16)
                pause_seconds = min(pause_seconds, congestion.longest_pause_seconds)
                self.closed_until = max(self.closed_until, congestion.refused_at + pause_seconds)
                unable = not congestion.limits_rate
                if unable and self._fruitless_pauses >= OUTAGE_AFTER_PAUSES:
                    self.outage_since = self.outage_since or now
                if now < self.closed_until:
                    return False
        self._congestion = None
        return True

    def change_concurrency(self, concurrency: int) -> None:
        """Allow more or fewer requests at once; a limit that was found out stays."""
        free = self.limit >= self.concurrency
        self.concurrency = concurrency
        self.limit = float(concurrency) if free else min(self.limit, float(concurrency))

    def leave(self) -> None:
        """Give the slot back."""
        self.in_flight -= 1

    def on_answer(self) -> None:
        """Note an answer of the model, good or bad: the endpoint is there and has room."""
        self.answers += 1
        self._unreachable_in_a_row = 0
        if self.outage_since is not None:
            self.outage_since = None
            self._pacer.restart()
        if self.limit < self.concurrency:
            self._answers_until_rise -= 1.0
            if self._answers_until_rise < 0.0:
                self.limit = min(float(self.concurrency), self.limit + 1.0 / self.limit)

    def on_latency(self, now: float, seconds: float, work: float | None) -> bool:
        """Note how long an answer took; return whether more or fewer may be under way now.

        `work` is its length in tokens, 0 where the server does not say, and None where there was no
        answer in that time.
        """
        gradient = self.gradient
        return gradient is not None and gradient.on_answer(
            now, seconds, work, self.in_flight, self.concurrency
        )

    def on_rate_limits(self, now: float, limits: RateLimits) -> None:
        """Note what the server says of its limits; the answered request is still under way."""
        self.quota.update(now, limits, max(0, self.in_flight - 1))

    def on_backpressure(
        self, now: float, retry_after_seconds: float | None, *, limits_rate: bool = True
    ) -> None:
        """Note that the server has refused a request, after its slot was given back.

        `limits_rate` is true where it says that there were too many of them (429), and false where
        it says that it is not able to (503).
        """
        self._unreachable_in_a_row = 0
        self._pacer.refuse()
        if self._congestion is None:
            self._congestion = _Congestion(now, self.in_flight)
        else:
            self._congestion.in_flight -= 1
        self._congestion.limits_rate |= limits_rate
        self.closed_until = max(self.closed_until, now + PAUSE_SECONDS)
        if retry_after_seconds is not None and retry_after_seconds > PAUSE_SECONDS:
            self._obey(self._congestion, now, retry_after_seconds)

    def _judge_number(self, in_flight: int) -> None:
        """Conclude from the last refusals whether it is the number under way that is limited."""
        numbers = self._refused_at_numbers
        numbers.append(in_flight)
        is_limited = self.limit < self.concurrency
        if is_limited and in_flight < REFUTED_SHARE * self.limit:
            self.limit = float(self.concurrency)
            numbers.clear()
            return
        spread = max(numbers) - min(numbers)
        is_same = spread <= max(1.0, SAME_NUMBER_SHARE * max(numbers))
        is_evidence = len(numbers) == SAME_NUMBER_REFUSALS and min(numbers) >= LEAST_NUMBER
        if is_limited or (is_evidence and is_same):
            self.limit = float(max(1, in_flight))

    def _obey(self, congestion: _Congestion, now: float, retry_after_seconds: float) -> None:
        if retry_after_seconds == 1.0:
            congestion.longest_pause_seconds = 1.0
            return
        wait_seconds = min(retry_after_seconds, RETRY_AFTER_LIMIT_SECONDS)
        congestion.longest_pause_seconds = wait_seconds
        self.closed_until = max(self.closed_until, now + wait_seconds)

    def on_unreachable(self, now: float) -> None:
        """Note a failure to connect, or a connection that was closed."""
        if self.outage_since is not None and now < self.closed_until:
            return  # sent before the pause: it says nothing new
        self._unreachable_in_a_row += 1
        if self._unreachable_in_a_row < OUTAGE_AFTER_FAILURES:
            return
        if self.outage_since is None:
            self.outage_since = now
        exponent = min(self._unreachable_in_a_row - OUTAGE_AFTER_FAILURES, 10)
        pause = min(OUTAGE_PAUSE_SECONDS * 2**exponent, OUTAGE_PAUSE_LIMIT_SECONDS)
        self.closed_until = max(self.closed_until, now + pause)

    def on_outage(self, now: float) -> None:
        """Note that the server, though it can be reached, answers nobody."""
        if self.outage_since is None:
            self._unreachable_in_a_row = OUTAGE_AFTER_FAILURES - 1
        self.on_unreachable(now)
