"""Servers that say how much of their limit is left, and servers that queue, on virtual time.

What is simulated is the server's end alone; requests go through the engine's own caller and gate.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Callable
from typing import Protocol

from kubesynth_runner.llm.base import Capabilities, Completion, CompletionRequest, TokenUsage
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.rate_limits import Allowance, RateLimits


class Meter(Protocol):
    """A limit that tells what is left of it."""

    def take(self, now: float, amount: float) -> bool:
        """Take an amount if there is so much."""
        ...

    def allowance(self, now: float) -> Allowance:
        """Return what is left."""
        ...


class Bucket:
    """Filled steadily: OpenAI's limits."""

    def __init__(self, per_minute: float) -> None:
        self._per_minute = self._level = per_minute
        self._filled = 0.0

    def take(self, now: float, amount: float) -> bool:
        """Take an amount if there is so much."""
        earned = (now - self._filled) * self._per_minute / 60
        self._level, self._filled = min(self._per_minute, self._level + earned), now
        if self._level < amount:
            return False
        self._level -= amount
        return True

    def allowance(self, now: float) -> Allowance:
        """Return what is left; the reset is that of the whole bucket."""
        reset_seconds = (self._per_minute - self._level) / self._per_minute * 60
        return Allowance(float(int(self._level)), self._per_minute, reset_seconds)


class Window:
    """Whole again at the end of each window."""

    def __init__(self, amount: float, seconds: float = 60.0, *, says_reset: bool = True) -> None:
        self._amount, self._seconds, self._says_reset = amount, seconds, says_reset
        self._number, self._used = -1, 0.0

    def take(self, now: float, amount: float) -> bool:
        """Take an amount if there is so much in the window that is running."""
        number = int(now / self._seconds)
        if number != self._number:
            self._number, self._used = number, 0.0
        if self._used + amount > self._amount:
            return False
        self._used += amount
        return True

    def allowance(self, now: float) -> Allowance:
        """Return what is left of the window."""
        reset_seconds = (self._number + 1) * self._seconds - now if self._says_reset else None
        return Allowance(self._amount - self._used, self._amount, reset_seconds)


@dataclasses.dataclass
class AnnouncingServer:
    """Answers after a latency and says what is left; refuses without a word of when to come back.

    `on_rate_limits` is called as the client does, when the answer arrives.
    """

    requests: Meter | None = None
    tokens: Meter | None = None
    tokens_per_request: int = 100
    latency_seconds: float = 0.5

    def __post_init__(self) -> None:
        self.on_rate_limits: list[Callable[[RateLimits], None]] = []
        self.let_in: list[float] = []
        self.refused: list[float] = []

    async def complete(self, request: CompletionRequest) -> Completion:
        """Answer, or refuse at once."""
        now = asyncio.get_running_loop().time()
        is_in = self.requests is None or self.requests.take(now, 1.0)
        is_in = is_in and (
            self.tokens is None or self.tokens.take(now, float(self.tokens_per_request))
        )
        limits = RateLimits(
            self.requests.allowance(now) if self.requests else None,
            self.tokens.allowance(now) if self.tokens else None,
        )
        (self.let_in if is_in else self.refused).append(now)
        await asyncio.sleep(self.latency_seconds if is_in else 0.001)
        for listener in self.on_rate_limits:
            listener(limits)
        if not is_in:
            raise ClientError(ErrorKind.RATE_LIMITED, "too many requests", status_code=429)
        return Completion("So.", "stop", TokenUsage(self.tokens_per_request - 1, 1), "m")

    async def probe(self) -> Capabilities:
        """Answer."""
        return Capabilities(json_schema=True)

    async def close(self) -> None:
        """Do nothing."""


@dataclasses.dataclass
class QueueingServer:
    """Works on `slots` requests at once, lets all others wait, and refuses nobody.

    It counts 100 tokens per second.
    """

    slots: int
    latency_seconds: Callable[[random.Random], float]

    def __post_init__(self) -> None:
        self._free = asyncio.Semaphore(self.slots)
        self._draw = random.Random(1)
        self.waited_seconds: list[float] = []

    async def complete(self, request: CompletionRequest) -> Completion:
        """Answer when it is this request's turn."""
        loop = asyncio.get_running_loop()
        arrived = loop.time()
        async with self._free:
            self.waited_seconds.append(loop.time() - arrived)
            seconds = self.latency_seconds(self._draw)
            await asyncio.sleep(seconds)
        return Completion("So.", "stop", TokenUsage(1, round(100 * seconds)), "m")

    async def probe(self) -> Capabilities:
        """Answer."""
        return Capabilities(json_schema=True)

    async def close(self) -> None:
        """Do nothing."""
