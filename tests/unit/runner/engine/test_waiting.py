"""A model that does not answer is spoken of at once, and once."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_runner.engine.calls import Caller, RecordCall, StageBinding
from kubesynth_runner.engine.connection import ModelConnection
from kubesynth_runner.engine.gate import Gate
from kubesynth_runner.engine.waiting import WHY_CHARACTERS, Waiting
from kubesynth_runner.io.journal import Journal
from kubesynth_runner.io.local_storage import LocalStorage
from kubesynth_runner.llm.base import Completion, CompletionRequest, Message
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.fake import FakeChatClient
from kubesynth_runner.progress import Progress
from kubesynth_testing import virtual_time

REFUSED = "the connection failed: refused [http://llm:8000/v1/chat/completions]"


def _told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [getattr(record, "why", record.getMessage()) for record in caplog.records]


def test_the_same_failure_is_told_once_and_another_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    waiting = Waiting()
    for number in (17, 18, 19):
        text = f"starting, request {number}a4c0de-{number}"
        waiting.waits("judge", ClientError(ErrorKind.OVERLOADED, text, status_code=503))
    for _ in range(2):
        waiting.waits("judge", ClientError(ErrorKind.CONNECTION, "refused"))
    assert waiting.sentence == "waiting for judge: refused"
    waiting.waits("generator", ClientError(ErrorKind.CONNECTION, "no such host"))
    assert waiting.sentence.endswith("; waiting for generator: no such host")
    waiting.answers("judge")
    waiting.answers("judge")
    assert _told(caplog) == [
        "starting, request 17a4c0de-17",
        "refused",
        "no such host",
        "the model answers",
    ]


def test_a_long_answer_of_a_server_is_cut() -> None:
    waiting = Waiting()
    waiting.waits("judge", ClientError(ErrorKind.OVERLOADED, "long " * 500))
    assert len(waiting.sentence) == len("waiting for judge: ") + WHY_CHARACTERS


def test_what_is_waited_for_is_the_message_of_progress_while_it_is() -> None:
    progress = Progress(RunnerPhase.GENERATE, message="2 batches under way")
    progress.waiting.waits("judge", ClientError(ErrorKind.CONNECTION, "refused"))
    assert progress.report().message == "waiting for judge: refused"
    progress.waiting.answers("judge")
    assert progress.report().message == "2 batches under way"


class _Away(FakeChatClient):
    """Cannot be reached until `back_at`."""

    def __init__(self, back_at: float) -> None:
        super().__init__("So.")
        self._back_at = back_at

    async def complete(self, request: CompletionRequest) -> Completion:
        if asyncio.get_running_loop().time() < self._back_at:
            raise ClientError(ErrorKind.CONNECTION, REFUSED)
        return await super().complete(request)


@pytest.mark.parametrize("concurrency", [1, 8])
def test_an_outage_in_a_run_is_told_within_seconds_and_its_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, concurrency: int
) -> None:
    caplog.set_level(logging.INFO)

    async def main() -> str:
        journal = Journal(LocalStorage(tmp_path), "run", 0, 1)
        caller = Caller(journal)
        client, gate = _Away(100.0), Gate(concurrency)
        connection = ModelConnection("generator", "m", client, gate, True, 6, 3600.0)
        binding = StageBinding(0, "s", connection, {}, None)

        async def call(number: int) -> None:
            request = CompletionRequest((Message("user", str(number)),), {})
            await caller.call(binding, RecordCall(str(number), number, 0), request)

        calls = asyncio.gather(*(call(number) for number in range(20)))
        await asyncio.sleep(5.0)
        after_five_seconds = caller.waiting.sentence
        await calls
        assert not caller.waiting.sentence
        journal.close()
        return after_five_seconds

    assert virtual_time.run(main()) == f"waiting for generator: {REFUSED}"
    assert [text for text in _told(caplog) if text in (REFUSED, "the model answers")] == [
        REFUSED,
        "the model answers",
    ]
