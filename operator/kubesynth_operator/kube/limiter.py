"""A ceiling on how many calls a second may begin, over all jobs together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class RateLimiter:
    """Spaces calls out: bursts of up to one second's worth pass at once, the rest waits its turn.

    The generic cell rate algorithm: one number, the earliest time at which the next call conforms.
    """

    def __init__(
        self,
        per_second: float,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._interval_seconds = 1 / per_second
        self._clock = clock
        self._sleep = sleep
        self._free_at = 0.0

    async def wait(self) -> None:
        """Return when a call may begin."""
        now = self._clock()
        self._free_at = max(self._free_at, now - 1.0) + self._interval_seconds
        delay = self._free_at - now
        if delay > 0:
            await self._sleep(delay)
