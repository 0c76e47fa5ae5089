"""Requests with different sampling never under way together, where a server would mix them up.

A server that merges requests, and takes the sampling of the first of them for all, is safe as long
as all that are under way have the same. One that has another waits until those are answered, and
those that come after it wait behind it: nobody starves.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Hashable


class Lanes:
    """One lane is open at a time. One instance per event loop.

    When it is empty the lane of whoever has waited longest opens, for all that wait for it by then.
    """

    def __init__(self) -> None:
        self._open: Hashable = None
        self._under_way = 0
        self._waiting: deque[tuple[Hashable, asyncio.Future[None]]] = deque()

    @contextlib.asynccontextmanager
    async def enter(self, lane: Hashable) -> AsyncIterator[None]:
        """Wait until requests of this lane may be sent."""
        if self._waiting or (self._under_way and lane != self._open):
            await self._wait(lane)
        else:
            self._let_in(lane)
        try:
            yield
        finally:
            self._leave()

    def _let_in(self, lane: Hashable) -> None:
        self._open = lane
        self._under_way += 1

    def _leave(self) -> None:
        self._under_way -= 1
        self._open_next()

    async def _wait(self, lane: Hashable) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((lane, place))
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # let in, and cancelled at the same time
                self._leave()
            else:
                self._waiting.remove((lane, place))
                self._open_next()
            raise

    def _open_next(self) -> None:
        if self._under_way or not self._waiting:
            return
        lane = self._waiting[0][0]
        let_in = [place for waiting_for, place in self._waiting if waiting_for == lane]
        self._waiting = deque(item for item in self._waiting if item[0] != lane)
        for place in let_in:
            if not place.done():
                self._let_in(lane)
                place.set_result(None)
        if not self._under_way:
            self._open_next()
