"""Every stage over a real Triton and a real model: NeMo Deploy's tensors, and a decoupled model.

So small a model does not always do what it is asked: what fails must say why, and most must not.
A core reads and writes about a hundred tokens a second, and that is what all of it costs: there is
one record of each kind, and judges have short prompts (tests/integration/llm has the long ones).
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from kubesynth_api.run_spec import RunSpec
from kubesynth_api.runner_contract import ExitCode
from kubesynth_api.v1alpha1.pipeline import SOURCE_KINDS, STAGE_KINDS
from kubesynth_runner import models
from kubesynth_runner.environment import RunEnvironment
from kubesynth_runner.io.mounts import Mounts
from kubesynth_runner.run import RunOutcome, run_local
from kubesynth_testing import runs
from kubesynth_testing.cluster import paths
from kubesynth_testing.triton.server import TritonServer

PLUGINS = paths.REPOSITORY / "examples" / "data"
# NeMo Deploy in the framework: prompts, sentences; it knows nothing of schemas.
NEMO = "megatron"
# Triton's vLLM backend: decoupled, text_input, text_output. Where so small a model must be held to
# a schema to give a list, a label or a score.
HELD = "vllm"
DOCUMENT = {
    "text": "Ships carry grain on the Danube.",
    "title": "The Danube",
    "entity": "the Danube",
    "question": "What do ships carry?",
    "answer": "Ships carry grain.",
}
SHORT = {"maxTokens": 12}
# Part of a sentence, and not cut off.
PHRASE = {"maxTokens": 64, "stop": [".", ",", "!", "?"]}
# A sentence, however little of the task is in it.
WHOLE: dict[str, Any] = {
    "sampling": {"maxTokens": 24, "stop": ["."]},
    "onNothing": "Keep",
    "minDocumentTokens": 0,
    "minSegmentTokens": 0,
    "minOutputTokens": 0,
}
# Stages of which nothing comes, of all of them: what the model says is not ours to decide.
MAY_COME_TO_NOTHING = 3
CRITERIA = [{"name": "truth", "description": "Is it true?", "min": 1, "max": 5}]
JUDGE = {"system": {"inline": "Judge."}, "user": {"inline": "Is it true? {{ answer }}"}}


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """A stage with small numbers, the model that it asks, and a column that it makes."""

    spec: dict[str, Any]
    column: str
    model: str | None = NEMO

    def stage(self, kind: str) -> dict[str, Any]:
        """Return the stage as the manifest has it, for records of its own."""
        model = {"model": self.model} if self.model else {}
        when = {} if kind in SOURCE_KINDS else {"when": f"kind == {kind!r}"}
        return {"id": kind.lower(), kind: {**self.spec, **model}, **when}


CASES = {
    "openQA": Case(
        {"macroTopics": 0, "additionalSubtopics": ["rivers"], "questions": 1, "revisions": 0},
        "question",
        HELD,
    ),
    "math": Case(
        {"macroTopics": 0, "additionalSubtopics": ["fractions"], "problems": 1}, "question", HELD
    ),
    "coding": Case(
        {"macroTopics": 0, "additionalSubtopics": ["sorting"], "problems": 1}, "question", HELD
    ),
    "writing": Case(
        {"topics": ["rivers"], "materials": ["poem"], "tasks": 1, "revisions": 0}, "question", HELD
    ),
    "multilingualQA": Case({"languages": ["French"], "samplesPerLanguage": 1}, "answer", HELD),
    "closedQA": Case({"questions": 1}, "question", HELD),
    "segment": Case({"maxTokens": 100, "minTokens": 0}, "segment_id", None),
    "wikipediaRewrite": Case(WHOLE, "rewritten", HELD),
    "distill": Case(WHOLE, "distilled", HELD),
    "diverseQA": Case({**WHOLE, "pairs": 1}, "question", HELD),
    "extractKnowledge": Case(WHOLE, "knowledge", HELD),
    "knowledgeList": Case(WHOLE, "fact", HELD),
    "answer": Case({"sampling": SHORT, "onCutOff": "Keep"}, "answer"),
    "dialogue": Case({"userTurns": 1, "sampling": PHRASE}, "messages"),
    "twoTurnPrompt": Case({"sampling": PHRASE, "userSampling": PHRASE}, "messages"),
    "preferencePairs": Case(
        {
            "answers": 2,
            "criteria": CRITERIA,
            "sampling": PHRASE,
            "useDocument": False,
            "prompts": {"judge": JUDGE},
        },
        "chosen",
        HELD,
    ),
    "score": Case({"criteria": CRITERIA, "prompts": JUDGE}, "score", HELD),
    "classifyEntity": Case({"classes": [{"name": "river"}, {"name": "town"}]}, "label", HELD),
    "translate": Case(
        {"languages": ["German"], "columns": ["title"], "sampling": SHORT}, "title_translated"
    ),
    "prompt": Case(
        {
            "user": {"inline": "Say in one word what this is about: {{ title }}"},
            "sampling": SHORT,
            "output": {"column": "said", "onCutOff": "Keep"},
        },
        "said",
    ),
    "plugin": Case(
        {
            "file": {"configMapKeyRef": {"name": "plugins", "key": "headlines.py"}},
            "parameters": {"count": 1},
            "outputColumns": ["headline", "characters"],
            "sampling": {"maxTokens": 48},
        },
        "headline",
        HELD,
    ),
    "filter": Case({"where": "title | length > 3"}, "text", None),
}


def model(url: str, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "external": {
            "protocol": "Triton",
            "url": url,
            "model": name,
            "triton": {"chatTemplate": {"builtIn": "ChatML"}},
        },
        "sampling": {"temperature": 0, "maxTokens": 64},
        "limits": {"concurrency": 1},
    }


async def run(spec: RunSpec) -> RunOutcome:
    mounts = Mounts(config_maps={"plugins": PLUGINS})
    return await run_local(
        spec,
        RunEnvironment(mounts, writer="test"),
        on_progress=lambda _: None,
        stop=asyncio.Event(),
    )


def test_no_stage_is_left_out() -> None:
    assert CASES.keys() == STAGE_KINDS.keys()


@pytest.fixture(autouse=True)
def _known_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tell runs which model can be held to a schema; test_client.py sees them find out."""
    monkeypatch.setattr(
        models.CapabilityStore, "load", lambda _, role: models.StoredCapabilities(role == HELD)
    )


async def test_every_stage_runs_over_triton(tmp_path: Path, triton: TritonServer) -> None:
    before = triton.inferences(HELD)
    nemo, held = model(triton.url, NEMO), model(triton.url, HELD)
    others = [kind for kind in CASES if kind not in SOURCE_KINDS]
    records = tmp_path / "records.jsonl"
    records.write_text(
        "".join(json.dumps({"id": kind, "kind": kind, **DOCUMENT}) + "\n" for kind in others)
    )
    specs = [
        runs.a_run(
            tmp_path / kind,
            models=[held],
            pipeline=[CASES[kind].stage(kind)],
            input=None,
            failurePolicy={"maxFailedRecordsPercent": 100},
        )
        for kind in SOURCE_KINDS
    ]
    specs.append(
        runs.a_run(
            tmp_path / "others",
            models=[nemo, held],
            input={"uri": f"file://{records}", "idColumn": "id"},
            pipeline=[CASES[kind].stage(kind) for kind in others],
            failurePolicy={"maxFailedRecordsPercent": 100},
        )
    )
    outcomes = await asyncio.gather(*map(run, specs))
    rows: dict[str, list[dict[str, Any]]] = {}
    for spec, outcome in zip(specs, outcomes, strict=True):
        output = Path(spec.spec.output.uri.removeprefix("file://"))
        if outcome.exit_code is not ExitCode.OK:
            assert outcome.error is not None
            print(spec.name, outcome.error)
            continue
        for failed in runs.read_errors(output):
            assert failed["message"], failed
            print(failed["stage"], failed["kind"], failed["message"])
        for row in runs.read_rows(output):
            rows.setdefault(row["source"]["id"] or row["source"]["uri"], []).append(row)
    for kind, found in rows.items():
        case = CASES[kind]
        for row in found:
            may_be_empty = case.spec.get("onNothing") == "Keep"
            assert may_be_empty or row[case.column] not in (None, ""), (kind, row)
            calls = row["provenance"]
            assert {call["model"] for call in calls} == ({case.model} if case.model else set())
            stages = {call["stage"].partition("/")[0] for call in calls}
            assert stages == ({kind.lower()} if case.model else set())
            # NeMo Deploy does not count; the vLLM backend does.
            assert all(call["tokens_estimated"] == (case.model == NEMO) for call in calls)
    asked = triton.inferences(HELD) - before
    assert asked >= sum(case.model == HELD for case in CASES.values())
    nothing = CASES.keys() - rows.keys()
    assert len(nothing) <= MAY_COME_TO_NOTHING, nothing
