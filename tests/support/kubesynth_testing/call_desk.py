"""One model behind a caller and a journal, on virtual time, for tests of single calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from kubesynth_runner.engine.calls import (
    Caller,
    CallFailed,
    RecordCall,
    StageBinding,
)
from kubesynth_runner.engine.connection import ModelConnection
from kubesynth_runner.engine.gate import Gate
from kubesynth_runner.io.journal import CallFrame, Journal
from kubesynth_runner.io.local_storage import LocalStorage
from kubesynth_runner.llm.base import Capabilities, CompletionRequest, Message
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.fake import FakeChatClient, FakeReply
from kubesynth_testing import virtual_time

REQUEST = CompletionRequest((Message("user", "Why?"),), {"temperature": 0.5})
OUTAGE_LIMIT_SECONDS = 600.0


def failure(kind: ErrorKind, retry_after_seconds: float | None = None) -> ClientError:
    """Return what a server might have said."""
    return ClientError(kind, f"it was {kind}", retry_after_seconds=retry_after_seconds)


class ScriptedClient(FakeChatClient):
    """Gives one reply after the other, the last one for ever; `trouble` is what a probe meets."""

    def __init__(
        self,
        replies: Sequence[FakeReply],
        *,
        is_alive: bool = True,
        trouble: ClientError | None = None,
    ) -> None:
        super().__init__(self._next)
        self._replies = list(replies)
        self._trouble = trouble or (None if is_alive else failure(ErrorKind.CONNECTION))
        self.probes = 0

    def _next(self, _request: CompletionRequest) -> FakeReply:
        return self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]

    async def probe(self) -> Capabilities:
        """Count, and meet the trouble if there is any."""
        self.probes += 1
        if self._trouble is not None:
            raise self._trouble
        return await super().probe()


class Desk:
    """A caller with one model, over a journal in a folder."""

    def __init__(
        self, client: FakeChatClient, folder: Path, *, max_attempts: int = 3, epoch: int = 1
    ) -> None:
        self.client = client
        self.journal = Journal(LocalStorage(folder), "run", 0, epoch)
        self.journal.load(bytearray(1))
        self.caller = Caller(self.journal)
        self.gate = Gate(4)
        connection = ModelConnection(
            "generator", "m", client, self.gate, True, max_attempts, OUTAGE_LIMIT_SECONDS
        )
        self.binding = StageBinding(0, "s", connection, {}, None)

    async def call(self, record_id: str = "r", request: CompletionRequest = REQUEST) -> CallFrame:
        """Make the only call of a record."""
        return await self.caller.call(self.binding, RecordCall(record_id, 0, 0), request)


def run(
    replies: Sequence[FakeReply],
    folder: Path,
    check: Callable[[Desk, CallFrame | CallFailed, float], None],
    *,
    max_attempts: int = 3,
    is_alive: bool = True,
    trouble: ClientError | None = None,
) -> None:
    """Make one call on virtual time, and check what came of it and how long it took."""

    async def main() -> None:
        client = ScriptedClient(replies, is_alive=is_alive, trouble=trouble)
        desk = Desk(client, folder, max_attempts=max_attempts)
        result: CallFrame | CallFailed
        try:
            result = await desk.call()
        except CallFailed as exc:
            result = exc
        assert desk.gate.admission.in_flight == 0
        check(desk, result, asyncio.get_running_loop().time())
        desk.journal.close()

    virtual_time.run(main())
