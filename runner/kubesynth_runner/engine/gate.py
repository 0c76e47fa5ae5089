"""The gate in front of a model: waiting for `Admission` to let a request through."""

from __future__ import annotations

import asyncio
from collections import deque

from kubesynth_runner import errors
from kubesynth_runner.engine.admission import Admission
from kubesynth_runner.engine.buckets import Buckets, TokenEstimator
from kubesynth_runner.llm.rate_limits import RateLimits

SHORTEST_WAIT_SECONDS = 0.001


class Gate:
    """Hands out the slots of one model in the order in which they are asked for.

    One instance per event loop and model; all stages share it. `buckets` is None while neither
    requests nor tokens per minute are limited.
    """

    def __init__(self, concurrency: int, buckets: Buckets | None = None) -> None:
        self.admission = Admission(concurrency)
        self.buckets = buckets
        self.estimator = TokenEstimator()
        self._waiters: deque[tuple[asyncio.Future[None], float]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = 0.0
        self._stopped = False

    @property
    def counts_tokens(self) -> bool:
        """Whether tokens are limited, so that requests have to say how many they may take."""
        return self.buckets is not None and self.buckets.counts_tokens

    @property
    def times_answers(self) -> bool:
        """Whether it matters how long answers take."""
        return self.admission.gradient is not None

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot."""
        return len(self._waiters)

    async def enter(self, tokens: float = 0.0) -> None:
        """Wait for a slot, and for so many tokens where they are limited.

        Raises:
            StoppedError: `stop` was called.
        """
        loop = asyncio.get_running_loop()
        if self._stopped:
            raise errors.StoppedError
        if not self._waiters and self._try_enter(loop.time(), tokens):
            return
        turn = loop.create_future()
        self._waiters.append((turn, tokens))
        self._wake()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.settle(tokens, 0.0)
                self.leave()  # the slot was ours already
            raise

    def _try_enter(self, now: float, tokens: float) -> bool:
        buckets = self.buckets
        if buckets is None:
            return self.admission.try_enter(now)
        if now < buckets.opens_at or not self.admission.try_enter(now):
            return False
        buckets.start(now, tokens)
        return True

    def settle(self, reserved: float, used: float) -> None:
        """Replace the tokens that a request has reserved by those that it has used."""
        if self.buckets is not None:
            self.buckets.settle(reserved, used)
            self._wake()

    def change_limits(
        self,
        concurrency: int,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
    ) -> None:
        """Go on with other limits; requests under way are left alone."""
        now = asyncio.get_running_loop().time()
        self.admission.change_concurrency(concurrency)
        if self.buckets is None:
            self.buckets = Buckets()
        self.buckets.change(now, requests_per_minute, tokens_per_minute)
        if self.buckets.limits_nothing:
            self.buckets = None
        self._wake()

    def leave(self) -> None:
        """Give a slot back."""
        self.admission.leave()
        self._wake()

    def on_rate_limits(self, limits: RateLimits) -> None:
        """Take what the server says of its limits."""
        self.admission.on_rate_limits(asyncio.get_running_loop().time(), limits)
        self._wake()

    def on_latency(self, began: float, work: float | None) -> None:
        """Note that a request that was sent at `began` has been answered, or timed out (None)."""
        now = asyncio.get_running_loop().time()
        if self.admission.on_latency(now, now - began, work):
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
            turn, _ = self._waiters.popleft()
            if not turn.done():
                turn.set_exception(errors.StoppedError())

    def _wake(self) -> None:
        if not self._waiters:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._waiters:
            turn, tokens = self._waiters[0]
            if turn.done():  # cancelled while it waited
                self._waiters.popleft()
            elif self._try_enter(now, tokens):
                self._waiters.popleft()
                turn.set_result(None)
            else:
                break
        if not self._waiters:
            return
        opens_at = self.admission.opens_at
        if self.buckets is not None:
            opens_at = max(opens_at, self.buckets.opens_at)
        # Otherwise what they wait for is a slot, and whoever gives one back looks again.
        if opens_at > now:
            self._wake_at(loop, opens_at)

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
