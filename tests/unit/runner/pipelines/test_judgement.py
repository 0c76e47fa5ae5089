"""score and preferencePairs over what judges say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kubesynth_api.meta import PromptText
from kubesynth_api.v1alpha1.pipeline import Stage as StageSpec
from kubesynth_runner import records
from kubesynth_runner.llm.base import Completion, TokenUsage
from kubesynth_runner.llm.errors import ErrorKind
from kubesynth_runner.pipelines import registry
from kubesynth_runner.pipelines.base import ModelFailure, StageFailure, Steps
from kubesynth_runner.pipelines.compiling import CompileContext
from kubesynth_testing.scripted_llm import ScriptedLlm, refusal

Answer = str | Completion | Exception
CRITERIA = [
    {"name": "truth", "description": "Is it true?", "min": 1, "max": 5, "weight": 3},
    {"name": "style", "description": "Is it well written?", "min": 0, "max": 10},
]
ASKED = {"question": "Why?", "answer": "It rains."}
TALK = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "It rains."}]


def compiled(wire: dict[str, Any]) -> Steps:
    def read(prompt: PromptText) -> str:
        assert prompt.inline is not None
        return prompt.inline

    return registry.compile_stage(StageSpec.model_validate(wire), CompileContext("text", read))


async def run(
    llm: ScriptedLlm, wire: dict[str, Any], columns: dict[str, Any]
) -> list[records.Columns]:
    """Return the columns of what comes out of all steps."""
    source = records.Source("file:///a", 1)
    level = [columns]
    for step in compiled(wire).steps:
        out = []
        for given in level:
            record = records.Record("r", None, "r", (), given, source)
            out += [{**given, **made} async for made in step.stage.run(record, llm)]
        level = out
    return level


def judgement(truth: int, style: int) -> str:
    scores = {"truth": truth, "style": style}
    return json.dumps({"explanation": " Short. ", "scores": scores})


class Broken(ModelFailure):
    kind = ErrorKind.BAD_REQUEST


async def test_scores_become_columns() -> None:
    wire = {"criteria": CRITERIA, "criterionColumns": True, "explanationColumn": "why"}
    llm = ScriptedLlm([judgement(5, 5)], json_schema=True)
    (made,) = await run(llm, {"score": wire}, ASKED)
    assert made["scores"] == {"truth": 5, "style": 5}
    assert (made["score_truth"], made["score_style"], made["why"]) == (5.0, 5.0, "Short.")
    # Three parts of 1.0, one part of 0.5.
    assert made["score"] == pytest.approx(0.875)
    (step,) = compiled({"score": wire}).steps
    assert set(made) == {*step.stage.columns, *ASKED}
    assert step.sampling.temperature == 0
    prompt = llm.asked[0][1].content
    assert "truth, from 1 to 5: Is it true?" in prompt
    assert "<user>\nWhy?\n</user>" in prompt
    assert "<answer>\nIt rains.\n</answer>" in prompt
    form = prompt[prompt.index('{"explanation"') :]
    assert form == '{"explanation": "...", "scores": {"truth": ..., "style": ...}}'
    schema = llm.formats[0].schema if llm.formats[0] else {}
    assert list(schema["properties"]) == ["explanation", "scores"]


async def test_without_a_rubric_the_usual_attributes_are_scored() -> None:
    names = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
    answer = {"explanation": "", "scores": dict(zip(names, (4, 4, 4, 0, 0), strict=True))}
    llm = ScriptedLlm(["Here it is:\n```json\n" + json.dumps(answer) + "\n```"])
    (made,) = await run(llm, {"score": {}}, ASKED)
    assert tuple(made["scores"]) == names
    assert made["score"] == 1.0  # complexity and verbosity are no merits
    assert "why" not in made


async def test_a_conversation_is_judged_by_its_last_answer() -> None:
    llm = ScriptedLlm([judgement(1, 0)])
    wire = {"criteria": CRITERIA, "messagesColumn": "messages"}
    talk = [*TALK, {"role": "user", "content": "And?"}, {"role": "assistant", "content": "Stops."}]
    (made,) = await run(llm, {"score": wire}, {"messages": talk})
    assert made["score"] == 0.0
    assert "<answer>\nStops.\n</answer>" in llm.asked[0][1].content
    assert "<assistant>\nIt rains.\n</assistant>" in llm.asked[0][1].content


async def test_a_judgement_off_the_scale_is_asked_for_again() -> None:
    llm = ScriptedLlm([judgement(9, 5), judgement(3, 5)])
    (made,) = await run(llm, {"score": {"criteria": CRITERIA}}, ASKED)
    assert made["scores"]["truth"] == 3
    assert "9 is greater than the maximum of 5" in llm.asked[1][-1].content


@pytest.mark.parametrize(
    ("columns", "answers", "kind"),
    [
        pytest.param(ASKED, ["It is good.", "Very good."], "UnparsableCompletion", id="prose"),
        pytest.param(ASKED, [refusal()], "Refusal", id="refusal"),
        pytest.param({"question": "Why?", "answer": " "}, [], "BadInput", id="no-answer"),
        pytest.param({"question": None, "answer": "So."}, [], "BadInput", id="no-question"),
    ],
)
async def test_what_cannot_be_scored_fails(
    columns: dict[str, Any], answers: list[Answer], kind: str
) -> None:
    with pytest.raises(StageFailure) as caught:
        await run(ScriptedLlm(answers), {"score": {"criteria": CRITERIA}}, columns)
    assert caught.value.kind == kind


@pytest.mark.parametrize("talk", [TALK[:1], TALK[1:]])
async def test_a_conversation_without_an_answer_cannot_be_scored(talk: list[Any]) -> None:
    wire = {"score": {"messagesColumn": "messages"}}
    with pytest.raises(StageFailure, match="ends without an answer"):
        await run(ScriptedLlm([]), wire, {"messages": talk})


def pairs(**fields: Any) -> dict[str, Any]:
    return {"preferencePairs": {"answers": 3, "criteria": CRITERIA, **fields}}


async def test_best_and_worst_answer_make_a_pair() -> None:
    answers = ["One.", "Two.", "Three."]
    scores = [judgement(3, 5), judgement(5, 10), judgement(1, 0)]
    llm = ScriptedLlm([*answers, *scores])
    (made,) = await run(llm, pairs(), {"question": "Why?"})
    assert (made["chosen"], made["rejected"]) == ("Two.", "Three.")
    assert (made["chosen_score"], made["rejected_score"], made["margin"]) == (1.0, 0.0, 1.0)
    assert [answer["answer"] for answer in made["answers"]] == answers
    assert made["answers"][0]["scores"] == {"truth": 3, "style": 5}
    assert len(llm.asked) == 6
    first, second = compiled(pairs()).steps
    assert (first.fields, second.fields) == (("model",), ("judgeModel",))
    assert (first.cost.calls, second.cost.calls) == (3, 3)


async def test_pairs_that_are_too_close_or_too_bad_are_dropped() -> None:
    answers = ["One.", "Two.", "Three."]
    low = [judgement(1, 1), judgement(1, 0), judgement(2, 0)]
    question = {"question": "Why?"}
    equal = [judgement(3, 5)] * 3
    assert await run(ScriptedLlm([*answers, *equal]), pairs(), question) == []
    assert await run(ScriptedLlm([*answers, *low]), pairs(minMargin=0.5), question) == []
    assert await run(ScriptedLlm([*answers, *low]), pairs(minChosenScore=0.5), question) == []
    assert len(await run(ScriptedLlm([*answers, *low]), pairs(), question)) == 1


async def test_equal_answers_are_not_paid_for_twice() -> None:
    llm = ScriptedLlm(["One.", "one. ", "ONE."])
    assert await run(llm, pairs(), {"question": "Why?"}) == []
    assert len(llm.asked) == 3


async def test_an_answer_that_was_cut_off_is_in_no_pair() -> None:
    cut_off = Completion("The best, but", "length", TokenUsage(), "fake")
    answers: list[Answer] = [cut_off, "Two.", "Three."]
    scores = [judgement(3, 5), judgement(1, 5)]
    (made,) = await run(ScriptedLlm([*answers, *scores]), pairs(), {"question": "Why?"})
    assert (made["chosen"], made["rejected"]) == ("Two.", "Three.")
    assert [answer["answer"] for answer in made["answers"]] == ["Two.", "Three."]
    with pytest.raises(StageFailure, match="maxTokens") as caught:
        await run(ScriptedLlm([cut_off, cut_off, "Three."]), pairs(), {"question": "Why?"})
    assert caught.value.kind == "TruncatedCompletion"


async def test_one_failure_does_not_spoil_the_other_answers() -> None:
    answers: list[Answer] = [Broken(), "Two.", "Three."]
    scores = [judgement(5, 5), judgement(1, 5)]
    (made,) = await run(ScriptedLlm([*answers, *scores]), pairs(), {"question": "Why?"})
    assert made["chosen"] == "Two."
    answers = ["One.", "Two.", "Three.", judgement(5, 5), Broken(), judgement(1, 5)]
    (made,) = await run(ScriptedLlm(answers), pairs(), {"question": "Why?"})
    assert (made["chosen"], made["rejected"]) == ("One.", "Three.")
    with pytest.raises(Broken):
        await run(ScriptedLlm([Broken(), "Two.", refusal()]), pairs(), {"question": "Why?"})


async def test_a_conversation_that_ends_with_the_user_is_gone_on_with() -> None:
    talk = [*TALK, {"role": "user", "content": "And then?"}]
    llm = ScriptedLlm(["One.", "Two.", judgement(5, 5), judgement(1, 1)])
    wire = pairs(messagesColumn="messages", answers=2)
    (made,) = await run(llm, wire, {"messages": json.dumps(talk)})
    assert [m.role for m in llm.asked[0]] == ["system", "user", "assistant", "user"]
    assert made["chosen"] == "One."
    with pytest.raises(StageFailure, match="does not end with the user"):
        await run(ScriptedLlm([]), wire, {"messages": TALK})
