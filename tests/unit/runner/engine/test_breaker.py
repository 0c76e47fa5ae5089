from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kubesynth_runner.engine import breaker
from kubesynth_runner.engine.calls import Caller, CallFailed, RecordCall
from kubesynth_runner.engine.calls import StageBinding as Binding
from kubesynth_runner.engine.connection import ModelConnection
from kubesynth_runner.engine.gate import Gate
from kubesynth_runner.io.journal import CallFrame, Journal
from kubesynth_runner.io.local_storage import LocalStorage
from kubesynth_runner.llm.base import Capabilities, Completion, CompletionRequest, Message
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.fake import FakeChatClient
from kubesynth_testing import virtual_time

RECORDS = 200
CONCURRENCY = 32
LATENCY_SECONDS = 0.2


class SickClient(FakeChatClient):
    """Fails everybody from `sick_from` to `sick_to`, and those in `poison` always."""

    def __init__(
        self,
        kind: ErrorKind,
        *,
        sick_from: float = 0.0,
        sick_to: float = 0.0,
        poison: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__("So.")
        self._kind = kind
        self._sick = sick_from, sick_to
        self._poison = poison
        self.failed = self.probes = 0

    def _is_sick(self) -> bool:
        return self._sick[0] <= asyncio.get_running_loop().time() < self._sick[1]

    async def complete(self, request: CompletionRequest) -> Completion:
        await asyncio.sleep(LATENCY_SECONDS)
        if self._is_sick() or request.messages[0].content in self._poison:
            self.failed += 1
            raise ClientError(self._kind, f"it was {self._kind}", status_code=500)
        return await super().complete(request)

    async def probe(self) -> Capabilities:
        self.probes += 1
        await asyncio.sleep(LATENCY_SECONDS)
        if self._is_sick():
            raise ClientError(self._kind, "sick")
        return Capabilities(json_schema=True, models=())


def call_all(
    client: SickClient, folder: Path, *, max_attempts: int = 6, concurrency: int = CONCURRENCY
) -> tuple[list[CallFrame | CallFailed], float]:
    """Ask about all records on virtual time; return what came of each and the seconds it took."""

    async def main() -> tuple[list[CallFrame | CallFailed], float]:
        journal = Journal(LocalStorage(folder), "run", 0, 1)
        caller, gate = Caller(journal), Gate(concurrency)
        connection = ModelConnection("generator", "m", client, gate, True, max_attempts, 3600.0)
        binding = Binding(0, "s", connection, {}, None)

        async def call(number: int) -> CallFrame | CallFailed:
            request = CompletionRequest((Message("user", str(number)),), {})
            try:
                return await caller.call(binding, RecordCall(str(number), number, 0), request)
            except CallFailed as failed:
                return failed

        ended = await asyncio.gather(*(call(number) for number in range(RECORDS)))
        journal.close()
        assert gate.admission.in_flight == 0
        return ended, asyncio.get_running_loop().time()

    return virtual_time.run(main())


@pytest.mark.parametrize("kind", sorted(breaker.SUSPECT))
@pytest.mark.parametrize("concurrency", [1, 2, CONCURRENCY])
def test_outage_of_errors_fails_no_record_and_is_over_soon_after_its_end(
    tmp_path: Path, kind: ErrorKind, concurrency: int
) -> None:
    client = SickClient(kind, sick_from=0.7, sick_to=60.0)
    ended, seconds = call_all(client, tmp_path, concurrency=concurrency)
    frames = [frame for frame in ended if isinstance(frame, CallFrame)]
    assert len(frames) == RECORDS
    # Those under way before and while the server is asked, and then one now and again.
    assert client.failed <= 2 * concurrency + breaker.SUSPECT_AFTER_ERRORS + 20
    assert sum(frame.attempts - 1 for frame in frames) <= breaker.SUSPECT_AFTER_ERRORS
    assert seconds < 60 + 20 + RECORDS * LATENCY_SECONDS / concurrency


def test_records_that_no_server_could_answer_fail_at_once_and_cost_few_probes(
    tmp_path: Path,
) -> None:
    everybody = frozenset(map(str, range(RECORDS)))
    client = SickClient(ErrorKind.SERVER_ERROR, poison=everybody)
    ended, seconds = call_all(client, tmp_path, max_attempts=3)
    assert all(isinstance(failed, CallFailed) and failed.attempts == 3 for failed in ended)
    assert client.failed == 3 * RECORDS
    assert client.probes <= 1 + seconds / breaker.ACQUITTAL_SECONDS
    assert seconds < 10


def test_a_few_bad_records_fail_alone(tmp_path: Path) -> None:
    client = SickClient(ErrorKind.SERVER_ERROR, poison=frozenset({"3", "77"}))
    ended, _ = call_all(client, tmp_path, max_attempts=2)
    failed = {number for number, end in enumerate(ended) if isinstance(end, CallFailed)}
    assert failed == {3, 77}


def test_outage_right_after_an_acquittal_is_found_out_in_time(tmp_path: Path) -> None:
    """The server is asked while it is well; a moment later it fails everybody."""
    client = SickClient(
        ErrorKind.SERVER_ERROR,
        sick_from=0.5,
        sick_to=40.0,
        poison=frozenset(map(str, range(breaker.SUSPECT_AFTER_ERRORS))),
    )
    ended, _ = call_all(client, tmp_path)
    failed = {number for number, end in enumerate(ended) if isinstance(end, CallFailed)}
    assert failed <= set(range(breaker.SUSPECT_AFTER_ERRORS))
