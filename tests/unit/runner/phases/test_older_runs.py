"""Outputs that an older version has begun, for which the models' addresses were part of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from kubesynth_api.run_spec import RunSpec
from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_runner import clients, errors
from kubesynth_runner import run as runner
from kubesynth_runner.llm.fake import FakeChatClient
from kubesynth_testing import runs

MOVED = [runs.a_model("http://127.0.0.1:10/v1")]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeChatClient:
    fake = FakeChatClient(runs.reply)
    monkeypatch.setattr(clients, "OpenAIChatClient", lambda _endpoint: fake)
    return fake


async def do(spec: RunSpec, phase: RunnerPhase, shard: int = 0) -> None:
    await runner.run_phase(runs.a_context(spec), runner.PhaseRequest(phase, shard))


async def begin(folder: Path) -> None:
    """Leave half of a run in an output, as an older version would have."""
    old = runs.a_run(folder, uid="old", shards={"count": 2})
    await do(old, RunnerPhase.PLAN)
    await do(old, RunnerPhase.GENERATE, 0)
    path = folder / "out/run.json"
    identity: dict[str, Any] = msgspec.json.decode(path.read_bytes())
    del identity["content"]
    identity["pipelineHash"] = old.former_pipeline_hash()
    path.write_bytes(msgspec.json.encode(identity))


def again(folder: Path, if_exists: str, **more: Any) -> RunSpec:
    shards = {"count": 2}
    return runs.a_run(folder, uid="new", shards=shards, output={"ifExists": if_exists}, **more)


async def test_the_same_job_goes_on(tmp_path: Path, client: FakeChatClient) -> None:
    await begin(tmp_path)
    asked = len(client.requests)
    new = again(tmp_path, "Resume")
    for phase in (RunnerPhase.PLAN, RunnerPhase.PLAN, RunnerPhase.GENERATE):
        await do(new, phase)
    assert len(client.requests) == asked, "what was answered was asked again"
    await do(new, RunnerPhase.GENERATE, 1)
    await do(new, RunnerPhase.FINALIZE)
    assert len(runs.read_rows(tmp_path / "out")) == 12


@pytest.mark.usefixtures("client")
async def test_who_does_not_say_so_is_told_how(tmp_path: Path) -> None:
    await begin(tmp_path)
    with pytest.raises(errors.ConfigurationError, match="ifExists: Resume to go on with it"):
        await do(again(tmp_path, "Fail"), RunnerPhase.PLAN)


@pytest.mark.usefixtures("client")
async def test_with_another_address_the_old_one_is_asked_for(tmp_path: Path) -> None:
    await begin(tmp_path)
    with pytest.raises(errors.ConfigurationError) as caught:
        await do(again(tmp_path, "Resume", models=MOVED), RunnerPhase.PLAN)
    assert "begun by an older version" in str(caught.value)
    assert "with the spec that it was begun with, url, apiKey" in str(caught.value)


@pytest.mark.usefixtures("client")
async def test_what_is_overwritten_is_a_run_of_this_version(tmp_path: Path) -> None:
    await begin(tmp_path)
    await do(again(tmp_path, "Overwrite"), RunnerPhase.PLAN)
    await do(again(tmp_path, "Overwrite", models=MOVED), RunnerPhase.PLAN)
    identity = msgspec.json.decode((tmp_path / "out/run.json").read_bytes())
    assert identity["content"]
    assert identity["pipelineHash"] == again(tmp_path, "Overwrite").pipeline_hash()
