"""How fast requests may start, learned from what a server refuses. Pure: time is passed in.

A server that limits requests per second says so with 429s alone. Between two refusals it was short
of room nearly all the time, so what it let in meanwhile is its rate: that is measured and paced
just under. The pace then rises slowly, and faster after a while, until the server refuses again.

Until something is refused only the very beginning is paced: the start rate doubles quickly from a
moderate one, so that a limit is met with a few requests too many and not with all slots at once.

The scheme is CUBIC's (RFC 9438) in outline, a plateau around the last known ceiling with a search
beyond it, but in requests per second: a window of requests under way says little about a rate when
answers take from milliseconds to minutes.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from enum import Enum

# The first requests: some at once, then so many per second, doubled until it limits nothing.
START_BURST = 16
START_PER_SECOND = 250.0
UNLIMITED_PER_SECOND = 50_000.0
SLOWEST_PER_SECOND = 0.2
# The rate is measured over the refusals of the last 2 s, or further back for so many requests.
WINDOW_SECONDS = 2.0
SHORT_WINDOW_SECONDS = 0.3
MIN_SAMPLE = 8
FORGET_REFUSALS_SECONDS = 120.0
# The rate lies between what was let in on average and the pace at the end; so close together the
# two are one measure.
TIGHT_RATIO = 1.25
# The pace after a refusal, as a share of the measured rate, or of the pace where none is known.
UNDER_CEILING = 0.94
UNMEASURED_CUT = 0.5
# On the plateau the pace rises by so much of itself per second.
RISE_PER_SECOND = 0.01
PLATEAU_SECONDS = 10.0
# Below so many requests per second all rises are slower in proportion: it takes requests to learn.
BRISK_PER_SECOND = 10.0
# And after a longer pause than this: the next refusal would cost as much again.
CHEAP_PAUSE_SECONDS = 0.5
# Starts that are late by a busy event loop or a coarse timer are made up for, up to this much.
TOLERANCE_SECONDS = 0.02
_SLOT_SECONDS = 0.1


class _Mode(Enum):
    """What is known of the server's rate; the value is how long the pace takes to double."""

    START = 0.07
    SEARCH = 0.5  # nothing: the last pace was too much
    APPROACH = 5.0  # bounds that lie apart
    PLATEAU = 6.0  # a measure; the doubling begins after PLATEAU_SECONDS


@dataclasses.dataclass(frozen=True, slots=True)
class _Refusal:
    """A refusal, and how many requests were let in up to it."""

    time: float
    admitted: int


class _RecentStarts:
    """Requests started in the last WINDOW_SECONDS, counted in slots of 0.1 s."""

    def __init__(self) -> None:
        self._slots: deque[tuple[int, int]] = deque(maxlen=round(WINDOW_SECONDS / _SLOT_SECONDS))
        self._slot = 0
        self._count = 0

    def add(self, now: float) -> None:
        slot = int(now / _SLOT_SECONDS)
        if slot != self._slot:
            self._slots.append((self._slot, self._count))
            self._slot, self._count = slot, 0
        self._count += 1

    def clear(self) -> None:
        self._slots.clear()
        self._count = 0

    def per_second(self, now: float, seconds: float) -> float:
        """Return the average rate since `seconds` ago, to the slot."""
        oldest = int((now - seconds) / _SLOT_SECONDS)
        count = self._count + sum(count for slot, count in self._slots if slot >= oldest)
        return count / max(_SLOT_SECONDS / 2, min(seconds, now - oldest * _SLOT_SECONDS))


class Pacer:
    """When the next request may start."""

    def __init__(self) -> None:
        self.next_start = -math.inf
        self._recent = _RecentStarts()
        self._started = 0
        self._refused = 0
        self._refusals: deque[_Refusal] = deque()
        # The pace is `_base` at `_since`, the first start at it, and rises from there.
        self._mode = _Mode.START
        self._base = START_PER_SECOND
        self._since: float | None = None
        # All rises take so many times as long.
        self._patience = 1.0
        # It has risen so far that it limits nothing any more.
        self._is_over = False

    def rate(self, now: float) -> float:
        """Return the pace in requests per second, infinite if there is none."""
        elapsed = now - self._since if self._since is not None else 0.0
        elapsed /= self._patience
        plateau = 0.0
        if self._mode is _Mode.PLATEAU:
            plateau = min(elapsed, PLATEAU_SECONDS)
        doublings = min((elapsed - plateau) / self._mode.value, 64.0)
        rate = self._base * (1.0 + RISE_PER_SECOND * plateau) * 2.0**doublings
        return rate if rate < UNLIMITED_PER_SECOND else math.inf

    def start(self, now: float) -> None:
        """Count a request that starts, and put off the next one."""
        self._started += 1
        self._recent.add(now)
        if self._since is None:
            self._since = now
            burst = START_BURST if self._mode is _Mode.START else 0
            self.next_start = now - burst / self._base
        elif self._mode is not _Mode.START:
            self.next_start = max(self.next_start, now - TOLERANCE_SECONDS)
        if not self._is_over:
            rate = self.rate(now)
            self._is_over = rate == math.inf
            self.next_start += 1.0 / rate

    def refuse(self) -> None:
        """Count a request that was not let in."""
        self._refused += 1

    def resume(self, refused_at: float, pause_seconds: float, now: float) -> bool:
        """Set the pace after a refusal; return whether anything was let in since the one before.

        To be called when the pause that followed the refusal ends: by then the other requests that
        it concerned have been refused too, and the count of those let in is exact.
        """
        refusal = _Refusal(refused_at, self._started - self._refused)
        was_fruitful = not self._refusals or refusal.admitted > self._refusals[-1].admitted
        if was_fruitful:
            self._base, self._mode = self._next_pace(refusal)
            self._refusals.append(refusal)
        elif self._mode in (_Mode.START, _Mode.SEARCH):
            self._base, self._mode = self._cut(refused_at), _Mode.SEARCH
        cost = max(1.0, pause_seconds / CHEAP_PAUSE_SECONDS)
        # A guess is worth more risk than a measure.
        cost = cost if self._mode is _Mode.PLATEAU else math.sqrt(cost)
        self._patience = max(cost, BRISK_PER_SECOND / self._base)
        self._recent.clear()
        self._since, self.next_start, self._is_over = None, now, False
        return was_fruitful

    def _next_pace(self, refusal: _Refusal) -> tuple[float, _Mode]:
        """Return the pace in requests per second, and what it rests on."""
        first = self._first_of_sample(refusal)
        if first is None:
            return self._cut(refusal.time), _Mode.SEARCH
        lower = (refusal.admitted - first.admitted) / max(refusal.time - first.time, 1e-3)
        upper = max(lower, self._rate_up_to(refusal.time))
        pace = max(SLOWEST_PER_SECOND, UNDER_CEILING * math.sqrt(lower * upper))
        return pace, _Mode.PLATEAU if upper <= TIGHT_RATIO * lower else _Mode.APPROACH

    def _cut(self, now: float) -> float:
        return max(SLOWEST_PER_SECOND, UNMEASURED_CUT * self._rate_up_to(now))

    def _rate_up_to(self, now: float) -> float:
        """Return the pace, or the requests per second that were really started, if fewer."""
        rate = self.rate(now)
        since = now - self._since if self._since is not None else 0.0
        if since < SHORT_WINDOW_SECONDS and rate < math.inf:
            return rate
        seconds = min(WINDOW_SECONDS, max(SHORT_WINDOW_SECONDS, MIN_SAMPLE / rate))
        return min(rate, self._recent.per_second(now, min(seconds, since)))

    def _first_of_sample(self, refusal: _Refusal) -> _Refusal | None:
        """Return the refusal from which on the rate is measured, if there are enough requests."""
        while self._refusals and refusal.time - self._refusals[0].time > FORGET_REFUSALS_SECONDS:
            self._refusals.popleft()
        first = None
        for earlier in reversed(self._refusals):
            if first is not None and refusal.time - earlier.time > WINDOW_SECONDS:
                break
            if refusal.admitted - earlier.admitted >= MIN_SAMPLE:
                first = earlier
        return first

    def restart(self) -> None:
        """Forget the pace and begin again with a moderate one."""
        self._base, self._mode = START_PER_SECOND, _Mode.START
        self._since, self._patience, self._is_over = None, 1.0, False
