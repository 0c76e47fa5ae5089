"""Keys of jobs to look at: each at most once in the queue, and never in two workers at once.

The semantics of client-go's work queue. A key that is added while it is being worked on comes again
afterwards, so no change is missed; one that is added twice before its turn is worked on once. A key
whose work failed comes back after a delay that doubles each time, with jitter, so that a thousand
jobs that failed together do not come back together.

`Schedule` holds the rules and is pure: time is a parameter. `WorkQueue` adds the waiting.
"""

from __future__ import annotations

import asyncio
import dataclasses
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)
# So many replaced times may be kept beside as many as there are keys.
_OUTDATED_ENTRIES = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Backoff:
    """Delay after the n-th failure in a row: first x 2^(n-1), at most `max`, +- `jitter`."""

    first_seconds: float = 0.5
    max_seconds: float = 300.0
    jitter_ratio: float = 0.2

    def delay_seconds(self, failures: int, uniform: float) -> float:
        """Return the delay; `uniform` is a random number from 0 to 1."""
        # The exponent is bounded, or the power of a key that fails for days would overflow.
        plain = min(self.first_seconds * 2.0 ** min(failures - 1, 32), self.max_seconds)
        return plain * (1 + self.jitter_ratio * (2 * uniform - 1))


class Schedule(Generic[KeyT]):
    """Which key is next, and when."""

    def __init__(self) -> None:
        self._ready: deque[KeyT] = deque()
        self._queued: set[KeyT] = set()
        self._active: set[KeyT] = set()
        self._again: set[KeyT] = set()
        self._due: dict[KeyT, float] = {}
        self._heap: list[tuple[float, int, KeyT]] = []
        self._count = itertools.count()

    def __len__(self) -> int:
        return len(self._ready)

    def add(self, key: KeyT) -> None:
        """Put a key in the queue, unless it is there."""
        if key in self._active:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._ready.append(key)

    def add_at(self, key: KeyT, when: float) -> None:
        """Put a key in the queue at `when`; of several times the earliest counts."""
        known = self._due.get(key)
        if known is not None and known <= when:
            return
        self._due[key] = when
        heapq.heappush(self._heap, (when, next(self._count), key))
        if len(self._heap) > 2 * len(self._due) + _OUTDATED_ENTRIES:
            # One that is due before them keeps outdated entries from being dropped, for days.
            self._heap = [entry for entry in self._heap if self._due.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)

    def pop(self, now: float) -> KeyT | None:
        """Take the next key to work on, or None if there is none at `now`."""
        self._promote(now)
        if not self._ready:
            return None
        key = self._ready.popleft()
        self._queued.discard(key)
        self._active.add(key)
        return key

    def done(self, key: KeyT) -> None:
        """Say that the work on `key` has ended; it comes again if it was added meanwhile."""
        self._active.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def next_due(self) -> float | None:
        """Return when the next delayed key is due, or None."""
        self._drop_outdated()
        return self._heap[0][0] if self._heap else None

    def _promote(self, now: float) -> None:
        self._drop_outdated()
        while self._heap and self._heap[0][0] <= now:
            _, _, key = heapq.heappop(self._heap)
            del self._due[key]
            self.add(key)
            self._drop_outdated()

    def _drop_outdated(self) -> None:
        """Drop entries of the heap that an earlier time for the same key has replaced."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)


class WorkQueue(Generic[KeyT]):
    """The queue that workers wait on. One instance per event loop."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        random: Callable[[], float],
        backoff: Backoff | None = None,
    ) -> None:
        self._schedule: Schedule[KeyT] = Schedule()
        self._clock = clock
        self._random = random
        self._backoff = backoff or Backoff()
        self._failures: dict[KeyT, int] = {}
        self._wakeups: set[asyncio.Event] = set()

    def __len__(self) -> int:
        return len(self._schedule)

    def add(self, key: KeyT) -> None:
        """Ask for a look at `key` as soon as a worker is free."""
        self._schedule.add(key)
        self._wake()

    def add_after(self, key: KeyT, seconds: float) -> None:
        """Ask for a look at `key` in so many seconds, or sooner."""
        self._schedule.add_at(key, self._clock() + seconds)
        self._wake()

    def retry(self, key: KeyT, *, at_least_seconds: float = 0.0) -> float:
        """Ask for another look at a key whose work failed; return after how long."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = max(self._backoff.delay_seconds(failures, self._random()), at_least_seconds)
        self.add_after(key, delay)
        return delay

    def forget(self, key: KeyT) -> None:
        """Say that `key` works: its next failure is the first."""
        self._failures.pop(key, None)

    def done(self, key: KeyT) -> None:
        """Say that the work on `key` has ended, well or not."""
        self._schedule.done(key)
        self._wake()

    def next_due(self) -> float | None:
        """Return when the next delayed key is due, on the queue's clock, or None."""
        return self._schedule.next_due()

    async def get(self) -> KeyT:
        """Wait for the next key. Its caller must call `done` in the end."""
        while True:
            key = self._schedule.pop(self._clock())
            if key is not None:
                return key
            await self._wait()

    async def _wait(self) -> None:
        """Wait until something was added, or the next delayed key is due."""
        due = self.next_due()
        timeout = None if due is None else max(due - self._clock(), 0.0)
        wakeup = asyncio.Event()
        self._wakeups.add(wakeup)
        try:
            async with asyncio.timeout(timeout):
                await wakeup.wait()
        except TimeoutError:
            pass
        finally:
            self._wakeups.discard(wakeup)

    def _wake(self) -> None:
        for wakeup in self._wakeups:
            wakeup.set()
