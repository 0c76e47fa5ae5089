from __future__ import annotations

import jsonschema
import pytest

from kubesynth_runner.llm.base import Completion, Message, TokenUsage
from kubesynth_runner.pipelines import structured
from kubesynth_runner.pipelines.base import StageFailure
from kubesynth_runner.pipelines.structured import ListRequest
from kubesynth_testing.scripted_llm import ScriptedLlm, refusal

PROMPT = (Message("user", "Three questions!"),)
THREE = ListRequest("questions", 3)
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}


async def test_list_is_asked_for_by_schema_where_the_server_can() -> None:
    llm = ScriptedLlm(['{"questions": ["A?", "B?", "C?"]}'], json_schema=True)
    items = await structured.ask_list(llm, PROMPT, THREE)
    assert items == ["A?", "B?", "C?"]
    (asked,) = llm.formats
    assert asked is not None
    jsonschema.validate({"questions": ["A?", "B?", "C?"]}, asked.schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"questions": ["A?"]}, asked.schema)


async def test_list_of_any_length_has_at_least_one_item() -> None:
    schema = ListRequest("items", None).response_format().schema
    jsonschema.validate({"items": ["a"] * 50}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"items": []}, schema)


async def test_list_is_read_out_of_text_where_it_cannot() -> None:
    llm = ScriptedLlm(["Sure:\n1. A?\n2. B?"])
    assert await structured.ask_list(llm, PROMPT, THREE) == ["A?", "B?"]
    assert llm.formats == [None]


async def test_items_beyond_the_count_and_repetitions_are_dropped() -> None:
    llm = ScriptedLlm(["1. A?\n2. a?\n3. B?\n4. C?\n5. D?"])
    items = await structured.ask_list(llm, PROMPT, THREE)
    assert items == ["A?", "B?", "C?"]


def cut_off(text: str) -> Completion:
    return Completion(text, "length", TokenUsage(), "fake")


async def test_an_item_that_was_cut_off_is_no_item() -> None:
    llm = ScriptedLlm([cut_off("1. A?\n2. B?\n3. What is the ma"), "1. C?"])
    wanted = ListRequest("questions", 3, "TopUp")
    assert await structured.ask_list(llm, PROMPT, wanted) == ["A?", "B?", "C?"]
    llm = ScriptedLlm(["1. A?\n2. B?", cut_off("1. C?\n2. What is"), "1. D?"])
    wanted = ListRequest("questions", 4, "TopUp")
    assert await structured.ask_list(llm, PROMPT, wanted) == ["A?", "B?", "C?", "D?"]


async def test_list_that_was_cut_off_at_once_says_so() -> None:
    llm = ScriptedLlm([cut_off("1. What is the"), cut_off('{"questions": ["What is')])
    with pytest.raises(StageFailure, match=r"cut off.*maxTokens") as caught:
        await structured.ask_list(llm, PROMPT, THREE)
    assert caught.value.kind == "TruncatedCompletion"


async def test_a_short_list_is_topped_up_until_it_is_long_enough() -> None:
    llm = ScriptedLlm(["1. A?", "1. a?\n2. B?", "1. C?\n2. D?"])
    wanted = ListRequest("questions", 3, "TopUp")
    assert await structured.ask_list(llm, PROMPT, wanted) == ["A?", "B?", "C?"]
    assert "2 more questions" in llm.asked[1][-1].content
    assert llm.asked[2][: len(PROMPT) + 2] == llm.asked[1][: len(PROMPT) + 2]
    assert "1 more questions" in llm.asked[2][-1].content


@pytest.mark.parametrize(
    "answer", ["1. a?", "", "No more of them come to mind.", "There are no further questions."]
)
async def test_topping_up_ends_when_nothing_new_comes(answer: str) -> None:
    for count in (2, 3):
        llm = ScriptedLlm(["1. A?", answer])
        wanted = ListRequest("questions", count, "TopUp")
        assert await structured.ask_list(llm, PROMPT, wanted) == ["A?"]


async def test_topping_up_ends_after_some_follow_ups() -> None:
    llm = ScriptedLlm(f"1. Question {n}?" for n in range(99))
    wanted = ListRequest("questions", 50, "TopUp")
    assert len(await structured.ask_list(llm, PROMPT, wanted)) == 1 + structured.MOST_FOLLOW_UPS


async def test_one_repair_shows_the_model_what_it_said() -> None:
    llm = ScriptedLlm(["I would rather talk about rivers.", "1. A?"])
    items = await structured.ask_list(llm, PROMPT, THREE)
    assert items == ["A?"]
    first, second = llm.asked
    assert first == PROMPT
    assert second[:2] == (*PROMPT, Message("assistant", "I would rather talk about rivers."))
    assert "exactly 3" in second[2].content


async def test_no_list_after_the_repair_is_a_failure_with_the_text() -> None:
    llm = ScriptedLlm(["Well.", "No."])
    with pytest.raises(StageFailure, match="no list of questions") as caught:
        await structured.ask_list(llm, PROMPT, THREE)
    assert (caught.value.kind, caught.value.raw) == ("UnparsableCompletion", "No.")


@pytest.mark.parametrize("answers", [[refusal()], ["Well.", refusal()]], ids=["first", "repair"])
async def test_refusal_is_a_failure_of_its_own(answers: list[str | Completion]) -> None:
    with pytest.raises(StageFailure) as caught:
        await structured.ask_list(ScriptedLlm(answers), PROMPT, THREE)
    assert (caught.value.kind, caught.value.raw) == ("Refusal", "I must not.")


async def test_blank_answer_is_a_failure_of_its_own() -> None:
    with pytest.raises(StageFailure) as caught:
        await structured.ask_list(ScriptedLlm([" \n"]), PROMPT, THREE)
    assert caught.value.kind == "EmptyCompletion"


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        pytest.param('{"name": "Ann", "age": 7}', {"name": "Ann", "age": 7}, id="plain"),
        pytest.param('```json\n{"name": "Ann"}\n```', {"name": "Ann"}, id="fenced"),
        pytest.param('Here: {"name": "Ann"} Enjoy {it}!', {"name": "Ann"}, id="in-words"),
        pytest.param('Set {x} is {"name": "Ann"}', {"name": "Ann"}, id="braces-before"),
        pytest.param('{"name": "Ann\nLee"}', {"name": "Ann\nLee"}, id="line-break-in-string"),
        pytest.param('{"name": "Ann", "age": 7.0}', {"name": "Ann", "age": 7.0}, id="whole-float"),
        pytest.param('{"name": "\\ud83d\\ude00"}', {"name": "😀"}, id="escaped-emoji"),
    ],
)
async def test_object_is_read_out_of_an_answer(answer: str, value: object) -> None:
    assert await structured.ask_json(ScriptedLlm([answer]), PROMPT, SCHEMA) == value


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        pytest.param("no object", "no JSON object", id="words"),
        pytest.param('["Ann"]', "no JSON object", id="list"),
        pytest.param('{"name": "An', "not JSON", id="cut-off"),
        pytest.param('{"name": "Ann", "x": {"name": "Bob"}', "not JSON", id="inner-one-is-whole"),
        pytest.param("{'name': 'Ann'}", "no JSON object", id="single-quotes"),
        pytest.param('{"name": 7}', r"at \$\.name", id="type"),
        pytest.param('{"name": "Ann", "age": -1}', r"at \$\.age", id="range"),
        pytest.param('{"age": 7}', "'name' is a required", id="missing"),
        pytest.param('{"name": "Ann", "more": 1}', "Additional properties", id="additional"),
        pytest.param('{"name": "\\ud83d"}', "surrogates not allowed", id="half-a-surrogate-pair"),
        pytest.param('{"name": NaN}', "NaN is no JSON", id="nan"),
        pytest.param('{"name":' * 50_000, "not JSON|nested too deeply", id="too-deep"),
        pytest.param('{"age": ' + "9" * 5000 + "}", "not JSON|does not fit", id="endless-number"),
    ],
)
async def test_what_does_not_fit_is_repaired_once_then_fails(answer: str, problem: str) -> None:
    llm = ScriptedLlm([answer, '{"name": "Ann"}'])
    assert await structured.ask_json(llm, PROMPT, SCHEMA) == {"name": "Ann"}
    assert llm.asked[1][1] == Message("assistant", answer)
    with pytest.raises(StageFailure, match=problem) as caught:
        await structured.ask_json(ScriptedLlm([answer, answer]), PROMPT, SCHEMA)
    assert (caught.value.kind, caught.value.raw) == ("UnparsableCompletion", answer)


async def test_schema_that_refers_to_itself_without_end_fails_the_record_alone() -> None:
    schema = {"type": "object", "properties": {"a": {"$ref": "#/properties/a"}}}
    llm = ScriptedLlm(['{"a": 1}'] * 2)
    with pytest.raises(StageFailure, match="nested too deeply"):
        await structured.ask_json(llm, PROMPT, schema)
