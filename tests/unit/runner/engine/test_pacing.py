"""How the engine meets servers that refuse: its own caller and gate, on virtual time."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from kubesynth_runner.engine.calls import Caller, RecordCall, StageBinding
from kubesynth_runner.engine.connection import ModelConnection
from kubesynth_runner.engine.gate import Gate
from kubesynth_runner.io.journal import Journal
from kubesynth_runner.io.local_storage import LocalStorage
from kubesynth_runner.llm.base import Capabilities, Completion, CompletionRequest, Message
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_testing import virtual_time
from kubesynth_testing.limited_server import (
    FixedWindow,
    Limit,
    LimitedServer,
    NoLimit,
    Slots,
    TokenBucket,
)

ROUND_TRIP_SECONDS = 0.001


def log_normal(mean_seconds: float, sigma: float, seed: int = 1) -> Callable[[], float]:
    draw = random.Random(seed)
    return lambda: mean_seconds * math.exp(draw.gauss(0.0, sigma) - sigma * sigma / 2)


@dataclasses.dataclass(frozen=True)
class Load:
    """So many requests, so many at once."""

    requests: int
    concurrency: int


class Pod:
    """One process's way to a server."""

    def __init__(self, server: LimitedServer, folder: Path, load: Load) -> None:
        self.journal = Journal(LocalStorage(folder), "run", 0, epoch=1)
        self.caller = Caller(self.journal)
        self.gate = Gate(load.concurrency)
        connection = ModelConnection("writer", "m", server, self.gate, True, 1, 3600.0)
        self.binding = StageBinding(0, "s", connection, {}, None)
        self.load = load

    async def run(self, name: str = "r") -> float:
        """Make all calls and return the time of the last answer."""
        numbers = iter(range(self.load.requests))

        async def work() -> None:
            for number in numbers:
                request = CompletionRequest((Message("user", f"{name}{number}"),))
                call = RecordCall(f"{name}{number}", number, 0)
                frame = await self.caller.call(self.binding, call, request)
                assert frame.attempts == 1

        await asyncio.gather(*(work() for _ in range(self.load.concurrency)))
        self.journal.close()
        assert self.gate.admission.in_flight == 0
        return asyncio.get_running_loop().time()


class RestartingServer(LimitedServer):
    """Says for a while that it is not able to: its model is loaded again."""

    def __init__(self, down_seconds: tuple[float, float]) -> None:
        super().__init__(NoLimit(), latency_seconds=lambda: 0.3)
        self._down_seconds = down_seconds

    async def complete(self, request: CompletionRequest) -> Completion:
        self._require_up()
        return await super().complete(request)

    async def probe(self) -> Capabilities:
        self._require_up()
        return Capabilities(json_schema=False)

    def _require_up(self) -> None:
        start, end = self._down_seconds
        if start <= asyncio.get_running_loop().time() < end:
            raise ClientError(ErrorKind.OVERLOADED, "the model is not ready")


def run(server: LimitedServer, folder: Path, load: Load) -> float:
    async def main() -> float:
        return await Pod(server, folder, load).run()

    seconds = virtual_time.run(main())
    let_in = [a.content for a in server.arrivals if a.retry_after_seconds is None]
    assert len(let_in) == len(set(let_in)) == load.requests
    return seconds


def test_all_requests_pass_a_token_bucket_in_little_more_than_it_takes(tmp_path: Path) -> None:
    server = LimitedServer(TokenBucket(100, burst=25), round_trip_seconds=ROUND_TRIP_SECONDS)
    seconds = run(server, tmp_path, Load(800, 128))
    assert seconds < 8.4  # ideal: (800 - 25) / 100 + 0.2
    assert len(server.refused) < 20


@pytest.mark.parametrize(
    ("limit", "load", "most_seconds", "most_refused"),
    [
        # The first number in each remark is the time that the limit allows at best.
        pytest.param(TokenBucket(100, 25, 0.0), Load(800, 128), 8.4, 20, id="no-retry-after"),  # 8
        pytest.param(TokenBucket(100, 25, None), Load(800, 128), 8.4, 20, id="exact-wait"),  # 8
        pytest.param(TokenBucket(100, 25), Load(3000, 128), 31.5, 40, id="for-longer"),  # 30
        pytest.param(TokenBucket(100, 100), Load(1500, 128), 15.0, 20, id="large-burst"),  # 14.2
        pytest.param(TokenBucket(500, 50), Load(3000, 256), 6.8, 30, id="fast-server"),  # 6.1
        pytest.param(TokenBucket(2, 10), Load(100, 32), 47.5, 25, id="slow-server"),  # 45.2
        pytest.param(FixedWindow(100, 1.0), Load(1000, 128), 11.5, 40, id="short-window"),  # 9.2
        pytest.param(FixedWindow(600, 60.0), Load(1400, 128), 125.0, 20, id="long-window"),  # 120.4
        pytest.param(Slots(20), Load(2000, 128), 21.5, 20, id="limited-slots"),  # 20
    ],
)
def test_pace_is_learned_from_refusals(
    limit: Limit, load: Load, most_seconds: float, most_refused: int, tmp_path: Path
) -> None:
    server = LimitedServer(limit, round_trip_seconds=ROUND_TRIP_SECONDS)
    assert run(server, tmp_path, load) < most_seconds
    assert len(server.refused) <= most_refused


@pytest.mark.parametrize("seed", range(5))
def test_limited_slots_are_kept_busy_though_answers_take_unequally_long(
    seed: int, tmp_path: Path
) -> None:
    server = LimitedServer(Slots(20), log_normal(0.5, 0.6, seed))
    assert run(server, tmp_path, Load(2000, 128)) < 1.1 * 2000 * 0.5 / 20
    assert len(server.refused) < 30


def test_long_latency_does_not_hide_the_rate(tmp_path: Path) -> None:
    server = LimitedServer(TokenBucket(100, 25), log_normal(10.0, 0.4))
    run(server, tmp_path, Load(3000, 2000))
    let_in = [a.time for a in server.arrivals if a.retry_after_seconds is None]
    assert let_in[-1] < 1.1 * 30


def test_many_late_refusals_are_one_event(tmp_path: Path) -> None:
    server = LimitedServer(TokenBucket(100, 25), round_trip_seconds=0.05)
    assert run(server, tmp_path, Load(800, 128)) < 8.8
    assert len(server.refused) < 80


def test_server_without_a_limit_is_used_to_the_full(tmp_path: Path) -> None:
    seconds = run(LimitedServer(NoLimit(), round_trip_seconds=0.0), tmp_path, Load(2000, 64))
    assert seconds < 1.04 * 2000 * 0.2 / 64


def test_pace_follows_a_server_that_changes_its_mind(tmp_path: Path) -> None:
    bucket = TokenBucket(100, burst=25)
    server = LimitedServer(bucket)

    async def main() -> float:
        loop = asyncio.get_running_loop()
        loop.call_at(5.0, setattr, bucket, "per_second", 40.0)
        loop.call_at(15.0, setattr, bucket, "per_second", 120.0)
        return await Pod(server, tmp_path, Load(3000, 128)).run()

    # 525 by 5 s, 400 more by 15 s, and the rest at 120 per second.
    assert virtual_time.run(main()) < 1.25 * (15 + (3000 - 925) / 120)
    assert len(server.refused) < 60


def test_nothing_is_sent_before_a_wait_of_several_seconds_is_over(tmp_path: Path) -> None:
    server = LimitedServer(TokenBucket(100, 25, 3.0))
    run(server, tmp_path, Load(800, 128))
    assert server.refused
    for refusal in server.refused:
        # What was under way when the refusal arrived could not be called back.
        began = refusal.time + ROUND_TRIP_SECONDS
        assert not [a for a in server.arrivals if began < a.time < refusal.time + 3.0]


def test_refused_request_waits_as_long_as_it_was_told(tmp_path: Path) -> None:
    server = LimitedServer(TokenBucket(100, 25, 1.0))
    run(server, tmp_path, Load(800, 128))
    assert server.refused
    for refusal in server.refused:
        again = [a for a in server.arrivals if a.content == refusal.content]
        following = again[again.index(refusal) + 1]
        assert following.time >= refusal.time + 1.0


def test_short_wait_is_probed_by_few_requests(tmp_path: Path) -> None:
    server = LimitedServer(TokenBucket(100, 25, 1.0))
    run(server, tmp_path, Load(800, 128))
    for refusal in server.refused:
        soon = [a for a in server.refused if refusal.time < a.time < refusal.time + 1.0]
        assert len(soon) <= 6


def test_pods_share_a_limit_that_neither_knows(tmp_path: Path) -> None:
    server = LimitedServer(TokenBucket(100, burst=25))

    async def main() -> list[float]:
        pods = [Pod(server, tmp_path / str(n), Load(1000, 64)) for n in range(2)]
        return await asyncio.gather(*(pod.run(f"{n}-") for n, pod in enumerate(pods)))

    ends = virtual_time.run(main())
    assert max(ends) < 1.25 * 19.95
    assert len(server.refused) < 150


def test_server_that_has_loaded_its_model_again_is_used_to_the_full_at_once(tmp_path: Path) -> None:
    server = RestartingServer(down_seconds=(2.0, 22.0))
    # 800 requests of 0.3 s on 8 slots are 30 s of work.
    seconds = run(server, tmp_path, Load(800, 8))
    assert seconds < 30.0 + 20.0 + 16.0  # and the longest pause between two questions
