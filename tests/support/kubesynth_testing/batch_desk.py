"""A batch caller over a journal in a folder, with a batch API in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from kubesynth_runner.engine.batching import BatchCaller, BatchSettings
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

DONE = bytearray(1000)
# Prompts of these beginnings get an error in place of a completion.
FAILING = ("bad", "unpaid", "refused", "forbidden")


def _prompt(line: dict[str, Any]) -> str:
    return str(line["body"]["messages"][0]["content"])


class FakeBatches:
    """A `BatchApi` whose batches have ended at once, as `statuses` says, one after the other.

    "failed: CODE" is one that is refused as a whole, "completed" the rest.
    """

    def __init__(self, *statuses: str) -> None:
        self.statuses = list(statuses)
        self.inputs: dict[str, list[dict[str, Any]]] = {}
        self.batches: dict[str, BatchState] = {}
        self.tokens: dict[str, str] = {}
        self.trouble: list[ClientError] = []
        self.created = 0
        # The files that are being uploaded, and the most of them at a time.
        self.uploads = self.most_uploads = 0
        self.uploaded = 0
        self.upload_seconds = 0.0
        # Whether calls come back under names of the server's own.
        self.renames = False

    async def upload(self, path: Path, name: str) -> str:
        self.uploads += 1
        self.most_uploads = max(self.most_uploads, self.uploads)
        await asyncio.sleep(self.upload_seconds)
        self.uploads -= 1
        file_id = f"in-{self.uploaded}"
        self.uploaded += 1
        self.inputs[file_id] = [json.loads(line) for line in path.read_bytes().splitlines()]
        return file_id

    async def create(self, file_id: str, token: str) -> BatchState:
        self.created += 1
        status, _, code = (self.statuses.pop(0) if self.statuses else "completed").partition(": ")
        count = len(self.inputs[file_id])
        is_good = status == "completed"
        failed = sum(_prompt(line).startswith(FAILING) for line in self.inputs[file_id])
        state = BatchState(
            f"b-{self.created}",
            status,
            count,
            count - failed if is_good else 0,
            failed if is_good else 0,
            file_id if is_good else None,
            errors=((code, "because"),) if code else (),
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
            content = _prompt(line)
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
            if content.startswith(("mute", "cut", "given up")):
                message |= {"message": {"content": ""}}
                if content.startswith("cut"):
                    message["finish_reason"] = "length"
                if content.startswith("given up"):
                    message["finish_reason"] = "abort"
                response["body"]["usage"] = {"prompt_tokens": 7, "completion_tokens": 30}
            if content.startswith("refused"):
                response = {"status_code": 400, "body": {"error": {"message": "Not this one."}}}
            if content.startswith("forbidden"):
                response = {"status_code": 403, "body": {"error": {"message": "Not allowed."}}}
            name = f"mine-{line['custom_id']}" if self.renames else line["custom_id"]
            answer = {"custom_id": name, "response": response, "error": None}
            yield json.dumps(answer).encode()

    async def delete_file(self, file_id: str) -> None:
        del self.inputs[file_id]

    async def close(self) -> None:
        pass


Outcome = CallFrame | CallFailed | Deferred


class Desk:
    """A caller with one model, or one for each of `apis`, over a journal in a folder."""

    def __init__(
        self,
        folder: Path,
        *apis: FakeBatches,
        epoch: int = 1,
        max_attempts: int = 3,
        probe: FakeChatClient | None = None,
        **limits: int,
    ) -> None:
        storage = LocalStorage(folder)
        self.journal = Journal(storage, "run", 0, epoch)
        self.journal.load(DONE)
        client = probe or FakeChatClient("So.")
        connections = {
            role: ModelConnection(
                role, "m", client, Gate(4), True, max_attempts, 600.0, batches=api
            )
            for role, api in zip("gh", apis, strict=False)
        }
        self.book = BatchBook(storage, "run", 0, epoch)
        self.reports: list[str] = []
        settings = BatchSettings(lambda: None, self.reports.append, **limits)
        self.caller = BatchCaller(self.journal, self.book, connections, settings)
        self.bindings = [
            StageBinding(place, "s", connection, {}, None)
            for place, connection in enumerate(connections.values())
        ]
        self.binding = self.bindings[0]

    async def ask(self, *texts: str, model: int = 0) -> list[Outcome]:
        return [
            await self.ask_one(RecordCall(text, number, 0), text, model)
            for number, text in enumerate(texts)
        ]

    async def ask_one(self, call: RecordCall, text: str, model: int = 0) -> Outcome:
        request = CompletionRequest((Message("user", text),))
        try:
            return await self.caller.call(self.bindings[model], call, request)
        except (CallFailed, Deferred) as outcome:
            return outcome

    async def ask_once(self, text: str, on_lost: Callable[[TokenUsage], None]) -> CallFrame:
        request = CompletionRequest((Message("user", text),))
        return await self.caller.call(self.binding, RecordCall(text, 0, 0), request, on_lost)

    def close(self) -> None:
        self.caller.drop()
        self.journal.close()

    async def settle(self) -> None:
        """Send off, and take in."""
        await self.caller.send_off()
        await self.caller.settle()
        self.journal.reopen(DONE)

    async def round(self, *texts: str) -> list[Outcome]:
        """Collect, send off, take in; return what the calls are then."""
        await self.ask(*texts)
        await self.settle()
        return await self.ask(*texts)
