"""Limits per minute, on virtual time: no second is allowed more than its share of the minute."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kubesynth_runner.engine.buckets import Buckets, Meter, TokenEstimator
from kubesynth_runner.engine.calls import Caller, RecordCall, StageBinding
from kubesynth_runner.engine.connection import ModelConnection
from kubesynth_runner.engine.gate import Gate
from kubesynth_runner.io.journal import Journal
from kubesynth_runner.io.local_storage import LocalStorage
from kubesynth_runner.llm.base import Completion, CompletionRequest, Message, TokenUsage
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.fake import FakeChatClient
from kubesynth_testing import virtual_time

REQUEST = CompletionRequest((Message("user", "x" * 400),), {"max_tokens": 50})


class CountingClient(FakeChatClient):
    """Answers after a while and remembers when it was asked and what it has charged."""

    def __init__(self, usage: TokenUsage, *, refuse_first: int = 0, seconds: float = 0.2) -> None:
        super().__init__("")
        self.usage = usage
        self.starts: list[float] = []
        self.ends: list[float] = []
        self.refuse = refuse_first
        self.seconds = seconds

    async def complete(self, request: CompletionRequest) -> Completion:
        now = asyncio.get_running_loop().time()
        self.starts.append(now)
        await asyncio.sleep(self.seconds)
        if self.refuse:
            self.refuse -= 1
            raise ClientError(ErrorKind.RATE_LIMITED, "slow down")
        self.ends.append(now + self.seconds)
        return Completion("yes" * 10, "stop", self.usage, "m")

    def most_in(self, seconds: float) -> int:
        """Return the greatest number of requests that began within so many seconds."""
        return max(
            sum(1 for other in self.starts if start <= other < start + seconds)
            for start in self.starts
        )


def ask(client: CountingClient, gate: Gate, calls: int, folder: Path) -> float:
    """Make calls all at once and return how long they took."""

    async def main() -> float:
        journal = Journal(LocalStorage(folder), "run", 0, 1)
        journal.load(bytearray(calls // 8 + 1))
        caller = Caller(journal)
        connection = ModelConnection("writer", "m", client, gate, True, 2, 3600.0)
        binding = StageBinding(0, "s", connection, {}, None)
        await asyncio.gather(
            *(caller.call(binding, RecordCall(f"r{i}", i, 0), REQUEST) for i in range(calls))
        )
        assert gate.admission.in_flight == 0
        journal.close()
        return asyncio.get_running_loop().time()

    return virtual_time.run(main())


def test_requests_are_spread_evenly_over_the_minute(tmp_path: Path) -> None:
    client = CountingClient(TokenUsage(100, 10))
    seconds = ask(client, Gate(64, Buckets(requests_per_minute=600)), 200, tmp_path)
    assert client.most_in(1.0) <= 11
    assert seconds == pytest.approx(20.0, rel=0.05)


def test_a_refused_request_counts_as_a_request(tmp_path: Path) -> None:
    client = CountingClient(TokenUsage(100, 10), refuse_first=20)
    seconds = ask(client, Gate(64, Buckets(requests_per_minute=600)), 100, tmp_path)
    assert len(client.starts) == 120
    assert seconds >= 11.0


def test_tokens_hold_by_the_servers_count_however_wrong_the_guess_was(tmp_path: Path) -> None:
    # Guessed at 100 + 50, charged with 600.
    client = CountingClient(TokenUsage(500, 100))
    seconds = ask(client, Gate(8, Buckets(tokens_per_minute=60_000)), 120, tmp_path)
    # 72,000 tokens at 1,000 a second; the first few were let in on the guess.
    assert 60.0 <= seconds <= 80.0


def test_tokens_that_were_reserved_and_not_used_are_given_back(tmp_path: Path) -> None:
    client = CountingClient(TokenUsage(10, 5))
    seconds = ask(client, Gate(8, Buckets(tokens_per_minute=60_000)), 400, tmp_path)
    assert seconds <= 400 * 0.2 / 8 + 3.0  # 6,000 tokens, 6 s; the slots take 10 s


def test_an_answer_without_usage_is_counted_by_its_length(tmp_path: Path) -> None:
    client = CountingClient(TokenUsage())
    seconds = ask(client, Gate(8, Buckets(tokens_per_minute=6_000)), 60, tmp_path)
    assert seconds >= 50.0  # 100 and some tokens each, 100 a second


def test_a_changed_rate_counts_from_now_on_and_keeps_what_is_owed() -> None:
    meter = Meter(60.0)
    meter.take(0.0, 10.0)
    assert meter.opens_at == pytest.approx(10.0, abs=0.1)
    meter.change(2.0, 240.0)
    assert meter.opens_at == pytest.approx(4.0, abs=0.1)
    meter.change(2.0, None)
    assert meter.opens_at < 0
    meter.change(3.0, 60.0)
    assert meter.opens_at == 3.0


def test_limits_of_a_gate_change_while_requests_wait(tmp_path: Path) -> None:
    async def main() -> list[float]:
        gate, entered = Gate(4, Buckets(requests_per_minute=6)), list[float]()

        async def enter() -> None:
            await gate.enter()
            entered.append(asyncio.get_running_loop().time())

        tasks = [asyncio.create_task(enter()) for _ in range(4)]
        await asyncio.sleep(1.0)
        gate.change_limits(2)
        await asyncio.sleep(1.0)
        assert len(entered) == 2
        gate.change_limits(4)
        await asyncio.gather(*tasks)
        return entered

    assert virtual_time.run(main()) == pytest.approx([0.0, 1.0, 2.0, 2.0], abs=0.1)


def test_estimates_follow_the_answers_and_never_exceed_what_was_asked_for() -> None:
    estimator = TokenEstimator()
    assert estimator.tokens(400, 50) == pytest.approx(150)
    for _ in range(200):
        estimator.learn(400, 200, 20)
    assert estimator.tokens(400, 50) == pytest.approx(220, rel=0.02)
    assert estimator.tokens(400, 5) == pytest.approx(205, rel=0.02)
