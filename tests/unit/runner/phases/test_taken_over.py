"""A process that waits for its model while another one takes its output, or its shard, over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from kubesynth_api.conditions import Reason
from kubesynth_api.run_spec import RunSpec
from kubesynth_api.runner_contract import RunnerPhase, TerminationMessage
from kubesynth_runner import clients, errors
from kubesynth_runner import run as runner
from kubesynth_runner.io import layout
from kubesynth_runner.io.local_storage import LocalStorage
from kubesynth_runner.llm.base import Capabilities
from kubesynth_runner.llm.fake import FakeChatClient
from kubesynth_runner.phases import finalize
from kubesynth_runner.run import PhaseRequest
from kubesynth_testing import runs

PLAN, GENERATE, FINALIZE = RunnerPhase.PLAN, RunnerPhase.GENERATE, RunnerPhase.FINALIZE


class LateModel(FakeChatClient):
    """A model that whoever asks first has to wait for."""

    def __init__(self) -> None:
        super().__init__(runs.reply)
        self.is_waited_for, self.is_there = asyncio.Event(), asyncio.Event()

    async def probe(self) -> Capabilities:
        if not self.is_waited_for.is_set():
            self.is_waited_for.set()
            await self.is_there.wait()
        return await super().probe()


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> LateModel:
    late = LateModel()
    monkeypatch.setattr(clients, "OpenAIChatClient", lambda _endpoint: late)
    return late


async def do(spec: RunSpec, phase: RunnerPhase) -> TerminationMessage:
    return await runner.run_phase(runs.a_context(spec), PhaseRequest(phase))


async def waiting_run(spec: RunSpec, model: LateModel) -> asyncio.Task[TerminationMessage]:
    """Plan a run, and let its shard wait for the model."""
    await do(spec, PLAN)
    task = asyncio.create_task(do(spec, GENERATE))
    await model.is_waited_for.wait()
    return task


async def test_another_run_of_the_job_takes_the_output_and_the_first_asks_nothing(
    tmp_path: Path, model: LateModel
) -> None:
    first, second = (runs.a_run(tmp_path, uid=f"uid-{seed}", seed=seed) for seed in (1, 2))
    waiting = await waiting_run(first, model)
    await do(second, PLAN)
    model.is_there.set()
    with pytest.raises(errors.FencedError, match="does not belong to this run any more"):
        await waiting
    assert model.requests == [], "nothing was paid for that nobody will have"
    with pytest.raises(errors.ConfigurationError, match="belongs to the job 'qa'") as caught:
        await do(first, GENERATE)
    assert caught.value.reason is Reason.OUTPUT_CONFLICT
    await do(second, GENERATE)
    await do(second, FINALIZE)
    assert len(runs.read_rows(tmp_path / "out")) == 12


async def test_what_the_first_has_been_answered_keeps_the_second_out(
    tmp_path: Path, model: LateModel
) -> None:
    first, second = (runs.a_run(tmp_path, uid=f"uid-{seed}", seed=seed) for seed in (1, 2))
    waiting = await waiting_run(first, model)
    model.is_there.set()
    await waiting
    with pytest.raises(errors.ConfigurationError, match="with another seed"):
        await do(second, PLAN)
    await do(first, FINALIZE)
    assert len(runs.read_rows(tmp_path / "out")) == 12


async def test_a_newer_process_of_the_same_run_takes_the_shard(
    tmp_path: Path, model: LateModel
) -> None:
    spec = runs.a_run(tmp_path)
    waiting = await waiting_run(spec, model)
    await do(spec, GENERATE)
    asked = len(model.requests)
    model.is_there.set()
    with pytest.raises(errors.FencedError, match="a newer writer has claimed it"):
        await waiting
    assert len(model.requests) == asked
    await do(spec, FINALIZE)
    assert len(runs.read_rows(tmp_path / "out")) == 12


class Interrupted(LocalStorage):
    """Something else happens after a file was read for the first time."""

    def __init__(self, root: Path, path: str, interlude: Callable[[], None]) -> None:
        super().__init__(root)
        self.path, self.interludes = path, [interlude]

    def read(self, path: str) -> bytes:
        data = super().read(path)
        if path == self.path and self.interludes:
            self.interludes.pop()()
        return data


async def test_job_that_counts_while_another_overwrites_its_output_leaves_that_alone(
    tmp_path: Path, model: LateModel
) -> None:
    model.is_waited_for.set()
    first = runs.a_run(tmp_path)
    second = runs.a_run(tmp_path, uid="uid-2", seed=2, output={"ifExists": "Overwrite"})

    async def overwrite() -> None:
        for phase in (PLAN, GENERATE, FINALIZE):
            await do(second, phase)

    for phase in (PLAN, GENERATE):
        await do(first, phase)
    storage = Interrupted(
        tmp_path / "out",
        layout.RunLayout("uid-1").shard_manifest(0),
        lambda: asyncio.run(overwrite()),
    )
    with pytest.raises(errors.ConfigurationError, match="which has overwritten this job's run"):
        await finalize.run(runs.a_context(first, storage))
    assert runs.read_manifest(tmp_path / "out").run_id == "uid-2"
    assert len(runs.read_rows(tmp_path / "out")) == 12
