"""Servers that refuse, on virtual time: a `ChatClient` whose answers cost nothing but waiting.

What is simulated is the server's end alone; requests go through the engine's own caller and gate.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Callable
from typing import Protocol

from kubesynth_runner.llm.base import Capabilities, Completion, CompletionRequest, TokenUsage
from kubesynth_runner.llm.errors import ClientError, ErrorKind


class Limit(Protocol):
    """Whether a request is let in."""

    def admit(self, now: float) -> float | None:
        """Take a request in and return None, or return the Retry-After, 0 for none."""
        ...

    def leave(self) -> None:
        """Note that a request has been answered."""
        ...


class NoLimit:
    """Lets everything in."""

    def admit(self, now: float) -> float | None:
        """Let a request in."""
        return None

    def leave(self) -> None:
        """Do nothing."""


class TokenBucket(NoLimit):
    """A rate with a burst. `retry_after_seconds` None: the exact time until the next token."""

    def __init__(
        self, per_second: float, burst: float, retry_after_seconds: float | None = 1.0
    ) -> None:
        self.per_second = per_second
        self._burst = self._level = burst
        self._filled = 0.0
        self._retry_after_seconds = retry_after_seconds

    def admit(self, now: float) -> float | None:
        """Take a token if there is one."""
        earned = self.per_second * (now - self._filled)
        self._level, self._filled = min(self._burst, self._level + earned), now
        if self._level >= 1.0 - 1e-9:
            self._level -= 1.0
            return None
        if self._retry_after_seconds is None:
            return (1.0 - self._level) / self.per_second
        return self._retry_after_seconds


class FixedWindow(NoLimit):
    """So many requests in each window; Retry-After is its rest, in whole seconds."""

    def __init__(self, requests: int, window_seconds: float) -> None:
        self._requests = requests
        self._window_seconds = window_seconds
        self._window = -1
        self._used = 0

    def admit(self, now: float) -> float | None:
        """Count a request in the window that is running."""
        window = int(now / self._window_seconds)
        if window != self._window:
            self._window, self._used = window, 0
        self._used += 1
        if self._used <= self._requests:
            return None
        return float(math.ceil((window + 1) * self._window_seconds - now))


class Slots:
    """So many requests at once, and no Retry-After."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._used = 0

    def admit(self, now: float) -> float | None:
        """Take a slot if one is free."""
        if self._used == self._slots:
            return 0.0
        self._used += 1
        return None

    def leave(self) -> None:
        """Free a slot."""
        self._used -= 1


@dataclasses.dataclass(frozen=True, slots=True)
class Arrival:
    """A request as the server saw it. `retry_after_seconds` is None if it was let in."""

    time: float
    content: str
    retry_after_seconds: float | None


class LimitedServer:
    """A server with a limit, a latency, and a memory of what arrived."""

    def __init__(
        self,
        limit: Limit,
        latency_seconds: Callable[[], float] = lambda: 0.2,
        round_trip_seconds: float = 0.001,
    ) -> None:
        self.limit = limit
        self._latency_seconds = latency_seconds
        self._round_trip_seconds = round_trip_seconds
        self.arrivals: list[Arrival] = []

    @property
    def refused(self) -> list[Arrival]:
        """The requests that were not let in."""
        return [arrival for arrival in self.arrivals if arrival.retry_after_seconds is not None]

    async def complete(self, request: CompletionRequest) -> Completion:
        """Answer after the latency, or refuse at once."""
        now = asyncio.get_running_loop().time()
        content = request.messages[0].content
        retry_after_seconds = self.limit.admit(now)
        self.arrivals.append(Arrival(now, content, retry_after_seconds))
        await asyncio.sleep(self._round_trip_seconds)
        if retry_after_seconds is not None:
            raise ClientError(
                ErrorKind.RATE_LIMITED,
                "too many requests",
                status_code=429,
                retry_after_seconds=retry_after_seconds or None,
            )
        await asyncio.sleep(self._latency_seconds())
        self.limit.leave()
        return Completion("So.", "stop", TokenUsage(1, 1), "m")

    async def probe(self) -> Capabilities:
        """Answer."""
        return Capabilities(json_schema=True)

    async def close(self) -> None:
        """Do nothing."""
