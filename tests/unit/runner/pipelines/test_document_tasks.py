"""The stages for documents, with scripted answers."""

from __future__ import annotations

from typing import Any

import pytest

from kubesynth_api.meta import PromptText
from kubesynth_api.v1alpha1.pipeline import Stage as StageSpec
from kubesynth_runner import records
from kubesynth_runner.llm.base import Completion, TokenUsage
from kubesynth_runner.pipelines import registry
from kubesynth_runner.pipelines.base import StageFailure, Step
from kubesynth_runner.pipelines.compiling import CompileContext
from kubesynth_testing.scripted_llm import ScriptedLlm, refusal

PARAGRAPH = " ".join(f"The mill number {n} was built by Ann Ames near the river." for n in range(8))
LONG = "\n".join([PARAGRAPH] * 6)
REWRITTEN = "A watermill stands beside the river. " * 10
Columns = dict[str, Any]


def steps(wire: Columns) -> tuple[Step, ...]:
    def read(prompt: PromptText) -> str:
        assert prompt.inline is not None
        return prompt.inline

    return registry.compile_stage(
        StageSpec.model_validate(wire), CompileContext("text", read)
    ).steps


async def run(wire: Columns, document: Any, *answers: str | Completion) -> list[Columns]:
    """Run the steps of a stage depth first, as the engine does."""
    return await _run(steps(wire), {"text": document}, ScriptedLlm(answers), "r")


async def _run(
    todo: tuple[Step, ...], columns: Columns, llm: ScriptedLlm, record_id: str
) -> list[Columns]:
    if not todo:
        return [columns]
    record = records.Record(record_id, None, "r", (), columns, records.Source("file:///a", 1))
    found, number = [], 0
    async for made in todo[0].stage.run(record, llm):
        assert set(made) <= {*todo[0].stage.columns, "text"}
        found += await _run(todo[1:], {**columns, **made}, llm, f"{record_id}.{number}")
        number += 1
    return found


def cut_off(text: str) -> Completion:
    return Completion(text, "length", TokenUsage(), "fake")


async def test_wikipedia_rewrites_each_segment_and_joins_them() -> None:
    answers = [f"Here is the text:\n\n**One.** {REWRITTEN}", f'"Two. {REWRITTEN.strip()}"']
    rows = await run({"wikipediaRewrite": {"maxInputTokens": 500}}, LONG, *answers)
    assert len(rows) == 1
    assert rows[0]["text"] == LONG
    assert rows[0]["rewritten"] == f"One. {REWRITTEN.strip()}\nTwo. {REWRITTEN.strip()}"


async def test_distill_makes_a_record_of_each_segment() -> None:
    rows = await run({"distill": {"maxInputTokens": 500}}, LONG, REWRITTEN, REWRITTEN)
    assert [row["segment_id"] for row in rows] == [0, 1]
    assert "\n".join(row["text"] for row in rows) == LONG
    assert {row["distilled"] for row in rows} == {REWRITTEN.strip()}


@pytest.mark.parametrize(
    ("number", "text", "expected"),
    [
        pytest.param(3, PARAGRAPH, [3], id="keeps its number"),
        pytest.param(3, LONG, [3, 3], id="and so do its pieces"),
        pytest.param(3, "Too short.", [3], id="and one that nobody is asked about"),
        pytest.param(0, "Too short.", [0], id="the first one, too"),
        pytest.param("b7", LONG, [0, 1], id="a name of the user's is no number"),
        pytest.param(-1, LONG, [0, 1], id="nor is less than 0"),
        pytest.param("b7", "Too short.", [None], id="nor is it kept"),
    ],
)
async def test_segment_of_an_earlier_stage(number: Any, text: str, expected: list[Any]) -> None:
    wire = {"distill": {"maxInputTokens": 500, "onNothing": "Keep"}}
    columns = {"text": text, "segment_id": number}
    asked = text != "Too short."
    rows = await _run(
        steps(wire), columns, ScriptedLlm([REWRITTEN, REWRITTEN] if asked else []), "r"
    )
    assert [row["segment_id"] for row in rows] == expected
    assert all((row["distilled"] is not None) == asked for row in rows)


async def test_the_model_sees_the_segment_and_no_more() -> None:
    llm = ScriptedLlm([REWRITTEN] * 6)
    await _run(steps({"extractKnowledge": {"maxInputTokens": 500}}), {"text": LONG}, llm, "r")
    shown = [messages[-1].content.count(PARAGRAPH) for messages in llm.asked]
    assert sum(shown) == 6
    assert min(shown) > 0


@pytest.mark.parametrize(
    "document", ["Too short.", "\n".join(["Short line."] * 2)], ids=["short", "two-short-lines"]
)
async def test_short_document_is_dropped_or_kept_and_costs_nothing(document: str) -> None:
    for output in ("Rows", "Text"):
        wire = {"distill": {"output": output}}
        assert await run(wire, document) == []
        kept = await run({"distill": {"output": output, "onNothing": "Keep"}}, document)
        assert [(row["text"], row["distilled"]) for row in kept] == [(document, None)]


@pytest.mark.parametrize("answer", ["Too short.", "```\n```"])
@pytest.mark.parametrize("output", ["Rows", "Text"])
async def test_unusable_answer_makes_no_row(answer: str, output: str) -> None:
    assert await run({"distill": {"output": output}}, PARAGRAPH, answer) == []
    wire = {"distill": {"output": output, "onNothing": "Keep"}}
    assert [row["distilled"] for row in await run(wire, PARAGRAPH, answer)] == [None]


@pytest.mark.parametrize("document", [None, 7, " "])
@pytest.mark.parametrize("kind", ["segment", "distill", "wikipediaRewrite"])
async def test_no_document_fails(document: Any, kind: str) -> None:
    with pytest.raises(StageFailure, match="no document"):
        await run({kind: {}}, document)


async def test_refusal_fails() -> None:
    with pytest.raises(StageFailure, match="refused"):
        await run({"distill": {}}, PARAGRAPH, refusal())


async def test_prompt_without_room_fails_and_names_the_field() -> None:
    with pytest.raises(StageFailure, match="raise maxInputTokens"):
        await run({"distill": {"maxInputTokens": 64}}, PARAGRAPH)


async def test_facts_are_rows_or_one_text_each_once() -> None:
    facts = [f"Mill number {n} stands near the old stone bridge over the river." for n in range(9)]
    answer = "Here are the facts:\n" + "\n".join(f"* **{fact}**" for fact in [*facts, facts[0]])
    assert [row["fact"] for row in await run({"knowledgeList": {}}, PARAGRAPH, answer)] == facts
    rows = await run({"knowledgeList": {"output": "Text", "column": "facts"}}, PARAGRAPH, answer)
    assert [row["facts"] for row in rows] == ["\n".join(facts)]


async def test_list_that_is_cut_off_loses_its_last_item_alone() -> None:
    facts = [f"Mill number {n} stands near the old stone bridge over the river." for n in range(9)]
    answer = cut_off("\n".join(f"- {fact}" for fact in [*facts, "Mill number 10 stan"]))
    assert len(await run({"knowledgeList": {}}, PARAGRAPH, answer)) == 9


def qa(count: int) -> str:
    return "\n\n".join(f"Question: Who built mill {n}?\nAnswer: Ann {n}." for n in range(count))


async def test_pairs_are_rows() -> None:
    rows = await run({"diverseQA": {"pairs": 3}}, PARAGRAPH, qa(5))
    assert [(row["question"], row["answer"]) for row in rows] == [
        (f"Who built mill {n}?", f"Ann {n}.") for n in range(3)
    ]


async def test_pairs_are_one_text_behind_the_document() -> None:
    wire = {"diverseQA": {"output": "Text", "includeDocument": True, "column": "qa"}}
    (row,) = await run(wire, PARAGRAPH, qa(2))
    assert row["qa"] == f"{PARAGRAPH}\n\n{qa(2)}"


async def test_random_pairs_are_the_same_for_the_same_record_and_bounded() -> None:
    wire = {"diverseQA": {"keep": "Random", "maxPairs": 3}}
    first = await run(wire, PARAGRAPH, qa(8))
    assert await run(wire, PARAGRAPH, qa(8)) == first
    counts, orders = set(), set()
    for record_id in map(str, range(40)):
        found = await _run(steps(wire), {"text": PARAGRAPH}, ScriptedLlm([qa(8)]), record_id)
        counts.add(len(found))
        orders.add(found[0]["question"])
    assert counts == {1, 2}  # three for every 150 tokens, of which there are not quite so many
    assert len(orders) > 3


async def test_pairs_of_an_answer_that_is_cut_off_are_whole() -> None:
    assert len(await run({"diverseQA": {}}, PARAGRAPH, cut_off(qa(4)))) == 3


UNREADABLE = {"diverseQA": "The text is about mills.", "knowledgeList": "I cannot list any facts."}
READABLE = {"diverseQA": qa(2), "knowledgeList": f"1. {PARAGRAPH}\n2. {REWRITTEN}"}


@pytest.mark.parametrize("kind", UNREADABLE)
@pytest.mark.parametrize("output", ["Rows", "Text"])
async def test_unreadable_list_is_asked_for_once_more(kind: str, output: str) -> None:
    llm = ScriptedLlm([UNREADABLE[kind], READABLE[kind]])
    found = await _run(steps({kind: {"output": output}}), {"text": PARAGRAPH}, llm, "r")
    assert len(found) == (2 if output == "Rows" else 1)
    first, second = llm.asked
    assert second[: len(first)] == first
    assert [message.role for message in second[len(first) :]] == ["assistant", "user"]
    assert second[len(first)].content == UNREADABLE[kind]
    wanted = "facts" if kind == "knowledgeList" else "Question:"
    assert wanted in second[-1].content


@pytest.mark.parametrize("kind", UNREADABLE)
@pytest.mark.parametrize("wire", [{}, {"output": "Text"}])
async def test_list_that_stays_unreadable_fails_with_its_answer(kind: str, wire: Columns) -> None:
    with pytest.raises(StageFailure, match=r"no (questions with answers|facts) in it") as caught:
        await run({kind: wire}, PARAGRAPH, UNREADABLE[kind], UNREADABLE[kind])
    assert (caught.value.kind, caught.value.raw) == ("UnparsableCompletion", UNREADABLE[kind])


@pytest.mark.parametrize("kind", UNREADABLE)
@pytest.mark.parametrize("output", ["Rows", "Text"])
async def test_unreadable_list_leaves_a_kept_record_without(kind: str, output: str) -> None:
    wire = {kind: {"output": output, "onNothing": "Keep"}}
    (row,) = await run(wire, PARAGRAPH, UNREADABLE[kind], UNREADABLE[kind])
    assert row["text"] == PARAGRAPH
    assert {row[name] for name in row if name not in ("text", "segment_id")} == {None}


async def test_short_results_are_not_asked_for_again() -> None:
    assert await run({"knowledgeList": {}}, PARAGRAPH, "- A mill.\n- A river.") == []


async def test_one_sentence_is_a_fact() -> None:
    (row,) = await run({"knowledgeList": {"minOutputTokens": 0}}, PARAGRAPH, "Ann built it.")
    assert row["fact"] == "Ann built it."


async def test_pairs_in_the_language_of_the_text_are_kept() -> None:
    answer = "Question : Qui ?\nR\u00e9ponse : Ann.\n\nQuestion : Quand ?\nR\u00e9ponse : 1801."
    rows = await run({"diverseQA": {}}, PARAGRAPH, answer)
    assert [row["answer"] for row in rows] == ["Ann.", "1801."]


async def test_segment_asks_nobody() -> None:
    rows = await run({"segment": {"maxTokens": 250}}, LONG)
    assert len(rows) == 3
    assert steps({"segment": {}})[0].fields == ()


def test_defaults_are_sampled_as_in_the_recipe() -> None:
    limits = {
        kind: steps({kind: {}})[-1].sampling.max_tokens
        for kind in (
            "wikipediaRewrite",
            "distill",
            "extractKnowledge",
            "knowledgeList",
            "diverseQA",
        )
    }
    assert list(limits.values()) == [512, 1600, 1400, 600, 600]
