"""The stages over answers as models give them, compiled from manifests as users write them."""

from __future__ import annotations

from typing import Any

import pytest

from kubesynth_api.meta import PromptText
from kubesynth_api.v1alpha1.pipeline import Stage as StageSpec
from kubesynth_api.v1alpha1.storage import InputSpec
from kubesynth_runner import errors, records
from kubesynth_runner.llm.base import Completion
from kubesynth_runner.pipelines import registry
from kubesynth_runner.pipelines.base import Stage, StageFailure
from kubesynth_runner.pipelines.compiling import CompileContext
from kubesynth_testing.scripted_llm import ScriptedLlm, refusal

SOURCE = records.Source("file:///a", 1)


def stage(wire: dict[str, Any], **source: Any) -> Stage:
    def read(prompt: PromptText) -> str:
        assert prompt.inline is not None
        return prompt.inline

    spec = InputSpec.model_validate({"uri": "file:///a", **source})
    context = CompileContext(spec.text_column, read)
    (step,) = registry.compile_stage(StageSpec.model_validate(wire), context).steps
    return step.stage


async def run(compiled: Stage, columns: dict[str, Any], llm: ScriptedLlm) -> list[records.Columns]:
    record = records.Record("r", None, "r", (), columns, SOURCE)
    return [made async for made in compiled.run(record, llm)]


async def failure(compiled: Stage, columns: dict[str, Any], *answers: str | Completion) -> str:
    with pytest.raises(StageFailure) as caught:
        await run(compiled, columns, ScriptedLlm(answers))
    return caught.value.kind


async def test_closed_qa_makes_a_record_of_each_question() -> None:
    llm = ScriptedLlm(["1. A?\n2. B?"])
    compiled = stage({"closedQA": {"questions": 2}})
    assert await run(compiled, {"text": "About mills."}, llm) == [
        {"question": "A?"},
        {"question": "B?"},
    ]
    system, user = llm.asked[0]
    assert (system.role, user.role) == ("system", "user")
    assert '"""\nAbout mills.\n"""' in user.content
    assert "Write 2 different questions" in user.content
    assert compiled.columns == {"question": "string"}


async def test_closed_qa_asks_for_one_question_in_the_singular() -> None:
    llm = ScriptedLlm(["What is a mill?"])
    compiled = stage({"closedQA": {"questions": 1}})
    assert await run(compiled, {"text": "t"}, llm) == [{"question": "What is a mill?"}]
    assert "Write 1 different question about" in llm.asked[0][1].content


async def test_short_list_is_taken_or_fails_as_told() -> None:
    accepting = stage({"closedQA": {"questions": 3}})
    assert len(await run(accepting, {"text": "t"}, ScriptedLlm(["1. A?"]))) == 1
    strict = stage({"closedQA": {"questions": 3, "onShortList": "Fail"}})
    assert await failure(strict, {"text": "t"}, "1. A?") == "TooFewItems"


async def test_closed_qa_takes_the_users_prompts_and_every_column() -> None:
    prompts = {"system": {"inline": "{{ lang }}"}, "user": {"inline": "{{ questions }} {{ body }}"}}
    llm = ScriptedLlm(["1. A?"])
    compiled = stage({"closedQA": {"questions": 4, "prompts": prompts}}, textColumn="body")
    await run(compiled, {"body": "b", "lang": "de"}, llm)
    assert [message.content for message in llm.asked[0]] == ["de", "4 b"]


@pytest.mark.parametrize("text", [None, 7, " "])
async def test_closed_qa_without_a_document_fails(text: Any) -> None:
    assert await failure(stage({"closedQA": {}}), {"text": text}) == "BadInput"


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        pytest.param(["I am sorry.", "I am sorry."], "UnparsableCompletion", id="excuses"),
        pytest.param([refusal()], "Refusal", id="refusal"),
        pytest.param(["\n"], "EmptyCompletion", id="blank"),
        pytest.param(["[" * 9999, "{" * 9999], "UnparsableCompletion", id="brackets"),
    ],
)
async def test_closed_qa_fails_with_a_reason(answers: list[str | Completion], kind: str) -> None:
    assert await failure(stage({"closedQA": {}}), {"text": "t"}, *answers) == kind


async def test_answer_shows_the_document_where_there_is_one() -> None:
    llm = ScriptedLlm([" So. \n"])
    compiled = stage({"answer": {}})
    made = await run(compiled, {"text": "About mills.", "question": "Why?"}, llm)
    assert made == [{"answer": "So."}]
    assert "About mills." in llm.asked[0][1].content
    assert "Question: Why?" in llm.asked[0][1].content
    assert compiled.columns == {"answer": "string"}


async def test_answer_to_a_question_that_is_the_input_itself_has_no_document() -> None:
    llm = ScriptedLlm(["So."])
    compiled = stage({"answer": {}}, textColumn="question")
    await run(compiled, {"question": "Why?"}, llm)
    assert llm.asked[0][1].content == "Why?"
    assert "given text" not in llm.asked[0][0].content


async def test_answer_columns_can_be_renamed_and_the_document_left_out() -> None:
    wire = {"questionColumn": "q", "answerColumn": "a", "useDocument": False}
    llm = ScriptedLlm(["So."])
    assert await run(stage({"answer": wire}), {"text": "secret", "q": "Why?"}, llm) == [
        {"a": "So."}
    ]
    assert "secret" not in str(llm.asked)


@pytest.mark.parametrize("question", [None, 7, "  "])
async def test_answer_without_a_question_fails(question: Any) -> None:
    assert await failure(stage({"answer": {}}), {"text": "t", "question": question}) == "BadInput"


@pytest.mark.parametrize(("answer", "kind"), [(refusal(), "Refusal"), (" ", "EmptyCompletion")])
async def test_answer_fails_with_a_reason(answer: str | Completion, kind: str) -> None:
    assert await failure(stage({"answer": {}}), {"text": "t", "question": "q"}, answer) == kind


def prompt(output: dict[str, Any] | None = None, **wire: Any) -> Stage:
    fields = {"user": {"inline": "About {{ text }}"}, "output": output or {}, **wire}
    return stage({"prompt": fields})


async def test_prompt_makes_a_text() -> None:
    compiled = prompt({"column": "poem"})
    assert await run(compiled, {"text": "t"}, ScriptedLlm(["Roses."])) == [{"poem": "Roses."}]
    assert compiled.columns == {"poem": "string"}


async def test_prompt_shows_examples_between_system_and_user() -> None:
    examples = [{"user": "About sea", "assistant": "Waves."}]
    llm = ScriptedLlm(["Roses."])
    await run(prompt(system={"inline": "Rhyme."}, examples=examples), {"text": "t"}, llm)
    assert [(m.role, m.content) for m in llm.asked[0]] == [
        ("system", "Rhyme."),
        ("user", "About sea"),
        ("assistant", "Waves."),
        ("user", "About t"),
    ]


async def test_prompt_makes_a_record_of_each_item() -> None:
    compiled = prompt({"type": "List", "column": "topic", "count": 2})
    made = await run(compiled, {"text": "t"}, ScriptedLlm(["- a\n- b\n- c"]))
    assert made == [{"topic": "a"}, {"topic": "b"}]


@pytest.mark.parametrize(
    ("form", "items"),
    [
        ({}, ["One\nAbout it.", "Two\n- More."]),
        ({"itemForm": "Titles"}, ["One", "Two"]),
        ({"itemForm": "Leaves"}, ["About it.", "More."]),
    ],
)
async def test_items_are_whole_or_what_is_taken_of_them(
    form: dict[str, str], items: list[str]
) -> None:
    compiled = prompt({"type": "List", "column": "item", **form})
    llm = ScriptedLlm(["1. **One**\n   About it.\n2. **Two**\n   - More."])
    assert [row["item"] for row in await run(compiled, {"text": "t"}, llm)] == items


async def test_prompt_makes_columns_of_properties() -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer"},
            "score": {"type": "number"},
            "ok": {"type": "boolean"},
            "tags": {"type": "array"},
            "any": {},
            "either": {"type": ["string", "null"]},
        },
        "required": ["name"],
    }
    compiled = prompt({"type": "JSON", "jsonSchema": schema})
    assert compiled.columns == {
        "name": "string",
        "age": "integer",
        "score": "number",
        "ok": "boolean",
        "tags": "json",
        "any": "json",
        "either": "json",
    }
    answer = '{"name": "Ann", "tags": [1], "extra": 1}'
    (made,) = await run(compiled, {"text": "t"}, ScriptedLlm([answer]))
    assert made == {
        "name": "Ann",
        "age": None,
        "score": None,
        "ok": None,
        "tags": [1],
        "any": None,
        "either": None,
    }


async def test_prompt_with_a_missing_variable_fails_the_record() -> None:
    assert await failure(prompt(), {}) == "TemplateError"


def test_broken_template_is_a_configuration_error_with_its_line() -> None:
    with pytest.raises(errors.ConfigurationError, match="stage prompt: line 2"):
        prompt(user={"inline": "one\n{{ two"})


def test_stages_are_named_by_the_user_or_by_their_place() -> None:
    assert StageSpec.model_validate({"id": "mine", "answer": {}}).effective_id(3) == "mine"
    assert StageSpec.model_validate({"answer": {}}).effective_id(3) == "answer-3"
