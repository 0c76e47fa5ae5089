"""What finalize counts of shards that are not finished: all that was paid for, and that once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kubesynth_api.conditions import Reason
from kubesynth_api.run_spec import RunSpec
from kubesynth_api.runner_contract import RunnerPhase, Totals
from kubesynth_runner import clients, errors
from kubesynth_runner import run as runner
from kubesynth_runner.io import layout
from kubesynth_runner.llm.base import Completion, CompletionRequest
from kubesynth_runner.llm.fake import FakeChatClient
from kubesynth_runner.phases.context import RunContext
from kubesynth_runner.run import PhaseRequest
from kubesynth_testing import runs

DOCUMENTS = 12
PRICES = {"generator": {"promptPerMillion": 1000.0, "completionPerMillion": 2000.0}}
CAPPED = {"budget": {"tokens": 10**6, "prices": PRICES}}


class Server(FakeChatClient):
    """Answers `left` requests more, and then none, or is gone for good."""

    def __init__(self) -> None:
        super().__init__(runs.reply)
        self.left = 0
        self.is_gone = False
        self.answers: list[Completion] = []

    async def complete(self, request: CompletionRequest) -> Completion:
        await asyncio.sleep(0)
        if self.left <= 0:
            if self.is_gone:
                raise errors.RetryLaterError(Reason.MODEL_UNHEALTHY, "gone")
            await asyncio.Event().wait()
        self.left -= 1
        answer = await super().complete(request)
        self.answers.append(answer)
        return answer

    def check(self, totals: Totals | None) -> None:
        """Compare totals with what was answered."""
        assert totals is not None
        assert totals.requests.ok == len(self.answers)
        assert totals.tokens.prompt == sum(one.usage.prompt_tokens for one in self.answers)
        assert totals.tokens.completion == sum(one.usage.completion_tokens for one in self.answers)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    monkeypatch.setattr(clients, "OpenAIChatClient", lambda _endpoint: made)
    return made


async def planned(tmp_path: Path, **spec: Any) -> RunSpec:
    made = runs.a_run(tmp_path, documents=DOCUMENTS, **spec)
    await runner.run_phase(runs.a_context(made), PhaseRequest(RunnerPhase.PLAN))
    return made


@asynccontextmanager
async def an_attempt(spec: RunSpec, server: Server, answers: int) -> AsyncIterator[RunContext]:
    """Generate until so many answers more were given; the attempt hangs while this is open."""
    context = runs.a_context(spec)
    server.left = answers
    wanted = len(server.answers) + answers
    task = asyncio.create_task(runner.run_phase(context, PhaseRequest(RunnerPhase.GENERATE)))
    async with asyncio.timeout(10):
        while len(server.answers) < wanted:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
    yield context
    context.stop.set()
    with pytest.raises(errors.StoppedError):
        await task


async def finalized(spec: RunSpec) -> Totals | None:
    context = runs.a_context(spec)
    message = await runner.run_phase(context, PhaseRequest(RunnerPhase.FINALIZE, partial=True))
    return message.totals


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubesynth_runner.engine.scheduler.STOP_GRACE_SECONDS", 0.1)


@pytest.mark.parametrize("limits", [{}, CAPPED], ids=["no-cap", "capped"])
async def test_what_went_into_unfinished_records_is_counted(
    tmp_path: Path, server: Server, limits: dict[str, Any]
) -> None:
    spec = await planned(tmp_path, **limits)
    async with an_attempt(spec, server, 17):
        pass
    server.check(await finalized(spec))


async def test_what_a_later_attempt_has_finished_is_counted_once(
    tmp_path: Path, server: Server
) -> None:
    spec = await planned(tmp_path, **CAPPED)
    async with an_attempt(spec, server, 17):
        pass
    async with an_attempt(spec, server, 12):  # and here it dies
        totals = await finalized(spec)
    server.check(totals)
    assert totals is not None
    assert totals.cost_usd == pytest.approx(
        (1000 * totals.tokens.prompt + 2000 * totals.tokens.completion) / 1e6
    )


async def test_shard_that_gives_up_in_an_outage_keeps_its_rows_and_what_they_cost(
    tmp_path: Path, server: Server
) -> None:
    server.is_gone, server.left = True, 20
    spec = await planned(tmp_path, **CAPPED, output={"rowsPerPart": 1000})
    with pytest.raises(errors.RetryLaterError, match="gone"):
        await runner.run_phase(runs.a_context(spec), PhaseRequest(RunnerPhase.GENERATE))
    totals = await finalized(spec)
    server.check(totals)
    assert totals is not None
    assert totals.records.accepted == len(runs.read_rows(tmp_path / "out")) > 0


async def test_finalize_leaves_the_journals_of_others_alone(tmp_path: Path, server: Server) -> None:
    """Finalize owns no shard: whoever does may be about to write."""
    spec = await planned(tmp_path)
    async with an_attempt(spec, server, 17) as context:
        folder = layout.RunLayout("uid-1").journal(0)
        stray = f"{folder}/00000000-00000.log"
        context.storage.put(stray, b"")
        before = context.storage.list_files(folder)
        await finalized(spec)
        assert context.storage.list_files(folder) == before
    assert stray in [file.path for file in before]


async def test_capped_run_that_nobody_has_answered_leaves_nothing_behind(
    tmp_path: Path, server: Server
) -> None:
    spec = await planned(tmp_path, **CAPPED)
    async with an_attempt(spec, server, 0):
        pass
    left = runs.a_context(spec).storage.list_files(layout.RunLayout("uid-1").shards)
    assert {file.path.split("/")[4] for file in left} == {"claims"}
    other = runs.a_run(tmp_path, uid="uid-2", seed=2)
    await runner.run_phase(runs.a_context(other), PhaseRequest(RunnerPhase.PLAN))
