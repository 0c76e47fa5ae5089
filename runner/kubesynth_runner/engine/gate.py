"""The gate in front of a model: waiting for `Admission` to let a request through."""

from __future__ import annotations

import asyncio
from collections import deque

from kubesynth_runner import errors
from kubesynth_runner.engine.admission import Admission

SHORTEST_WAIT_SECONDS = 0.001


class Gate:
    """Hands out the slots of one model in the order in which they are asked for.

    One instance per event loop and model; all stages share it.
    """

    def __init__(self, concurrency: int) -> None:
        self.admission = Admission(concurrency)
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = 0.0
        self._stopped = False

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot."""
        return len(self._waiters)

    async def enter(self) -> None:
        """Wait for a slot.

        Raises:
            StoppedError: `stop` was called.
        """
        loop = asyncio.get_running_loop()
        if self._stopped:
            raise errors.StoppedError
        if not self._waiters and self.admission.try_enter(loop.time()):
            return
        turn = loop.create_future()
        self._waiters.append(turn)
        self._wake()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.leave()  # the slot was ours already
            raise

    def leave(self) -> None:
        """Give a slot back."""
        self.admission.leave()
        self._wake()

    def on_change(self) -> None:
        """Look again after the admission's state has changed."""
        self._wake()

    def stop(self) -> None:
        """Refuse everybody who waits and everybody who comes."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        while self._waiters:
            turn = self._waiters.popleft()
            if not turn.done():
                turn.set_exception(errors.StoppedError())

    def _wake(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._waiters:
            if self._waiters[0].done():  # cancelled while it waited
                self._waiters.popleft()
            elif self.admission.try_enter(now):
                self._waiters.popleft().set_result(None)
            else:
                break
        # Otherwise what they wait for is a slot, and whoever gives one back looks again.
        if self._waiters and self.admission.opens_at > now:
            self._wake_at(loop, self.admission.opens_at)

    def _wake_at(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        if self._timer is not None:
            if self._wakes_at == when:
                return
            self._timer.cancel()
        # uvloop rounds to milliseconds, so that a shorter wait would be none, again and again.
        soonest = loop.time() + SHORTEST_WAIT_SECONDS
        self._timer, self._wakes_at = loop.call_at(max(when, soonest), self._on_timer), when

    def _on_timer(self) -> None:
        self._timer = None  # a coarse clock may wake us too early: then there is another
        self._wake()
