"""Servers that never refuse, simulated: arithmetic on virtual time, without an event loop.

A server's speed depends on how many requests it works on. Each has some work, 1 on average. All
that are worked on get on equally fast, the others wait in the order in which they came:

- with slots (llama.cpp, an engine behind a fixed number of workers) the speed is always the same;
- one that batches takes `alone + each * n` seconds for a unit of work of each of n requests, and
  more where it does not scale (`pair * n * n`);
- one with a key-value cache gives up the request that came last when the cache is full, and does
  part of its work again later.

Clients always have another request. What decides how many they have under way is their own.
"""

from __future__ import annotations

import dataclasses
import heapq
import math
import random
from collections import deque
from typing import Protocol


class Controller(Protocol):
    """What decides how many requests a client has under way."""

    limit: float

    def on_answer(
        self, now: float, latency_seconds: float, work: float | None, in_flight: int, most: int
    ) -> bool:
        """Note an answer."""
        ...


class Fixed:
    """Always the same number."""

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def on_answer(
        self, now: float, latency_seconds: float, work: float | None, in_flight: int, most: int
    ) -> bool:
        """Do nothing."""
        return False


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """How a server behaves. Seconds are for a unit of work."""

    alone: float = 1.0
    each: float = 0.0
    pair: float = 0.0
    slots: int = 1_000_000
    # Seconds in which nothing else gets on when a request is begun, as for reading its prompt.
    stall: float = 0.0
    # Units of work, done and held, of all requests together; what a prompt holds from the start.
    cache: float = math.inf
    prompt: float = 0.5
    # What part of the work of a request that was given up is done again.
    again: float = 0.5

    def pace(self, running: int) -> float:
        """Return the seconds that a unit of work takes each of so many."""
        return self.alone + self.each * running + self.pair * running * running

    def per_second(self, under_way: int) -> float:
        """Return the answers per second with so many under way, of work 1, the cache left out."""
        running = min(under_way, self.slots)
        return running / (self.pace(running) + self.stall * running)

    def best(self, most: int) -> float:
        """Return the most answers per second, with up to so many under way."""
        return max(self.per_second(n) for n in range(1, min(most, self.slots) + 1))


@dataclasses.dataclass(slots=True)
class Client:
    """A pod: what it may have under way, and what became of it."""

    controller: Controller
    most: int = 512
    starts_at: float = 0.0
    ends_at: float = math.inf
    # Whether it is told how much work an answer was, as by a server that counts tokens.
    sees_work: bool = True
    in_flight: int = 0
    # When answers came, how much work they were, how long they took, and the limit then.
    answers: list[tuple[float, float, float, float]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(slots=True)
class _Request:
    client: Client
    sent_at: float
    work: float
    left: float
    began: float = 0.0  # on the clock of the server's progress


@dataclasses.dataclass(slots=True)
class Simulation:
    """Clients in front of a server, for some seconds.

    `changes` are servers that take its place at a time; `heavier` is the factor by which requests
    sent after a time have more work.
    """

    server: Server
    clients: list[Client]
    sigma: float = 0.0
    seed: int = 1
    # The share of requests that are a fiftieth of the others: labels between texts.
    short_share: float = 0.0
    changes: list[tuple[float, Server]] = dataclasses.field(default_factory=list)
    heavier: list[tuple[float, float]] = dataclasses.field(default_factory=list)
    now: float = 0.0
    preemptions: int = 0
    _progress: float = 0.0
    _held: float = 0.0
    _factor: float = 1.0
    _serial: int = 0
    _running: list[tuple[float, int, _Request]] = dataclasses.field(default_factory=list)
    _waiting: deque[_Request] = dataclasses.field(default_factory=deque)
    _draw: random.Random = dataclasses.field(default_factory=random.Random)

    def __post_init__(self) -> None:
        self._draw.seed(self.seed)

    def run(self, answers: int = 0, seconds: float = math.inf) -> None:
        """Go on until there were so many answers, or for so long."""
        times = {time for client in self.clients for time in (client.starts_at, client.ends_at)}
        times |= {time for time, _ in (*self.changes, *self.heavier)}
        pending = sorted(time for time in times if time < math.inf)
        while self.now < seconds and (not answers or self._answered < answers):
            while pending and pending[0] <= self.now:
                pending.pop(0)
            self._apply_changes()
            self._send()
            self._admit()
            self._step(min(pending[0] if pending else math.inf, seconds))

    @property
    def _answered(self) -> int:
        return sum(len(client.answers) for client in self.clients)

    def _apply_changes(self) -> None:
        while self.changes and self.changes[0][0] <= self.now:
            self.server = self.changes.pop(0)[1]
        while self.heavier and self.heavier[0][0] <= self.now:
            self._factor = self.heavier.pop(0)[1]

    def _send(self) -> None:
        for client in self.clients:
            if not client.starts_at <= self.now < client.ends_at:
                continue
            while client.in_flight < int(min(client.controller.limit, client.most)):
                client.in_flight += 1
                work = self._factor * self._draw_work()
                self._waiting.append(_Request(client, self.now, work, work))

    def _draw_work(self) -> float:
        """Return how much work the next request is: log-normal, 1 on average before the mixing."""
        size = 0.02 if self._draw.random() < self.short_share else 1.0
        return size * math.exp(self._draw.gauss(0.0, self.sigma) - self.sigma * self.sigma / 2)

    def _admit(self) -> None:
        # A cache lets nobody in who would be given up at once.
        room = 0.95 * self.server.cache
        while self._waiting and len(self._running) < self.server.slots:
            request = self._waiting[0]
            holds = self.server.prompt + request.work - request.left
            if self._held + holds > room and self._running:
                break
            self._waiting.popleft()
            self.now += self.server.stall
            self._held += holds
            request.began = self._progress
            self._serial += 1
            heapq.heappush(self._running, (self._progress + request.left, self._serial, request))

    def _step(self, until: float) -> None:
        """Go on to the next event, or to a time."""
        running = len(self._running)
        if not running:
            self.now = until
            return
        pace = self.server.pace(running)
        advance = self._running[0][0] - self._progress
        overflow = (self.server.cache - self._held) / running
        ends_at = self.now + min(advance, overflow) * pace
        if ends_at > until:
            self._advance((until - self.now) / pace, running)
            self.now = until
            return
        self.now = ends_at
        if overflow < advance and running > 1:
            self._advance(max(0.0, overflow), running)
            self._give_up_last()
            return
        self._advance(advance, running)
        self._answer(heapq.heappop(self._running)[2])

    def _advance(self, progress: float, running: int) -> None:
        self._progress += progress
        self._held += progress * running

    def _give_up_last(self) -> None:
        last = max(self._running, key=lambda entry: entry[1])
        self._running.remove(last)
        heapq.heapify(self._running)
        request = last[2]
        self._release(request)
        done = request.work - request.left
        request.left = min(request.work, request.left + self.server.again * done)
        self._waiting.appendleft(request)
        self.preemptions += 1

    def _release(self, request: _Request) -> None:
        """Free what a request holds, and note how far it has come."""
        held = self.server.prompt + request.work - request.left
        progress = self._progress - request.began
        self._held -= held + progress
        request.left -= progress

    def _answer(self, request: _Request) -> None:
        self._release(request)
        client = request.client
        controller = client.controller
        latency = self.now - request.sent_at
        client.answers.append((self.now, request.work, latency, controller.limit))
        controller.on_answer(
            self.now,
            latency,
            request.work if client.sees_work else 0.0,
            client.in_flight,
            client.most,
        )
        client.in_flight -= 1
