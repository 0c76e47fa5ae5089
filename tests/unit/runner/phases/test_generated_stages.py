"""Stages that start from nothing: what they ask, how often, and the rows that come out."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kubesynth_api.run_spec import RunSpec
from kubesynth_api.runner_contract import RunnerPhase, TerminationMessage
from kubesynth_runner import clients
from kubesynth_runner import run as runner
from kubesynth_runner.llm.base import CompletionRequest
from kubesynth_runner.llm.fake import FakeChatClient
from kubesynth_runner.run import PhaseRequest
from kubesynth_testing import runs


def reply(request: CompletionRequest) -> str:
    """Answer as a pure function of the request: a list, or a question with its answer."""
    schema = request.response_format.schema if request.response_format else {}
    if "scores" in schema.get("properties", {}):
        digest = hashlib.sha256(request.messages[-1].content.encode()).digest()
        names = schema["properties"]["scores"]["required"]
        scores = {name: byte % 5 for name, byte in zip(names, digest, strict=False)}
        return json.dumps({"explanation": "So.", "scores": scores})
    if "answer" in schema.get("properties", {}):
        return json.dumps({"question": f"{request.messages[-1].content} ?", "answer": " So. "})
    return runs.reply(request)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeChatClient:
    """Stand in for the model."""
    fake = FakeChatClient(reply)
    monkeypatch.setattr(clients, "OpenAIChatClient", lambda _endpoint: fake)
    return fake


def a_job(folder: Path, stage: dict[str, Any], *more: dict[str, Any], **spec: Any) -> RunSpec:
    return runs.a_run(folder, input=None, pipeline=[stage, *more], **spec)


async def finish(spec: RunSpec) -> TerminationMessage:
    return await runner.run_phase(runs.a_context(spec), PhaseRequest(RunnerPhase.ALL))


def prompts(client: FakeChatClient, text: str) -> list[str]:
    """Return the prompts, system and user together, that contain a text."""
    asked = ["\n".join(m.content for m in request.messages) for request in client.requests]
    return [prompt for prompt in asked if text in prompt]


@pytest.mark.parametrize("distinct", [True, False])
async def test_math_problems_know_their_school_level(
    tmp_path: Path, client: FakeChatClient, distinct: bool
) -> None:
    math = {"macroTopics": 2, "subtopics": 3, "problems": 2, "schoolLevel": "middle school"}
    await finish(a_job(tmp_path, {"math": {**math, "distinct": distinct}}))
    rows = runs.read_rows(tmp_path / "out")
    topics = 2 * 3 + 2
    assert len(rows) == len({row["question"] for row in rows}) == topics * 2
    # 1 + M + T; each of them says for whom.
    assert len(client.requests) == 1 + 2 + topics == len(prompts(client, "middle school"))
    assert all("Go from routine" in prompt for prompt in prompts(client, "Write 2 different"))
    assert all(row["macro_topic"] and row["topic"] for row in rows)
    assert not any("{#" in prompt for prompt in prompts(client, ""))


async def test_beginners_get_first_exercises(tmp_path: Path, client: FakeChatClient) -> None:
    tree = {"macroTopics": 0, "additionalSubtopics": ["Fractions"], "problems": 1}
    await finish(a_job(tmp_path, {"math": {**tree, "level": "Beginner"}}))
    assert len(client.requests) == len(prompts(client, "only just met the topic")) == 1


@pytest.mark.parametrize(
    ("level", "said"),
    [
        ("Beginner", "has just begun"),
        ("Intermediate", "for some time"),
        ("Advanced", "knows the language thoroughly"),
    ],
)
async def test_coding_problems_are_for_a_language_and_a_level(
    tmp_path: Path, client: FakeChatClient, level: str, said: str
) -> None:
    coding = {"macroTopics": 2, "subtopics": 0, "problems": 1, "language": "Rust", "level": level}
    await finish(a_job(tmp_path, {"coding": coding}))
    assert len(prompts(client, "Rust")) == len(client.requests) == 1 + 2
    assert len(prompts(client, said)) == 2
    assert len(runs.read_rows(tmp_path / "out")) == 2


async def test_writing_pairs_cost_nothing(tmp_path: Path, client: FakeChatClient) -> None:
    writing = {
        "topics": ["Bees", "Locks", "bees"],
        "materials": ["poem", "letter"],
        "tasks": 3,
        "revisions": 2,
        "keepOriginals": True,
    }
    await finish(a_job(tmp_path, {"writing": writing}, shards={"count": 2}))
    rows = runs.read_rows(tmp_path / "out")
    tasks = 2 * 2 * 3
    assert len(client.requests) == 2 * 2 + tasks
    assert len(rows) == tasks * (1 + 2)
    pairs = Counter((row["topic"], row["material"]) for row in rows)
    assert pairs == dict.fromkeys(
        [(topic, text) for topic in ("Bees", "Locks") for text in ("poem", "letter")], 9
    )
    originals = {row["question"] for row in rows if row["original_question"] is None}
    assert len(originals) == tasks
    assert {row["original_question"] for row in rows} == originals | {None}


async def test_samples_of_a_language_are_dealt_over_topics(
    tmp_path: Path, client: FakeChatClient
) -> None:
    stage = {
        "languages": ["German", "Swahili"],
        "samplesPerLanguage": 5,
        "topics": ["Bees", "Locks"],
    }
    await finish(a_job(tmp_path, {"multilingualQA": stage}, shards={"count": 2}))
    rows = runs.read_rows(tmp_path / "out")
    assert len(rows) == len(client.requests) == len({row["question"] for row in rows}) == 10
    assert Counter(row["language"] for row in rows) == {"German": 5, "Swahili": 5}
    counts = Counter((row["language"], row["topic"]) for row in rows)
    assert sorted(counts.values()) == [2, 2, 3, 3]
    assert {row["answer"] for row in rows} == {"So."}
    assert "number" not in rows[0]
    assert client.requests[0].sampling["temperature"] == 0.9


async def test_languages_are_drawn_by_the_seed_alone(
    tmp_path: Path, client: FakeChatClient
) -> None:
    stage = {"multilingualQA": {"languages": ["German", "Swahili", "Thai"], "samples": 30}}
    drawn = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        await finish(a_job(tmp_path / name, stage, seed=seed))
        rows = runs.read_rows(tmp_path / name / "out")
        drawn.append(Counter((row["language"], row["topic"]) for row in rows))
        assert len(rows) == 30
        assert all(count == 1 for count in drawn[-1].values())
    assert drawn[0] == drawn[1] != drawn[2]


async def test_openqa_can_keep_the_questions_as_they_were(
    tmp_path: Path, client: FakeChatClient
) -> None:
    tree = {"macroTopics": 1, "subtopics": 0, "questions": 2, "revisions": 3, "keepOriginals": True}
    await finish(a_job(tmp_path, {"openQA": tree}))
    rows = runs.read_rows(tmp_path / "out")
    assert len(rows) == 2 * (1 + 3)
    assert Counter(row["original_question"] is None for row in rows) == {True: 2, False: 6}


async def test_a_pair_in_a_broken_form_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(
        ["Frage: Was?", 'Gern!\n```json\n{"question": "Was?", "answer": "Das.\nSo."}\n```']
    )
    client = FakeChatClient(lambda _request: next(answers), json_schema=False)
    monkeypatch.setattr(clients, "OpenAIChatClient", lambda _endpoint: client)
    stage = {"languages": ["German"], "samples": 1}
    await finish(a_job(tmp_path, {"multilingualQA": stage}))
    (row,) = runs.read_rows(tmp_path / "out")
    assert (row["question"], row["answer"], row["language"]) == ("Was?", "Das.\nSo.", "German")


async def test_from_topics_to_the_best_dialogues_in_one_job(
    tmp_path: Path, client: FakeChatClient
) -> None:
    spec = a_job(
        tmp_path,
        {"openQA": {"macroTopics": 2, "subtopics": 1, "questions": 2, "revisions": 2}},
        {"dialogue": {"userTurns": 2, "userModel": "user"}},
        {"score": {"model": "judge", "messagesColumn": "messages"}},
        {"filter": {"where": "scores.helpfulness >= 3"}},
        models=[
            {**runs.a_model("http://127.0.0.1:9/v1"), "name": n} for n in ("a", "user", "judge")
        ],
        shards={"count": 2},
    )
    message = await finish(spec)
    rows = runs.read_rows(tmp_path / "out")
    questions = 2 * (1 + 1) * 2
    assert message.totals is not None
    records = message.totals.records
    assert (records.accepted, records.failed) == (len(rows), 0)
    assert 0 < len(rows) == 2 * questions - records.filtered < 2 * questions
    assert len(client.requests) == 1 + 2 + 4 + questions + 2 * questions * (3 + 1)
    for row in rows:
        messages = (
            json.loads(row["messages"]) if isinstance(row["messages"], str) else row["messages"]
        )
        assert messages[0]["content"] == row["question"]
        assert (len(messages), row["turns"], row["ended_by"]) == (4, 2, "UserTurns")
        assert row["topic"]
        assert row["macro_topic"]
        stages = [call["stage"] for call in row["provenance"]]
        assert stages[-5:] == ["openQA-0/revisions", *["dialogue-1"] * 3, "score-2"]
        assert stages[0] == "openQA-0/macro-topics"


async def test_preference_pairs_of_math_problems(tmp_path: Path, client: FakeChatClient) -> None:
    math = {"macroTopics": 1, "subtopics": 0, "problems": 4}
    spec = a_job(
        tmp_path,
        {"math": math},
        {"twoTurnPrompt": {}},
        {"preferencePairs": {"answers": 3, "messagesColumn": "messages", "minMargin": 0.1}},
    )
    message = await finish(spec)
    rows = runs.read_rows(tmp_path / "out")
    assert message.totals is not None
    assert len(rows) + message.totals.records.filtered == 4
    assert rows
    assert len(client.requests) == 1 + 1 + 4 * (2 + 3 + 3)
    for row in rows:
        assert row["chosen"] != row["rejected"]
        assert row["margin"] == pytest.approx(row["chosen_score"] - row["rejected_score"])
        assert row["margin"] >= 0.1
        # The two calls of the prompt, the answers, their scores.
        assert len(row["provenance"]) == 2 + 2 + 3 + 3


async def test_plans_estimate_counts_what_plan_has_spent(
    tmp_path: Path, client: FakeChatClient
) -> None:
    tree = {"macroTopics": 2, "subtopics": 1, "questions": 2, "revisions": 3}
    spec = a_job(tmp_path, {"openQA": tree})
    request = PhaseRequest(RunnerPhase.PLAN)
    message = await runner.run_phase(runs.a_context(spec), request)
    questions = 2 * (1 + 1) * 2
    assert len(client.requests) == 1 + 2 + 4
    assert message.estimate is not None
    assert message.estimate.calls == 1 + 2 + 4 + questions
    assert message.estimate.rows == questions * 3
    assert message.estimate.tokens == pytest.approx(
        questions * (120 + 3 * 80)
        + sum(len(m.content.split()) for call in client.requests for m in call.messages),
        rel=0.1,
    )
    again = await runner.run_phase(runs.a_context(spec), request)
    assert again.estimate == message.estimate
