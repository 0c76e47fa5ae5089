"""Following what servers say of their limits: the engine's own caller and gate, virtual time."""

from __future__ import annotations

import asyncio
import math
import random
from pathlib import Path

import pytest

from kubesynth_runner.engine.calls import Caller, RecordCall, StageBinding
from kubesynth_runner.engine.connection import ModelConnection
from kubesynth_runner.engine.gate import Gate
from kubesynth_runner.engine.gradient import LatencyGradient
from kubesynth_runner.engine.quota import LONGEST_WAIT_SECONDS, Quota
from kubesynth_runner.io.journal import Journal
from kubesynth_runner.io.local_storage import LocalStorage
from kubesynth_runner.llm.base import ChatClient, CompletionRequest, Message
from kubesynth_runner.llm.rate_limits import Allowance, RateLimits
from kubesynth_testing import virtual_time
from kubesynth_testing.announcing_server import AnnouncingServer, Bucket, QueueingServer, Window


async def load(client: ChatClient, gate: Gate, folder: Path, requests: int) -> float:
    """Make so many calls, as many at once as the gate lets, and return when the last has ended."""
    journal = Journal(LocalStorage(folder), "run", 0, epoch=1)
    caller = Caller(journal)
    connection = ModelConnection("writer", "m", client, gate, True, 1, 3600.0)
    binding = StageBinding(0, "s", connection, {}, None)
    numbers = iter(range(requests))

    async def work() -> None:
        for number in numbers:
            request = CompletionRequest((Message("user", f"{number}"),))
            await caller.call(binding, RecordCall(f"{folder}{number}", number, 0), request)

    await asyncio.gather(*(work() for _ in range(gate.admission.concurrency)))
    journal.close()
    return asyncio.get_running_loop().time()


def run(server: AnnouncingServer, folder: Path, requests: int, *, pods: int = 1) -> float:
    async def main() -> float:
        gates = [Gate(32) for _ in range(pods)]
        for gate in gates:
            server.on_rate_limits.append(gate.on_rate_limits)
        # As a run does: the first answer comes before any record is sent.
        await server.complete(CompletionRequest((Message("user", "probe"),)))
        ends = [
            load(server, gate, folder / str(number), requests // pods)
            for number, gate in enumerate(gates)
        ]
        return max(await asyncio.gather(*ends))

    return virtual_time.run(main())


@pytest.mark.parametrize(
    "server",
    [
        pytest.param(AnnouncingServer(Bucket(600)), id="bucket"),
        pytest.param(AnnouncingServer(Window(600)), id="window"),
        pytest.param(AnnouncingServer(None, Bucket(60_000)), id="bucket-of-tokens"),
        pytest.param(AnnouncingServer(Bucket(6000), Window(60_000)), id="tokens-are-scarcer"),
        pytest.param(AnnouncingServer(Bucket(600), latency_seconds=2.0), id="slow"),
    ],
)
def test_limit_that_is_announced_is_never_hit_and_nearly_used(
    server: AnnouncingServer, tmp_path: Path
) -> None:
    seconds = run(server, tmp_path, 2400)
    assert len(server.let_in) == 2401
    assert len(server.refused) <= 3
    # 10 per second are allowed, and what a bucket holds at first.
    assert seconds < 2400 / 10 * 1.06 + 1


def test_window_that_is_hardly_longer_than_an_answer_is_used_with_caution(tmp_path: Path) -> None:
    server = AnnouncingServer(Window(10, seconds=1.0))
    seconds = run(server, tmp_path, 1200)
    assert len(server.refused) <= 30  # the news are half a window old when they arrive
    assert seconds < 1200 / 10 * 1.5


def test_limit_without_a_reset_is_one_of_a_minute(tmp_path: Path) -> None:
    server = AnnouncingServer(Window(600, says_reset=False))
    seconds = run(server, tmp_path, 1200)
    assert len(server.refused) <= 12
    assert seconds < 200


def test_clients_that_share_a_key_share_the_limit(tmp_path: Path) -> None:
    server = AnnouncingServer(Bucket(600))
    seconds = run(server, tmp_path, 1800, pods=3)
    assert len(server.refused) <= 18  # a hundredth
    assert seconds < 190


def _of(remaining: float, limit: float | None, reset_seconds: float | None) -> RateLimits:
    return RateLimits(requests=Allowance(remaining, limit, reset_seconds))


@pytest.mark.parametrize(
    ("limits", "in_flight", "per_second"),
    [
        pytest.param(_of(100, 100, 0.0), 0, math.inf, id="whole"),
        pytest.param(_of(30, 100, 20.0), 0, 1.5, id="spread-over-the-rest"),
        pytest.param(_of(30, 100, 20.0), 10, 1.0, id="requests-under-way-are-taken-off"),
        pytest.param(_of(0, 100, 20.0), 0, 1 / 20, id="empty-window"),
        pytest.param(_of(0, 120, 60.0), 5, 0.2, id="a-tenth-of-the-rate-of-an-empty-bucket"),
        pytest.param(_of(0, None, 6000.0), 0, 1 / LONGEST_WAIT_SECONDS, id="asked-after-a-while"),
        pytest.param(_of(9e9, None, None), 0, math.inf, id="hardly-a-limit"),
        pytest.param(RateLimits(), 0, math.inf, id="nothing-said"),
    ],
)
def test_pace_is_what_is_left_over_the_time_to_the_reset(
    limits: RateLimits, in_flight: int, per_second: float
) -> None:
    quota = Quota()
    quota.update(1.0, limits, in_flight)
    assert quota.per_second == pytest.approx(per_second)
    quota.start(2.0)
    wait = 0.0 if per_second == math.inf else 1 / per_second
    assert quota.next_start <= 2.0 + wait + 1e-9


def test_better_news_shorten_a_wait() -> None:
    quota = Quota()
    quota.update(1.0, _of(1, None, 50.0), 0)
    quota.start(1.0)
    assert quota.next_start > 40
    quota.update(2.0, _of(100, 100, 10.0), 0)
    assert quota.next_start <= 2.0


@pytest.mark.parametrize("slots", [8, 64])
@pytest.mark.parametrize("sigma", [0.0, 0.6])
def test_gradient_finds_how_many_requests_a_queueing_server_takes(
    tmp_path: Path, slots: int, sigma: float
) -> None:
    def latency(draw: random.Random) -> float:
        return math.exp(draw.gauss(0.0, sigma) - sigma * sigma / 2)

    async def main() -> tuple[float, float, QueueingServer]:
        server = QueueingServer(slots, latency)
        gate = Gate(512)
        gate.admission.gradient = LatencyGradient()
        seconds = await load(server, gate, tmp_path, slots * 60)
        return seconds, gate.admission.gradient.limit, server

    seconds, limit, server = virtual_time.run(main())
    assert slots / 1.5 <= limit <= 2 * slots
    assert seconds < 1.25 * 60  # the search, and the longest answers at the end, included
    late = server.waited_seconds[len(server.waited_seconds) // 2 :]
    assert sum(late) / len(late) < 1.0
