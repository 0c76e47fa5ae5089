"""Texts behind references: edited while a run goes on, between runs, and before a resume."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from kubesynth_api.conditions import Reason
from kubesynth_api.run_spec import RunSpec
from kubesynth_api.runner_contract import ExitCode, RunnerPhase, TerminationMessage
from kubesynth_runner import clients, errors
from kubesynth_runner import run as runner
from kubesynth_runner.cli import job_run
from kubesynth_runner.cli.errors import CommandError
from kubesynth_runner.cli.mappings import Flags
from kubesynth_runner.environment import RunEnvironment
from kubesynth_runner.io.mounts import Mounts
from kubesynth_runner.llm.fake import FakeChatClient
from kubesynth_runner.run import PhaseRequest
from kubesynth_testing import runs

PROMPT = {"configMapKeyRef": {"name": "prompts", "key": "ask"}}
PLUGIN = """
from kubesynth_runner.plugin_api import StagePlugin
class Mine(StagePlugin):
    adds = {"a": "string"}
    prompts = {"ask": "Say something of {{ text }}"}
    async def run(self, row, model):
        yield {"a": await model.text("ask", row)}
"""
PIPELINES: dict[str, dict[str, Any]] = {
    "prompt": {"prompt": {"user": PROMPT, "output": {"column": "a"}}},
    "plugin": {"plugin": {"file": PROMPT}},
}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeChatClient:
    fake = FakeChatClient(lambda request: f"So: {request.messages[-1].content}")
    monkeypatch.setattr(clients, "OpenAIChatClient", lambda _endpoint: fake)
    return fake


@dataclasses.dataclass
class Desk:
    """A job whose one stage is in a ConfigMap, which is a folder here."""

    folder: Path
    kind: str = "prompt"

    def __post_init__(self) -> None:
        (self.folder / "prompts").mkdir()
        self.write(PLUGIN if self.kind == "plugin" else "What of {{ text }}")

    def write(self, text: str) -> None:
        (self.folder / "prompts" / "ask").write_text(text)

    def edit(self) -> None:
        path = self.folder / "prompts" / "ask"
        path.write_text(path.read_text().replace("{{ text }}", "all of {{ text }}"))

    def spec(self, uid: str = "uid-1", **spec: Any) -> RunSpec:
        fields = {"pipeline": [PIPELINES[self.kind]], "shards": {"count": 2}, **spec}
        return runs.a_run(self.folder, uid=uid, **fields)

    async def do(
        self, phase: RunnerPhase, shard: int = 0, *, spec: RunSpec | None = None, **more: Any
    ) -> TerminationMessage:
        """Do a phase as a pod of its own does: it reads everything anew."""
        mounts = Mounts(config_maps={"prompts": self.folder / "prompts"})
        context = dataclasses.replace(
            runs.a_context(spec or self.spec()), environment=RunEnvironment(mounts, writer="test")
        )
        return await runner.run_phase(context, PhaseRequest(phase, shard, **more))

    async def refuses(self, phase: RunnerPhase, shard: int = 0, **more: Any) -> str:
        with pytest.raises(errors.ConfigurationError) as caught:
            await self.do(phase, shard, **more)
        assert caught.value.reason is Reason.REFERENCE_CHANGED
        return str(caught.value)


@pytest.mark.parametrize("kind", list(PIPELINES))
async def test_text_that_is_edited_while_a_run_goes_on_ends_it(
    tmp_path: Path, client: FakeChatClient, kind: str
) -> None:
    desk = Desk(tmp_path, kind)
    before = (tmp_path / "prompts" / "ask").read_text()
    await desk.do(RunnerPhase.PLAN)
    await desk.do(RunnerPhase.GENERATE, 0)
    desk.edit()
    sent = len(client.requests)
    said = await desk.refuses(RunnerPhase.GENERATE, 1)
    field = "user" if kind == "prompt" else "file"
    assert f"spec.pipeline[0].{kind}.{field} (ConfigMap 'prompts', key 'ask')" in said
    assert "output.ifExists: Resume" in said
    resuming = desk.spec("uid-2", output={"ifExists": "Resume"})
    await desk.refuses(RunnerPhase.PLAN, spec=resuming)
    assert len(client.requests) == sent
    # What is there can be counted all the same, and used.
    await desk.do(RunnerPhase.FINALIZE, partial=True)
    assert len(runs.read_rows(tmp_path / "out")) == sent
    desk.write(before)
    await desk.do(RunnerPhase.PLAN, spec=resuming)
    await desk.do(RunnerPhase.GENERATE, 1, spec=resuming)
    desk.edit()  # too late to matter
    await desk.do(RunnerPhase.FINALIZE, spec=resuming)
    assert len(runs.read_rows(tmp_path / "out")) == len(client.requests) == 6


async def test_one_process_works_with_one_text(tmp_path: Path, client: FakeChatClient) -> None:
    desk = Desk(tmp_path)
    mounts = Mounts(config_maps={"prompts": tmp_path / "prompts"})
    environment = RunEnvironment(mounts, writer="test")
    context = dataclasses.replace(runs.a_context(desk.spec()), environment=environment)
    await runner.run_phase(context, PhaseRequest(RunnerPhase.PLAN))
    desk.edit()
    await runner.run_phase(context, PhaseRequest(RunnerPhase.GENERATE, 0))
    assert not any("all of" in request.messages[-1].content for request in client.requests)


async def test_plan_of_an_older_version_is_taken_as_it_is(
    tmp_path: Path, client: FakeChatClient
) -> None:
    desk = Desk(tmp_path)
    await desk.do(RunnerPhase.PLAN)
    (path,) = (tmp_path / "out").rglob("plan.json")
    plan = json.loads(path.read_text())
    assert list(plan.pop("texts")) == ["spec.pipeline[0].prompt.user"]
    path.write_text(json.dumps(plan))
    desk.edit()
    for shard in (0, 1):
        await desk.do(RunnerPhase.GENERATE, shard)
    await desk.do(RunnerPhase.FINALIZE)
    assert len(runs.read_rows(tmp_path / "out")) == len(client.requests)


async def test_certificates_may_be_renewed(tmp_path: Path, client: FakeChatClient) -> None:
    desk = Desk(tmp_path)
    model = runs.a_model("https://127.0.0.1:9/v1")
    model["external"]["caBundle"] = {"configMapKeyRef": {"name": "prompts", "key": "ca"}}
    (tmp_path / "prompts" / "ca").write_text("old")
    spec = desk.spec(models=[model])
    await desk.do(RunnerPhase.PLAN, spec=spec)
    (tmp_path / "prompts" / "ca").write_text("new")
    await desk.do(RunnerPhase.GENERATE, 0, spec=spec)


async def test_generated_input_is_of_the_texts_of_its_plan(
    tmp_path: Path, client: FakeChatClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "OpenAIChatClient", lambda _: FakeChatClient(runs.reply))
    desk = Desk(tmp_path)
    pipeline = [
        {"openQA": {"macroTopics": 1, "subtopics": 1, "questions": 1}},
        {"answer": {"prompts": {"user": PROMPT}}},
    ]
    desk.write("Answer {{ question }} of {{ topic }}")
    spec = desk.spec(input=None, pipeline=pipeline, shards={"count": 1})
    await desk.do(RunnerPhase.PLAN, spec=spec)
    desk.write("Refuse {{ question }}")
    said = await desk.refuses(RunnerPhase.PLAN, spec=spec)
    assert "spec.pipeline[1].answer.prompts.user" in said


async def test_tokenizer_is_one_of_the_texts(tmp_path: Path, client: FakeChatClient) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="the extra `tokenizers` is not there")
    desk = Desk(tmp_path)
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    path = tmp_path / "tokenizer.json"
    path.write_text(made.to_str())
    spec = desk.spec(tokenizer={"uri": f"file://{path}"})
    await desk.do(RunnerPhase.PLAN, spec=spec)
    path.write_text(made.to_str(pretty=True))
    assert "spec.tokenizer.uri: the text" in await desk.refuses(RunnerPhase.GENERATE, spec=spec)


def test_local_run_with_an_edited_prompt_is_another_run(
    tmp_path: Path, client: FakeChatClient, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = Desk(tmp_path)
    wire = {
        "apiVersion": "kubesynth.io/v1alpha1",
        "kind": "SyntheticDataJob",
        "metadata": {"name": "qa"},
        "spec": desk.spec().spec.to_wire(),
    }
    manifest = tmp_path / "job.json"
    manifest.write_text(json.dumps(wire))
    flags = Flags([f"prompts={tmp_path / 'prompts'}"])
    for _ in range(2):
        assert job_run.run(str(manifest), flags) == ExitCode.OK
    assert len(client.requests) == 6
    assert "complete: 6 rows" in capsys.readouterr().out
    desk.edit()
    assert job_run.run(str(manifest), flags) == ExitCode.CONFIGURATION
    said = capsys.readouterr()
    assert "complete" not in said.out
    assert "Overwrite" in said.err
    wire["spec"]["output"]["ifExists"] = "Resume"  # type: ignore[index]
    manifest.write_text(json.dumps(wire))
    assert job_run.run(str(manifest), flags) == ExitCode.CONFIGURATION
    assert (
        "spec.pipeline[0].prompt.user (ConfigMap 'prompts', key 'ask')" in capsys.readouterr().err
    )
    assert len(client.requests) == 6
    wire["spec"]["output"]["ifExists"] = "Overwrite"  # type: ignore[index]
    manifest.write_text(json.dumps(wire))
    assert job_run.run(str(manifest), flags) == ExitCode.OK
    rows = runs.read_rows(tmp_path / "out")
    assert len(rows) == 6
    assert all("all of" in row["a"] for row in rows)
    (tmp_path / "prompts" / "ask").unlink()
    with pytest.raises(CommandError, match="ask"):
        job_run.run(str(manifest), flags)
