"""Answers that are of no use to their calls: counted like others, wherever something is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from kubesynth_api.v1alpha1.spending import Price
from kubesynth_runner import records
from kubesynth_runner.engine.buckets import Buckets
from kubesynth_runner.engine.calls import Caller, CallFailed, StageBinding
from kubesynth_runner.engine.connection import ModelConnection
from kubesynth_runner.engine.gate import Gate
from kubesynth_runner.engine.purse import Caps, Purse
from kubesynth_runner.engine.stage_calls import StageCalls
from kubesynth_runner.io.journal import Journal, Unfinished
from kubesynth_runner.io.local_storage import LocalStorage
from kubesynth_runner.llm.base import Completion, CompletionRequest, Message, TokenUsage
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.fake import FakeChatClient, FakeReply
from kubesynth_runner.tally import Tally
from kubesynth_testing import virtual_time

RECORD = records.Record("r", None, "r", (), {"text": "t"}, records.Source("u", 1))
QUESTION = (Message("user", "Why is the sky blue?"),)
PRICES = {"g": Price(prompt_per_million=10.0, completion_per_million=100.0)}
ANSWER = Completion("So.", "stop", TokenUsage(20, 5), "m")


def empty(finish_reason: str = "stop", usage: TokenUsage = TokenUsage(20, 100)) -> ClientError:  # noqa: B008
    answer = Completion("", finish_reason, usage, "m", reasoning="hm " * 100)
    return ClientError(
        ErrorKind.EMPTY_COMPLETION, f"empty ({finish_reason}); raise maxTokens", answer=answer
    )


class Script(FakeChatClient):
    """Gives one reply after the other."""

    def __init__(self, *replies: FakeReply) -> None:
        left = iter(replies)
        super().__init__(lambda _: next(left))


class Attempt:
    """What one attempt has paid for the one call of a record."""

    def __init__(self, folder: Path, client: FakeChatClient, epoch: int, gate: Gate) -> None:
        self.journal = Journal(LocalStorage(folder), "run", 0, epoch)
        self.journal.load(bytearray(1))
        self.found = dict(self.journal.unfinished)
        self.purse = Purse(Caps(), PRICES)
        for found in self.found.values():
            self.purse.charge("g", found.prompt_tokens, found.completion_tokens, found.calls)
        self.caller = Caller(self.journal, self.purse)
        connection = ModelConnection("g", "m", client, gate, True, 3, 600.0, has_price=True)
        self.calls = StageCalls(self.caller, StageBinding(0, "s", connection, {}, None), RECORD, 0)
        self.failure: CallFailed | None = None

    async def ask(self) -> None:
        try:
            await self.calls.complete(QUESTION)
        except CallFailed as failure:
            self.failure = failure
        self.journal.close()

    @property
    def tally(self) -> Tally:
        return self.calls.tally


def attempts(
    folder: Path, *scripts: Sequence[FakeReply], gate: Gate | None = None
) -> list[Attempt]:
    """Make attempts at the call one after the other, each with a server that says what it says."""

    async def main() -> list[Attempt]:
        made = []
        for epoch, replies in enumerate(scripts, start=1):
            made.append(Attempt(folder, Script(*replies), epoch, gate or Gate(1)))
            await made[-1].ask()
        return made

    return virtual_time.run(main())


def paid(tally: Tally) -> tuple[int, int, int]:
    return tally.prompt_tokens, tally.completion_tokens, tally.requests_ok


def test_every_answer_is_counted_and_again_by_a_replay(tmp_path: Path) -> None:
    live, replayed = attempts(tmp_path, [empty(), empty(), ANSWER], [])
    assert live.failure is replayed.failure is None
    for attempt in (live, replayed):
        assert paid(attempt.tally) == paid(attempt.purse.paid) == (60, 205, 1)
        assert attempt.tally.by_model == {"g": (60, 205)}
        assert attempt.purse.usd == pytest.approx((60 * 10 + 205 * 100) / 1e6)
    assert replayed.found == {0: Unfinished(60, 205, 1)}
    assert live.calls.provenance[0].completion_tokens == 5  # the row's own answer


def test_an_answer_cut_off_at_max_tokens_is_not_bought_again(tmp_path: Path) -> None:
    live, replayed = attempts(tmp_path, [empty("length")], [])
    for attempt in (live, replayed):
        assert attempt.failure is not None
        assert (attempt.failure.kind, attempt.failure.attempts) == ("EmptyCompletion", 1)
        assert "raise maxTokens" in str(attempt.failure)
        assert paid(attempt.tally) == paid(attempt.purse.paid) == (20, 100, 0)
    assert live.caller.process_tally.requests_retried == 0


def test_attempts_that_run_out_have_all_been_paid_for(tmp_path: Path) -> None:
    live, replayed = attempts(tmp_path, [empty(), empty(), empty()], [])
    for attempt in (live, replayed):
        assert attempt.failure is not None
        assert paid(attempt.tally) == paid(attempt.purse.paid) == (60, 300, 0)


def test_what_an_attempt_lost_before_it_died_is_counted_by_the_next(tmp_path: Path) -> None:
    class Dying(Exception):
        pass

    def replies(_: CompletionRequest) -> FakeReply:
        if not lost:
            lost.append(1)
            return empty()
        raise Dying

    lost: list[int] = []

    async def main() -> Attempt:
        first = Attempt(tmp_path, FakeChatClient(replies), 1, Gate(1))
        with pytest.raises(Dying):
            await first.ask()
        second = Attempt(tmp_path, Script(ANSWER), 2, Gate(1))
        await second.ask()
        return second

    second = virtual_time.run(main())
    assert paid(second.tally) == paid(second.purse.paid) == (40, 105, 1)


def test_lost_tokens_are_taken_from_the_minute(tmp_path: Path) -> None:
    async def main() -> float:
        gate = Gate(1, Buckets(tokens_per_minute=6000))
        usage = TokenUsage(3000, 3000)
        first = Attempt(tmp_path / "a", Script(empty("length", usage)), 1, gate)
        await first.ask()
        began = asyncio.get_running_loop().time()
        await Attempt(tmp_path / "b", Script(ANSWER), 1, gate).ask()
        return asyncio.get_running_loop().time() - began

    assert virtual_time.run(main()) == pytest.approx(60, rel=0.1)


def test_lost_answer_without_a_count_is_estimated_where_tokens_are_limited(tmp_path: Path) -> None:
    gate = Gate(1, Buckets(tokens_per_minute=10**6))
    live, replayed = attempts(tmp_path, [empty("length", TokenUsage())], [], gate=gate)
    assert live.tally.prompt_tokens > 0
    assert live.tally.completion_tokens > 50  # the length of its reasoning
    assert live.tally.estimated_tokens == live.purse.tokens
    assert replayed.found[0].tokens_estimated == live.purse.tokens


def test_committed_records_leave_no_lost_answers(tmp_path: Path) -> None:
    (live,) = attempts(tmp_path, [empty(), ANSWER])
    del live
    journal = Journal(LocalStorage(tmp_path), "run", 0, 2)
    journal.load(bytearray([1]))
    assert journal.unfinished == {}
    assert LocalStorage(tmp_path).list_files("") == []
