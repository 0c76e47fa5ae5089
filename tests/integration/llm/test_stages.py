"""Every stage on a real language model, whole pipelines of a record.

SmolLM2-135M understands little of what it is asked, so that what it says is not looked at: there
are rows, with the columns that the stage promises, and whatever failed says why. Left alone it
says the same again until it is cut off, and what is cut off is dropped: it is kept from repeating
itself, stopped after a sentence, and led to end a string of JSON soon after it has begun.

A core reads and writes about a hundred tokens a second, and that is what all of it costs: there
are as few calls as a stage can do with, one at a time, so that the server finds what two prompts
have in common where the first has left it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_runner import models, run
from kubesynth_runner.embedded.process import EmbeddedServer
from kubesynth_runner.io.mounts import Mounts
from kubesynth_testing import runs

TEXT = "Glass is made of sand."
QUESTION = "Why does bread rise?"
EXAMPLES = Path(__file__).parents[3] / "examples"
SAMPLING = {"temperature": 0, "frequencyPenalty": 0.6, "maxTokens": 80}
SHORT = {"maxTokens": 12}
# Text instead of JSON.
WRITER = {"model": "writer"}
# llama.cpp's own: what is added to the logits of tokens. Strings end, white space gets rarer.
SHORT_JSON = {"logit_bias": [['"', 6], ["\n", -20], ["\t", -20]]}
Stages = Sequence[Mapping[str, Any]]
Rows = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def _known_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tell runs that the server can be held to a schema; test_real_llm.py sees it find out."""
    found = models.StoredCapabilities(json_schema=True, schema_lengths=True)
    monkeypatch.setattr(models.CapabilityStore, "load", lambda *_: found)


async def make(
    folder: Path, llm: EmbeddedServer, pipeline: Stages, *records: Mapping[str, Any]
) -> Rows:
    """Run a pipeline; return its rows, having seen that whatever failed says why."""
    given: dict[str, Any] = {"input": None}
    if records:
        (folder / "in").mkdir()
        # With ids of their own, records have the same seeds in every run.
        lines = [{"id": str(n), "text": TEXT, **record} for n, record in enumerate(records)]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "in" / "records.jsonl").write_text(text)
        given = {"input": {"uri": f"file://{folder}/in/*.jsonl", "idColumn": "id"}}
    server = {"url": llm.url, "model": llm.model}
    common = {"limits": {"concurrency": 1}, "sampling": SAMPLING}
    spec = runs.a_run(
        folder,
        models=[
            {"name": "generator", "external": {**server, "extraBody": SHORT_JSON}, **common},
            {"name": "writer", "external": server, **common},
        ],
        pipeline=list(pipeline),
        failurePolicy={"maxFailedRecordsPercent": 100},
        **given,
    )
    context = runs.a_context(spec)
    mounts = Mounts(config_maps={"plugins": EXAMPLES / "data"})
    environment = dataclasses.replace(context.environment, mounts=mounts)
    context = dataclasses.replace(context, environment=environment)
    await run.run_phase(context, run.PhaseRequest(RunnerPhase.ALL))
    for failed in runs.read_errors(folder / "out"):
        print(failed)  # shown where there are too few rows
        assert failed["kind"]
        assert failed["message"]
    return runs.read_rows(folder / "out")


async def test_documents_become_text(tmp_path: Path, real_llm: EmbeddedServer) -> None:
    no_limits = {"minDocumentTokens": 0, "minSegmentTokens": 0, "minOutputTokens": 0}
    recipe = {**WRITER, **no_limits, "onNothing": "Keep", "sampling": {"stop": ["."]}}
    text = {**recipe, "output": "Text"}
    pipeline: list[dict[str, Any]] = [
        {"segment": {"maxTokens": 100, "minTokens": 0}},
        {"wikipediaRewrite": text},
        {"diverseQA": {**text, "pairs": 2}},
        {"distill": text},
        {"extractKnowledge": text},
        {"knowledgeList": recipe},
    ]
    rows = await make(tmp_path, real_llm, pipeline, {})
    assert {row["segment_id"] for row in rows} == {0}
    assert {row["text"] for row in rows} == {TEXT}
    made = ("rewritten", "diverse_qa", "distilled", "knowledge", "fact")
    found = [row[name] for row in rows for name in made]
    assert all(text is None or text.strip() for text in found)
    assert any(found)
    stages = [call["stage"] for call in rows[0]["provenance"]]
    # Lists that cannot be read are asked for twice.
    asked = list(dict.fromkeys(stage.split("-")[0] for stage in stages))
    assert asked == [next(iter(s)) for s in pipeline[1:]]


TOPICS = {"macroTopics": 0, "additionalSubtopics": ["adding"]}
FROM_NOTHING = {
    "openQA": {
        "macroTopics": 1,
        "subtopics": 1,
        "combineTopics": False,
        "questions": 1,
        "revisions": 1,
    },
    "math": {**TOPICS, "problems": 1, "schoolLevel": "primary school"},
    "coding": {**TOPICS, "problems": 1},
    "writing": {"topics": ["bread"], "materials": ["poem"], "tasks": 1, "revisions": 0},
}


@pytest.mark.parametrize("kind", FROM_NOTHING)
async def test_opening_lines_from_nothing(
    tmp_path: Path, real_llm: EmbeddedServer, kind: str
) -> None:
    rows = await make(tmp_path, real_llm, [{kind: FROM_NOTHING[kind]}])
    assert len(rows) == 1
    assert all(row["question"].strip() and row["topic"].strip() for row in rows)


async def test_question_with_answer_from_nothing(tmp_path: Path, real_llm: EmbeddedServer) -> None:
    stage = {"languages": ["English"], "samples": 1, "topics": ["bread"]}
    rows = await make(tmp_path, real_llm, [{"multilingualQA": stage}])
    assert len(rows) == 1
    for row in rows:
        assert (row["language"], row["topic"]) == ("English", "bread")
        assert row["question"].strip()
        assert row["answer"].strip()


CRITERIA = [{"name": "truth", "description": "Is it true?", "min": 0, "max": 100}]


# Part of a sentence, and not cut off.
WHOLE = {"maxTokens": 64, "stop": [".", ",", "!", "?"]}
IN_BRIEF = {**WRITER, "sampling": WHOLE, "useDocument": False}


async def test_question_is_answered_and_scored(tmp_path: Path, real_llm: EmbeddedServer) -> None:
    pipeline: Stages = [
        {"dialogue": {**IN_BRIEF, "userTurns": 1}},
        {"answer": IN_BRIEF},
        {"score": {"criteria": CRITERIA, "useDocument": False, "explanationColumn": "why"}},
        {"filter": {"where": "0 <= score <= 1"}},
    ]
    (row,) = await make(tmp_path, real_llm, pipeline, {"question": QUESTION})
    roles = [message["role"] for message in json.loads(row["messages"])]
    assert (roles, row["turns"], row["ended_by"]) == (["user", "assistant"], 1, "UserTurns")
    assert row["answer"].strip()
    assert json.loads(row["scores"]) == {"truth": round(100 * row["score"])}
    assert isinstance(row["why"], str)


async def test_user_asks_again(tmp_path: Path, real_llm: EmbeddedServer) -> None:
    # A user who says the same again makes no row, and one of this size may: hence two of them.
    questions = ({"question": QUESTION}, {"question": "Who are you?"})
    stage = {"twoTurnPrompt": {**IN_BRIEF, "userSampling": WHOLE}}
    rows = await make(tmp_path, real_llm, [stage], *questions)
    assert rows
    for row in rows:
        roles = [message["role"] for message in json.loads(row["messages"])]
        assert (roles, row["turns"]) == (["user", "assistant", "user"], 2)


async def test_pairs_of_answers_are_judged(tmp_path: Path, real_llm: EmbeddedServer) -> None:
    stage = {
        **IN_BRIEF,
        "judgeModel": "generator",
        "answers": 2,
        "sampling": {"temperature": 1.2, **WHOLE},
        "criteria": CRITERIA,
    }
    rows = await make(tmp_path, real_llm, [{"preferencePairs": stage}], {"question": QUESTION})
    for row in rows:
        assert row["chosen"] != row["rejected"]
        assert row["chosen_score"] - row["rejected_score"] == pytest.approx(row["margin"])
        assert len(json.loads(row["answers"])) == 2
    # Of equal scores comes no pair, and a judge of this size may find all answers alike.
    assert len(rows) <= 1


async def test_labels_and_languages(tmp_path: Path, real_llm: EmbeddedServer) -> None:
    classes = [{"name": "food", "description": "what is eaten"}, {"name": "place"}]
    labels = {"type": "Label", "labels": ["old", "new"], "column": "age"}
    pipeline: Stages = [
        {"classifyEntity": {"classes": classes}},
        {"prompt": {"user": {"inline": "Is {{ entity }} old or new?"}, "output": labels}},
        {
            "translate": {
                "languages": ["German"],
                "columns": ["entity"],
                **WRITER,
                "sampling": {"stop": [" "]},
            }
        },
    ]
    (row,) = await make(tmp_path, real_llm, pipeline, {"entity": "bread"})
    assert row["label"] in ("food", "place")
    assert row["label_answer"]
    assert row["age"] in ("old", "new")
    assert row["language"] == "German"
    assert row["entity_translated"].strip()


async def test_plugin_asks_for_lists(tmp_path: Path, real_llm: EmbeddedServer) -> None:
    plugin = {
        "file": {"configMapKeyRef": {"name": "plugins", "key": "headlines.py"}},
        "parameters": {"count": 2},
        "outputColumns": ["headline", "characters"],
    }
    rows = await make(tmp_path, real_llm, [{"plugin": plugin}], {})
    assert rows
    assert all(row["characters"] == len(row["headline"]) > 0 for row in rows)
