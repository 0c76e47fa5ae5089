from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kubesynth_runner import errors
from kubesynth_runner.engine import retry
from kubesynth_runner.engine.calls import CallFailed
from kubesynth_runner.engine.gradient import LatencyGradient
from kubesynth_runner.io.journal import CallFrame, Journal
from kubesynth_runner.io.local_storage import LocalStorage
from kubesynth_runner.llm.base import Capabilities, Completion, CompletionRequest, Message
from kubesynth_runner.llm.errors import ErrorKind
from kubesynth_runner.llm.fake import FakeChatClient, FakeReply
from kubesynth_testing import virtual_time
from kubesynth_testing.call_desk import (
    OUTAGE_LIMIT_SECONDS,
    REQUEST,
    Desk,
    ScriptedClient,
    failure,
    run,
)


def test_answer_is_journalled_before_it_is_used(tmp_path: Path) -> None:
    def check(desk: Desk, result: CallFrame | CallFailed, _: float) -> None:
        assert isinstance(result, CallFrame)
        assert (result.text, result.attempts, result.failure) == ("So.", 1, None)
        later = Journal(LocalStorage(tmp_path), "run", 0, epoch=2)  # nothing was closed yet
        later.load(bytearray(1))
        assert later.find(result.key, result.request_hash) == result

    run(["So."], tmp_path, check)


def test_finished_call_is_never_sent_again(tmp_path: Path) -> None:
    async def main() -> None:
        first = Desk(ScriptedClient(["So."]), tmp_path)
        answer = await first.call()
        first.journal.close()
        second = Desk(ScriptedClient(["Another."]), tmp_path, epoch=2)
        assert await second.call() == answer
        assert second.client.requests == []
        other = CompletionRequest(REQUEST.messages, {"temperature": 0.6})
        assert (await second.call(request=other)).text == "Another."
        second.journal.close()

    virtual_time.run(main())


def test_finished_failure_is_never_sent_again(tmp_path: Path) -> None:
    async def main() -> None:
        replies: list[FakeReply] = [failure(ErrorKind.BAD_REQUEST), "So."]
        for epoch, reply in enumerate(replies, start=1):
            desk = Desk(ScriptedClient([reply]), tmp_path, epoch=epoch)
            with pytest.raises(CallFailed) as caught:
                await desk.call()
            assert caught.value.kind == "BadRequest"
            assert len(desk.client.requests) == 2 - epoch
            desk.journal.close()

    virtual_time.run(main())


@pytest.mark.parametrize(
    "kind",
    [
        ErrorKind.SERVER_ERROR,
        ErrorKind.TIMEOUT,
        ErrorKind.MALFORMED_RESPONSE,
        ErrorKind.EMPTY_COMPLETION,
    ],
)
def test_failure_that_may_pass_is_tried_again_with_pauses(tmp_path: Path, kind: ErrorKind) -> None:
    def check(desk: Desk, result: CallFrame | CallFailed, seconds: float) -> None:
        assert isinstance(result, CallFrame)
        assert (result.text, result.attempts) == ("So.", 3)
        assert desk.caller.process_tally.requests_retried == 2
        assert 0.75 <= seconds <= 1.5

    run([failure(kind), failure(kind), "So."], tmp_path, check)


def test_attempts_run_out(tmp_path: Path) -> None:
    def check(desk: Desk, result: CallFrame | CallFailed, _: float) -> None:
        assert isinstance(result, CallFailed)
        assert (result.kind, result.attempts) == ("ServerError", 3)
        assert len(desk.client.requests) == 3

    run([failure(ErrorKind.SERVER_ERROR)], tmp_path, check)


@pytest.mark.parametrize("kind", [ErrorKind.BAD_REQUEST, ErrorKind.CONTEXT_OVERFLOW])
def test_failure_that_cannot_pass_is_not_tried_again(tmp_path: Path, kind: ErrorKind) -> None:
    def check(desk: Desk, result: CallFrame | CallFailed, seconds: float) -> None:
        assert isinstance(result, CallFailed)
        assert (result.kind, result.attempts, seconds) == (kind, 1, 0.0)

    run([failure(kind), "So."], tmp_path, check)


def test_429_does_not_spend_an_attempt(tmp_path: Path) -> None:
    def check(desk: Desk, result: CallFrame | CallFailed, seconds: float) -> None:
        assert isinstance(result, CallFrame)
        assert result.attempts == 1
        assert desk.caller.process_tally.requests_rate_limited == 50
        assert seconds == pytest.approx(50.0)

    refused = failure(ErrorKind.RATE_LIMITED, retry_after_seconds=1.0)
    run([refused] * 50 + ["So."], tmp_path, check, max_attempts=1)


def test_overload_does_not_spend_an_attempt_while_nobody_is_answered(tmp_path: Path) -> None:
    def check(desk: Desk, result: CallFrame | CallFailed, _: float) -> None:
        assert isinstance(result, CallFrame)
        assert result.attempts == 1

    overloaded = failure(ErrorKind.OVERLOADED, retry_after_seconds=1.0)
    run([overloaded] * 100 + ["So."], tmp_path, check, max_attempts=1, is_alive=False)


def test_outage_does_not_spend_an_attempt(tmp_path: Path) -> None:
    def check(desk: Desk, result: CallFrame | CallFailed, seconds: float) -> None:
        assert isinstance(result, CallFrame)
        assert result.attempts == 1
        assert 60 < seconds < OUTAGE_LIMIT_SECONDS

    unreachable = failure(ErrorKind.CONNECTION)
    run([unreachable] * 20 + ["So."], tmp_path, check, is_alive=False)


@pytest.mark.parametrize("closings", [1, 3])
def test_closed_connection_does_not_spend_an_attempt(tmp_path: Path, closings: int) -> None:
    def check(desk: Desk, result: CallFrame | CallFailed, seconds: float) -> None:
        assert isinstance(result, CallFrame)
        assert (result.text, result.attempts) == ("So.", 1)
        assert desk.caller.process_tally.requests_retried == min(closings, 2)
        assert seconds >= 0.25, "the server had no time to go"

    run([failure(ErrorKind.CONNECTION)] * closings + ["So."], tmp_path, check, max_attempts=1)


def test_record_that_breaks_a_server_each_time_it_is_back_runs_out_of_attempts(
    tmp_path: Path,
) -> None:
    """The server never answers right after it broke, so asking it then tells nothing."""

    class Fragile(FakeChatClient):
        def __init__(self) -> None:
            super().__init__(lambda asked: "So." if asked is REQUEST else broken)

        async def probe(self) -> Capabilities:
            raise broken

    broken = failure(ErrorKind.CONNECTION)

    async def main() -> None:
        desk = Desk(Fragile(), tmp_path)
        poison = CompletionRequest((Message("user", "Die."),), {})
        culprit = asyncio.create_task(desk.call("poison", poison))
        for number in range(100):
            if culprit.done():
                break
            await desk.call(f"other {number}")
            await asyncio.sleep(1)
        with pytest.raises(CallFailed) as caught:
            await culprit
        assert (caught.value.kind, caught.value.attempts) == (ErrorKind.CONNECTION, 3)
        desk.journal.close()

    virtual_time.run(main())


@pytest.mark.parametrize("kind", [ErrorKind.CONNECTION, ErrorKind.OVERLOADED])
def test_record_that_alone_breaks_the_server_runs_out_of_attempts(
    tmp_path: Path, kind: ErrorKind
) -> None:
    def check(desk: Desk, result: CallFrame | CallFailed, _: float) -> None:
        assert isinstance(result, CallFailed)
        assert (result.kind, result.attempts) == (kind, 3)
        assert len(desk.client.requests) <= 3 * retry.REFUSALS_PER_ATTEMPT
        assert isinstance(desk.client, ScriptedClient)
        assert 1 <= desk.client.probes <= 3

    run([failure(kind)], tmp_path, check)


@pytest.mark.parametrize("kind", [ErrorKind.CONNECTION, ErrorKind.OVERLOADED])
def test_server_that_answers_nobody_for_too_long_ends_the_process(
    tmp_path: Path, kind: ErrorKind
) -> None:
    async def main() -> None:
        desk = Desk(ScriptedClient([failure(kind)], is_alive=False), tmp_path)
        with pytest.raises(errors.RetryLaterError, match="'generator' has not answered for"):
            await desk.call()
        assert asyncio.get_running_loop().time() > OUTAGE_LIMIT_SECONDS
        assert desk.gate.admission.in_flight == 0

    virtual_time.run(main())


@pytest.mark.parametrize("kind", [ErrorKind.AUTHENTICATION, ErrorKind.SCHEMA_REFUSED])
def test_failure_that_only_a_person_can_mend_ends_the_process_and_journals_nothing(
    tmp_path: Path, kind: ErrorKind
) -> None:
    async def main() -> None:
        desk = Desk(ScriptedClient([failure(kind)]), tmp_path)
        with pytest.raises(errors.RetryLaterError, match=str(kind)):
            await desk.call()
        assert not list(tmp_path.rglob("*.log"))

    virtual_time.run(main())


def test_stop_ends_a_pause_between_attempts(tmp_path: Path) -> None:
    async def main() -> None:
        desk = Desk(ScriptedClient([failure(ErrorKind.SERVER_ERROR)]), tmp_path, max_attempts=50)
        task = asyncio.create_task(desk.call())
        await asyncio.sleep(20)
        desk.caller.stopped.set()
        with pytest.raises(errors.StoppedError):
            await task
        assert asyncio.get_running_loop().time() == pytest.approx(20)
        assert desk.gate.admission.in_flight == 0

    virtual_time.run(main())


def test_cancelled_call_gives_its_slot_back_and_journals_nothing(tmp_path: Path) -> None:
    class Hanging(FakeChatClient):
        async def complete(self, request: CompletionRequest) -> Completion:
            await asyncio.Event().wait()
            return await super().complete(request)

    async def main() -> None:
        desk = Desk(Hanging(""), tmp_path)
        tasks = [asyncio.create_task(desk.call(str(number))) for number in range(6)]
        await asyncio.sleep(1)
        assert desk.gate.admission.in_flight == 4
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert desk.gate.admission.in_flight == 0
        assert not list(tmp_path.rglob("*.log"))

    virtual_time.run(main())


def test_latency_is_told_of_answers_and_of_requests_that_time_out(tmp_path: Path) -> None:
    told = list[tuple[float | None, int, int]]()

    class Recording(LatencyGradient):
        def on_answer(
            self, now: float, latency_seconds: float, work: float | None, in_flight: int, most: int
        ) -> bool:
            told.append((work, in_flight, most))
            return super().on_answer(now, latency_seconds, work, in_flight, most)

    async def main() -> None:
        timeout, error = failure(ErrorKind.TIMEOUT), failure(ErrorKind.SERVER_ERROR)
        desk = Desk(ScriptedClient([timeout, error, "So it is."]), tmp_path)
        desk.gate.admission.gradient = Recording()
        frame = await desk.call()
        desk.journal.close()
        assert told == [(None, 1, 4), (frame.completion_tokens, 1, 4)]
        assert frame.completion_tokens > 0

    virtual_time.run(main())
