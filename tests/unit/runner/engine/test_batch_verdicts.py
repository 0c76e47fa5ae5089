"""What the end of a batch means: going on, ending the attempt, or ending the job."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kubesynth_runner import errors
from kubesynth_runner.engine.batch_verdicts import (
    FRUITLESS_BATCHES,
    Harvest,
    Intake,
    Verdict,
    judge,
)
from kubesynth_runner.engine.calls import CallFailed, Deferred, RecordCall
from kubesynth_runner.io.journal import CallFrame
from kubesynth_runner.llm.base import Capabilities
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.fake import FakeChatClient
from kubesynth_testing import virtual_time
from kubesynth_testing.batch_desk import DONE, Desk, FakeBatches, Outcome


class Unavailable(FakeChatClient):
    """Answers nobody, and says so when it is asked for next to nothing."""

    def __init__(self, failure: ClientError) -> None:
        super().__init__(failure)
        self._failure = failure

    async def probe(self) -> Capabilities:
        raise self._failure


async def rounds_until_the_end(desk: Desk, *texts: str) -> int:
    """Go on for as long as a run would; return the rounds."""
    for number in range(1, 50):
        try:
            outcomes = await desk.round(*texts)
        except errors.RetryLaterError:
            return number
        if not any(isinstance(outcome, Deferred) for outcome in outcomes):
            return number
    return 50


def kinds(outcomes: list[Outcome]) -> list[type[Outcome]]:
    return [type(outcome) for outcome in outcomes]


def test_batches_that_expire_are_not_sent_for_ever(tmp_path: Path) -> None:
    async def main() -> None:
        desk = Desk(tmp_path, FakeBatches(*["expired"] * FRUITLESS_BATCHES))
        for _ in range(FRUITLESS_BATCHES - 1):
            assert kinds(await desk.round("a")) == [Deferred]
        with pytest.raises(errors.RetryLaterError, match=r"3 batches in a row.*expired"):
            await desk.round("a")
        desk.close()

    virtual_time.run(main())


def test_answers_under_other_names_are_not_paid_for_again_and_again(tmp_path: Path) -> None:
    async def main() -> None:
        api = FakeBatches()
        api.renames = True
        desk = Desk(tmp_path, api)
        await desk.round("a", "b")
        await desk.round("a", "b")
        with pytest.raises(errors.RetryLaterError, match=r"3 batches.*completed.*custom_id 'mine-"):
            await desk.round("a", "b")
        assert api.created == 3
        desk.close()

    virtual_time.run(main())


def test_answers_that_the_server_gives_up_are_not_paid_for_again_and_again(tmp_path: Path) -> None:
    async def main() -> None:
        api = FakeBatches()
        desk = Desk(tmp_path, api)
        await desk.round("given up 1", "given up 2")
        await desk.round("given up 1", "given up 2")
        with pytest.raises(errors.RetryLaterError, match=r"3 batches.*finish_reason abort"):
            await desk.round("given up 1", "given up 2")
        assert api.created == 3
        desk.close()

    virtual_time.run(main())


def test_batches_beside_one_with_answers_are_no_outage(tmp_path: Path) -> None:
    async def main() -> None:
        desk = Desk(tmp_path, FakeBatches("completed", *["expired"] * 3), max_requests=1)
        assert kinds(await desk.round(*"abcd")) == [CallFrame, Deferred, Deferred, Deferred]
        await desk.settle()
        assert kinds(await desk.ask(*"abcd")) == [CallFrame] * 4
        desk.close()

    virtual_time.run(main())


def test_requests_that_are_refused_are_answers_too(tmp_path: Path) -> None:
    async def main() -> None:
        desk = Desk(tmp_path, FakeBatches(), max_requests=1)
        texts = [f"refused {number}" for number in range(FRUITLESS_BATCHES)]
        assert kinds(await desk.round(*texts)) == [CallFailed] * FRUITLESS_BATCHES
        desk.close()

    virtual_time.run(main())


@pytest.mark.parametrize(
    ("probe", "rounds"),
    [
        pytest.param(FakeChatClient("So."), 6, id="the record is at fault: out of attempts"),
        pytest.param(None, FRUITLESS_BATCHES, id="the server is"),
    ],
)
def test_errors_of_the_server_are_the_record_s_fault_if_it_answers_others(
    tmp_path: Path, probe: FakeChatClient | None, rounds: int
) -> None:
    outage = ClientError(ErrorKind.SERVER_ERROR, "an outage", status_code=500)

    async def main() -> None:
        client = probe or Unavailable(outage)
        desk = Desk(tmp_path, FakeBatches(), probe=client, max_attempts=6)
        assert await rounds_until_the_end(desk, "bad") == rounds
        desk.close()

    virtual_time.run(main())


def test_a_prompt_that_is_another_each_time_ends_the_run(tmp_path: Path) -> None:
    async def main() -> None:
        api = FakeBatches()
        desk = Desk(tmp_path, api)
        call = RecordCall("r", 7, 0)
        await desk.ask_one(call, "about cats")
        await desk.settle()
        with pytest.raises(errors.ConfigurationError, match=r"input record 7 .* another prompt"):
            await desk.ask_one(call, "about dogs")
        assert api.created == 1
        desk.close()

    virtual_time.run(main())


def test_what_an_earlier_attempt_asked_may_be_asked_in_other_words(tmp_path: Path) -> None:
    async def main() -> None:
        api = FakeBatches()
        first = Desk(tmp_path, api)
        call = RecordCall("r", 7, 0)
        await first.ask_one(call, "in the words of an older version")
        await first.caller.send_off()
        first.close()
        second = Desk(tmp_path, api, epoch=2)
        assert await second.caller.settle()
        second.journal.reopen(DONE)
        assert isinstance(await second.ask_one(call, "in new words"), Deferred)
        await second.settle()
        assert isinstance(await second.ask_one(call, "in new words"), CallFrame)
        second.close()

    virtual_time.run(main())


def test_batch_that_is_invalid_ends_the_run(tmp_path: Path) -> None:
    async def main() -> None:
        api = FakeBatches("failed: invalid_json_line", "completed")
        desk = Desk(tmp_path, api, max_requests=1)
        with pytest.raises(errors.ConfigurationError, match="invalid_json_line: because"):
            await desk.round("a", "b")
        desk.journal.reopen(DONE)
        # What has ended by then is taken in all the same.
        assert kinds(await desk.ask("a", "b")) == [Deferred, CallFrame]
        desk.close()

    virtual_time.run(main())


@pytest.mark.parametrize(
    "code", ["billing_hard_limit_reached", "insufficient_quota", "something_new"]
)
def test_batch_that_no_account_pays_for_ends_the_attempt_when_all_is_taken_in(
    tmp_path: Path, code: str
) -> None:
    async def main() -> None:
        api = FakeBatches(f"failed: {code}")
        desk = Desk(tmp_path, api, max_requests=2)
        await desk.ask(*"abcd")
        with pytest.raises(errors.RetryLaterError, match=f"batch b-1 of 2 requests.*{code}"):
            await desk.settle()
        assert desk.book.load() == {}
        desk.journal.reopen(DONE)
        assert kinds(await desk.ask(*"abcd")) == [Deferred, Deferred, CallFrame, CallFrame]
        desk.close()

    virtual_time.run(main())


def test_lines_that_no_account_pays_for_go_round_again_when_all_is_taken_in(tmp_path: Path) -> None:
    async def main() -> None:
        desk = Desk(tmp_path, FakeBatches(), max_requests=2)
        # Two batches with such lines, between good ones, and one without.
        texts = ("a", "unpaid 1", "unpaid 2", "b", "c")
        await desk.ask(*texts)
        await desk.caller.send_off()
        with pytest.raises(
            errors.RetryLaterError, match=r"1 of.*batch b-1 of 2 requests.*your quota"
        ):
            await desk.caller.settle()
        assert desk.book.load() == {}
        desk.close()
        again = Desk(tmp_path, FakeBatches(), epoch=2)
        outcomes = await again.ask(*texts)
        assert kinds(outcomes) == [CallFrame, Deferred, Deferred, CallFrame, CallFrame]
        again.close()

    virtual_time.run(main())


@pytest.mark.parametrize(
    "texts", [("a", "forbidden", "b"), ("forbidden",)], ids=["among others", "alone"]
)
def test_a_prompt_that_is_not_allowed_where_others_are_fails_alone(
    tmp_path: Path, texts: tuple[str, ...]
) -> None:
    async def main() -> None:
        desk = Desk(tmp_path, FakeBatches())
        outcomes = dict(zip(texts, await desk.round(*texts), strict=True))
        refused = outcomes.pop("forbidden")
        assert isinstance(refused, CallFailed)
        assert (refused.kind, refused.status_code) == (ErrorKind.REFUSAL, 403)
        assert kinds(list(outcomes.values())) == [CallFrame] * len(outcomes)
        desk.close()

    virtual_time.run(main())


NOT_THIS_KEY = ClientError(ErrorKind.AUTHENTICATION, "not this key", status_code=403)


@pytest.mark.parametrize(
    ("texts", "probe", "outcomes"),
    [
        pytest.param(
            ("a", "forbidden"), Unavailable(NOT_THIS_KEY), [CallFrame, Deferred], id="any more"
        ),
        pytest.param(("forbidden 1", "forbidden 2"), None, [Deferred] * 2, id="to have batches"),
    ],
)
def test_a_key_that_is_not_allowed_ends_the_attempt(
    tmp_path: Path, texts: tuple[str, ...], probe: FakeChatClient | None, outcomes: list[type]
) -> None:
    async def main() -> None:
        desk = Desk(tmp_path, FakeBatches(), probe=probe)
        await desk.ask(*texts)
        with pytest.raises(errors.RetryLaterError, match=r"of the batch b-1.*Not allowed"):
            await desk.settle()
        desk.journal.reopen(DONE)
        assert kinds(await desk.ask(*texts)) == outcomes
        desk.close()

    virtual_time.run(main())


def test_a_full_queue_is_waited_for_however_long_it_takes(tmp_path: Path) -> None:
    async def main() -> None:
        desk = Desk(tmp_path, FakeBatches(*["failed: token_limit_exceeded"] * 20))
        assert await rounds_until_the_end(desk, "a") == 21
        assert asyncio.get_running_loop().time() >= 20 * 60
        desk.close()

    virtual_time.run(main())


@pytest.mark.parametrize(
    ("status", "codes", "answered", "verdict"),
    [
        ("completed", [], 1, Verdict.FRUITFUL),
        ("expired", [], 1, Verdict.FRUITFUL),
        ("completed", [], 0, Verdict.FRUITLESS),
        ("expired", [], 0, Verdict.FRUITLESS),
        ("cancelled", [], 0, Verdict.FRUITLESS),
        ("failed", ["token_limit_exceeded"], 0, Verdict.QUEUE_FULL),
        ("failed", ["", "rate_limit_exceeded"], 0, Verdict.QUEUE_FULL),
        ("failed", ["model_not_found"], 0, Verdict.INVALID),
        ("failed", ["url_mismatch", "invalid_json_line"], 0, Verdict.INVALID),
        ("failed", ["billing_hard_limit_reached"], 0, Verdict.REFUSED),
        ("failed", ["server_error"], 0, Verdict.REFUSED),
        ("failed", [], 0, Verdict.REFUSED),
    ],
)
def test_verdict_by_what_was_brought_and_what_was_said(
    status: str, codes: list[str], answered: int, verdict: Verdict
) -> None:
    assert judge(status, codes, Intake(answered=answered)) is verdict


def test_harvest_counts_over_rounds_until_there_is_an_answer() -> None:
    harvest = Harvest()
    for verdict, is_enough in [
        (Verdict.FRUITLESS, False),
        (Verdict.FRUITLESS, False),
        (Verdict.FRUITFUL, False),
        (Verdict.FRUITLESS, False),
        (Verdict.FRUITLESS, False),
        (Verdict.FRUITLESS, True),
    ]:
        harvest.on_end(verdict, Intake(), "expired")
        assert harvest.end_round() is is_enough
