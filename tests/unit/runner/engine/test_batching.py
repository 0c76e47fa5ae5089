"""Collecting calls and taking answers in, on virtual time, with a batch API in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from kubesynth_runner import errors
from kubesynth_runner.engine import batching
from kubesynth_runner.engine.batching import (
    FRUITLESS_BATCHES,
    FULL_QUEUE_PAUSE_SECONDS,
    BatchCaller,
    BatchSettings,
)
from kubesynth_runner.engine.calls import CallFailed, Deferred, RecordCall, StageBinding
from kubesynth_runner.engine.connection import ModelConnection
from kubesynth_runner.engine.gate import Gate
from kubesynth_runner.io.batch_book import BatchBook
from kubesynth_runner.io.journal import CallFrame, Journal
from kubesynth_runner.io.local_storage import LocalStorage
from kubesynth_runner.llm.base import CompletionRequest, Message, TokenUsage
from kubesynth_runner.llm.batches import BatchState
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.fake import FakeChatClient
from kubesynth_testing import virtual_time

DONE = bytearray(100)


class FakeBatches:
    """A `BatchApi` whose batches have ended at once, as `statuses` says, one after the other."""

    def __init__(self, *statuses: str, code: str = "") -> None:
        self.statuses = list(statuses)
        self.code = code
        self.inputs: dict[str, list[dict[str, Any]]] = {}
        self.batches: dict[str, BatchState] = {}
        self.tokens: dict[str, str] = {}
        self.trouble: list[ClientError] = []
        self.created = 0

    async def upload(self, path: Path, name: str) -> str:
        file_id = f"in-{len(self.inputs)}"
        self.inputs[file_id] = [json.loads(line) for line in path.read_bytes().splitlines()]
        return file_id

    async def create(self, file_id: str, token: str) -> BatchState:
        self.created += 1
        status = self.statuses.pop(0) if self.statuses else "completed"
        count = len(self.inputs[file_id])
        is_good = status == "completed"
        state = BatchState(
            f"b-{self.created}",
            status,
            count,
            count if is_good else 0,
            0,
            file_id if is_good else None,
            errors=((self.code, "because"),) if self.code else (),
        )
        self.batches[state.batch_id], self.tokens[token] = state, state.batch_id
        if self.trouble:
            raise self.trouble.pop()
        return state

    async def find(self, token: str) -> BatchState | None:
        return self.batches[self.tokens[token]] if token in self.tokens else None

    async def look(self, batch_id: str) -> BatchState:
        if batch_id not in self.batches:
            raise ClientError(ErrorKind.MODEL_NOT_FOUND, "no such batch", status_code=404)
        return self.batches[batch_id]

    async def read_lines(self, file_id: str) -> AsyncIterator[bytes]:
        for line in reversed(self.inputs[file_id]):
            content = line["body"]["messages"][0]["content"]
            message: dict[str, Any] = {
                "message": {"content": f"About {content}"},
                "finish_reason": "stop",
            }
            response: dict[str, Any] = {"status_code": 200, "body": {"choices": [message]}}
            if content.startswith("bad"):
                response = {"status_code": 500, "body": {}}
            if content.startswith("unpaid"):
                error = {"code": "insufficient_quota", "message": "You exceeded your quota."}
                response = {"status_code": 429, "body": {"error": error}}
            if content.startswith(("mute", "cut")):
                message |= {"message": {"content": ""}}
                if content.startswith("cut"):
                    message["finish_reason"] = "length"
                response["body"]["usage"] = {"prompt_tokens": 7, "completion_tokens": 30}
            answer = {"custom_id": line["custom_id"], "response": response, "error": None}
            yield json.dumps(answer).encode()

    async def delete_file(self, file_id: str) -> None:
        del self.inputs[file_id]

    async def close(self) -> None:
        pass


class Desk:
    """A caller with one model, over a journal in a folder."""

    def __init__(self, folder: Path, api: FakeBatches, *, epoch: int = 1, **limits: int) -> None:
        storage = LocalStorage(folder)
        self.journal = Journal(storage, "run", 0, epoch)
        self.journal.load(DONE)
        connection = ModelConnection(
            "g", "m", FakeChatClient("So."), Gate(4), True, 3, 600.0, batches=api
        )
        self.book = BatchBook(storage, "run", 0, epoch)
        settings = BatchSettings(lambda: None, **limits)  # type: ignore[arg-type]
        self.caller = BatchCaller(self.journal, self.book, {"g": connection}, settings)
        self.binding = StageBinding(0, "s", connection, {}, None)

    async def ask(self, *texts: str) -> list[CallFrame | CallFailed | Deferred]:
        outcomes: list[CallFrame | CallFailed | Deferred] = []
        for number, text in enumerate(texts):
            request = CompletionRequest((Message("user", text),))
            try:
                call = RecordCall(text, number, 0)
                outcomes.append(await self.caller.call(self.binding, call, request))
            except (CallFailed, Deferred) as outcome:
                outcomes.append(outcome)
        return outcomes

    async def ask_once(self, text: str, on_lost: Callable[[TokenUsage], None]) -> CallFrame:
        request = CompletionRequest((Message("user", text),))
        return await self.caller.call(self.binding, RecordCall(text, 0, 0), request, on_lost)

    def close(self) -> None:
        self.caller.drop()
        self.journal.close()

    async def round(self, *texts: str) -> list[CallFrame | CallFailed | Deferred]:
        """Collect, send off, take in; return what the calls are then."""
        await self.ask(*texts)
        await self.caller.send_off()
        await self.caller.settle()
        self.journal.reopen(DONE)
        return await self.ask(*texts)


def test_answers_are_found_in_the_journal_in_whatever_order_they_came(tmp_path: Path) -> None:
    async def main() -> None:
        desk = Desk(tmp_path, FakeBatches(), max_requests=3)
        frames = await desk.round(*"abcdefgh")
        assert [frame.text for frame in frames if isinstance(frame, CallFrame)] == [
            f"About {text}" for text in "abcdefgh"
        ]
        assert desk.caller.has_open is False
        assert desk.book.load() == {}
        desk.close()

    virtual_time.run(main())


@pytest.mark.parametrize(("limits", "sizes"), [({"max_requests": 3}, [3, 3, 2])])
def test_batches_keep_to_the_limits(
    tmp_path: Path, limits: dict[str, int], sizes: list[int]
) -> None:
    async def main() -> None:
        api = FakeBatches()
        desk = Desk(tmp_path, api, **limits)
        await desk.ask(*"abcdefgh")
        await desk.caller.send_off()
        assert [len(lines) for lines in api.inputs.values()] == sizes
        large = Desk(tmp_path, api, epoch=2, max_bytes=600)
        await large.ask(*"ijklmn")
        await large.caller.send_off()
        sent = [json.dumps(lines) for lines in api.inputs.values()][len(sizes) :]
        assert len(sent) > 1
        assert all(len(lines) < 700 for lines in sent)
        desk.close()
        large.close()

    virtual_time.run(main())


def test_failures_go_round_again_until_attempts_run_out(tmp_path: Path) -> None:
    async def main() -> None:
        desk = Desk(tmp_path, FakeBatches())
        for _ in range(2):
            good, bad = await desk.round("good", "bad")
            assert isinstance(good, CallFrame)
            assert isinstance(bad, Deferred)
        good, bad = await desk.round("good", "bad")
        assert isinstance(bad, CallFailed)
        assert (bad.attempts, bad.status_code) == (3, 500)
        desk.close()

    virtual_time.run(main())


def test_empty_answers_are_counted_once_each_however_often_they_are_read(tmp_path: Path) -> None:
    async def main() -> None:
        api = FakeBatches()
        desk = Desk(tmp_path, api)
        await desk.ask("mute", "cut")
        for _ in range(3):
            await desk.caller.send_off()
            batch = api.batches[f"b-{api.created}"]
            await desk.caller._take_in(desk.binding.connection, batch)  # breaks off at its end
            await desk.caller.settle()
            desk.journal.reopen(DONE)
            mute, cut = await desk.ask("mute", "cut")
            assert isinstance(cut, CallFailed)  # more of the same would be cut off, too
            assert cut.attempts == 1
        assert isinstance(mute, CallFailed)
        assert mute.attempts == 3
        lost: list[TokenUsage] = []
        with pytest.raises(CallFailed):
            await desk.ask_once("mute", lost.append)
        assert lost == [TokenUsage(7, 30)] * 3
        assert desk.journal.unfinished == {0: (4 * 7, 4 * 30, 0)}
        desk.close()

    virtual_time.run(main())


def test_batch_is_created_once_when_its_answer_is_lost(tmp_path: Path) -> None:
    async def main() -> None:
        api = FakeBatches()
        api.trouble = [ClientError(ErrorKind.CONNECTION, "cut off")]
        desk = Desk(tmp_path, api)
        (frame,) = await desk.round("a")
        assert isinstance(frame, CallFrame)
        assert api.created == 1
        desk.close()

    virtual_time.run(main())


@pytest.mark.parametrize("created", [True, False])
def test_next_attempt_takes_a_batch_up_whose_id_was_never_written_down(
    tmp_path: Path, created: bool
) -> None:
    async def main() -> None:
        api = FakeBatches()
        first = Desk(tmp_path, api)
        api.trouble = [ClientError(ErrorKind.AUTHENTICATION, "and then it died")]
        await first.ask("a")
        with pytest.raises(errors.RetryLaterError):
            await first.caller.send_off()
        if not created:
            api.tokens.clear()
        second = Desk(tmp_path, api, epoch=2)
        assert await second.caller.settle()
        second.journal.reopen(DONE)
        (outcome,) = await second.ask("a")
        assert isinstance(outcome, CallFrame if created else Deferred)
        assert second.book.load() == {}
        first.close()
        second.close()

    virtual_time.run(main())


def test_full_queue_makes_smaller_batches_after_a_pause(tmp_path: Path) -> None:
    async def main() -> None:
        api = FakeBatches("failed", code="token_limit_exceeded")
        desk = Desk(tmp_path, api)
        assert all(isinstance(outcome, Deferred) for outcome in await desk.round(*"abcd"))
        assert asyncio.get_running_loop().time() >= FULL_QUEUE_PAUSE_SECONDS
        await desk.caller.send_off()
        assert [len(lines) for lines in api.inputs.values()] == [2, 2]
        desk.close()

    virtual_time.run(main())


def test_batch_that_is_invalid_ends_the_run(tmp_path: Path) -> None:
    async def main() -> None:
        desk = Desk(tmp_path, FakeBatches("failed", code="invalid_json_line"))
        with pytest.raises(errors.ConfigurationError, match="invalid_json_line: because"):
            await desk.round("a")
        desk.close()

    virtual_time.run(main())


def test_batches_that_bring_nothing_are_not_sent_for_ever(tmp_path: Path) -> None:
    async def main() -> None:
        desk = Desk(tmp_path, FakeBatches(*["expired"] * FRUITLESS_BATCHES))
        for _ in range(FRUITLESS_BATCHES - 1):
            assert all(isinstance(outcome, Deferred) for outcome in await desk.round("a"))
        with pytest.raises(errors.RetryLaterError, match="3 batches in a row"):
            await desk.round("a")
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
        kinds = [CallFrame, Deferred, Deferred, CallFrame, CallFrame]
        assert [type(outcome) for outcome in outcomes] == kinds
        again.close()

    virtual_time.run(main())


def test_batch_that_the_endpoint_has_forgotten_is_for_a_person_to_judge(tmp_path: Path) -> None:
    async def main() -> None:
        api = FakeBatches()
        desk = Desk(tmp_path, api)
        await desk.ask("a")
        await desk.caller.send_off()
        api.batches.clear()
        (path,) = desk.book.load()
        with pytest.raises(errors.ConfigurationError, match=f"delete {path} in the output"):
            await desk.caller.settle()
        assert list(desk.book.load()) == [path]
        desk.close()

    virtual_time.run(main())


def test_a_result_is_read_no_faster_than_the_journal_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "RESULT_SYNC_BYTES", 500)
    unsaved: list[bool] = []

    async def main() -> None:
        desk = Desk(tmp_path, FakeBatches())
        sync = desk.journal.sync

        def watched() -> None:
            unsaved.append(desk.journal.dirty)
            sync()

        monkeypatch.setattr(desk.journal, "sync", watched)
        frames = await desk.round(*(f"question {number}" for number in range(20)))
        assert all(isinstance(frame, CallFrame) for frame in frames)
        desk.close()

    virtual_time.run(main())
    assert sum(unsaved) > 5
