"""Answers that were cut off: half of one becomes a row only where a user wants that."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubesynth_api.meta import PromptText
from kubesynth_api.v1alpha1.pipeline import Stage as StageSpec
from kubesynth_runner import records
from kubesynth_runner.llm.base import Completion, TokenUsage
from kubesynth_runner.pipelines import registry
from kubesynth_runner.pipelines.base import StageFailure, Step
from kubesynth_runner.pipelines.compiling import CompileContext
from kubesynth_runner.pipelines.templates import Condition
from kubesynth_testing.scripted_llm import ScriptedLlm, refusal

HALF = "Because the sky scatters blue light much more than r"
PAGE = Path(__file__).parents[4] / "docs/stages.md"
LINE = "Mills grind the corn of the whole valley, and the river that drives them never freezes. "
DOCUMENT = "\n".join([LINE * 10] * 4)
RECORD = {"text": DOCUMENT, "question": "Why?"}
TEXTS: dict[str, tuple[str, dict[str, Any]]] = {
    "answer": ("answer", {}),
    "prompt": ("output", {"user": {"inline": "{{ question }}"}}),
}
REWRITES = {
    "wikipediaRewrite": "rewritten",
    "distill": "distilled",
    "extractKnowledge": "knowledge",
}


def half(text: str = HALF) -> Completion:
    return Completion(text, "length", TokenUsage(), "fake")


def steps(kind: str, wire: Mapping[str, Any]) -> tuple[Step, ...]:
    def read(prompt: PromptText) -> str:
        assert prompt.inline is not None
        return prompt.inline

    spec = StageSpec.model_validate({kind: wire})
    return registry.compile_stage(spec, CompileContext("text", read)).steps


async def run(kind: str, wire: Mapping[str, Any], *answers: str | Completion) -> list[Any]:
    """Return what is made of a record by all steps of a stage, one after the other."""
    llm, found = ScriptedLlm(answers), [dict(RECORD)]
    for step in steps(kind, wire):
        made: list[Any] = []
        for columns in found:
            record = records.Record("r", None, "r", (), columns, records.Source("file:///a", 1))
            made += [{**columns, **more} async for more in step.stage.run(record, llm)]
        found = made
    assert len(llm.asked) == len(answers), "an answer was not asked for"
    return found


def told(kind: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stage with fields about cut-off answers, where the stage has them."""
    own = TEXTS[kind][1]
    return {**own, "output": dict(fields)} if kind == "prompt" else {**own, **fields}


@pytest.mark.parametrize("kind", TEXTS)
async def test_a_text_that_is_cut_off_fails_and_says_what_to_do(kind: str) -> None:
    with pytest.raises(StageFailure, match=r"raise sampling\.maxTokens.*onCutOff: Keep") as caught:
        await run(kind, told(kind, {}), half())
    assert (caught.value.kind, caught.value.raw) == ("TruncatedCompletion", HALF)


async def test_a_full_context_cuts_off_as_well() -> None:
    answer = Completion(HALF, "model_length", TokenUsage(), "mistral")
    with pytest.raises(StageFailure, match="was cut off"):
        await run("answer", {}, answer)


@pytest.mark.parametrize("kind", TEXTS)
async def test_a_text_that_is_cut_off_is_kept_where_that_is_wanted(kind: str) -> None:
    (row,) = await run(kind, told(kind, {"onCutOff": "Keep"}), half(f" {HALF} "))
    assert row == {**RECORD, TEXTS[kind][0]: HALF}


@pytest.mark.parametrize("kind", TEXTS)
async def test_a_column_tells_half_answers_from_whole_ones(kind: str) -> None:
    wire = told(kind, {"onCutOff": "Keep", "cutOffColumn": "is_cut_off"})
    (step,) = steps(kind, wire)
    assert step.stage.columns == {TEXTS[kind][0]: "string", "is_cut_off": "boolean"}
    assert [row["is_cut_off"] for row in await run(kind, wire, half())] == [True]
    assert [row["is_cut_off"] for row in await run(kind, wire, "Whole.")] == [False]


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize(
    ("answer", "why"), [(refusal(), "Refusal"), (half(" \n"), "EmptyCompletion")]
)
async def test_what_is_no_answer_at_all_is_not_kept(
    kind: str, answer: Completion, why: str
) -> None:
    with pytest.raises(StageFailure) as caught:
        await run(kind, told(kind, {"onCutOff": "Keep"}), answer)
    assert caught.value.kind == why


async def test_whole_items_of_a_list_are_kept() -> None:
    wire = {"user": {"inline": "x"}, "output": {"type": "List"}}
    rows = await run("prompt", wire, half("1. One.\n2. Two.\n3. Thr"))
    assert [row["output"] for row in rows] == ["One.", "Two."]


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ({"type": "JSON", "jsonSchema": SCHEMA}, '{"a": "long and'),
        ({"type": "Label", "labels": ["old", "new"]}, "It depends on what is"),
        ({"type": "List"}, "1. This one is ne"),
    ],
    ids=lambda value: value.get("type") if isinstance(value, dict) else "",
)
async def test_what_cannot_be_read_is_asked_for_once_more_and_then_names_the_field(
    output: dict[str, Any], said: str
) -> None:
    wire = {"user": {"inline": "x"}, "output": output}
    with pytest.raises(StageFailure, match=r"was cut off; raise sampling\.maxTokens") as caught:
        await run("prompt", wire, half(said), half(said))
    assert (caught.value.kind, caught.value.raw) == ("TruncatedCompletion", said)


async def test_a_document_that_is_whole_counts_though_its_answer_ends_at_the_limit() -> None:
    wire = {"user": {"inline": "x"}, "output": {"type": "JSON", "jsonSchema": SCHEMA}}
    (row,) = await run("prompt", wire, half('{"a": "b"}\n\n\n\n'))
    assert row["a"] == "b"


@pytest.mark.parametrize("output", ["Rows", "Text"])
@pytest.mark.parametrize("kind", REWRITES)
async def test_a_rewritten_text_that_is_cut_off_fails(kind: str, output: str) -> None:
    wire = {"output": output, "maxInputTokens": 10_000}
    with pytest.raises(StageFailure, match=r"raise sampling\.maxTokens") as caught:
        await run(kind, wire, half(LINE * 4))
    assert caught.value.kind == "TruncatedCompletion"
    (row,) = await run(kind, {**wire, "onNothing": "Keep"}, half(LINE * 4))
    assert row[REWRITES[kind]] is None


async def test_a_text_with_a_hole_is_none() -> None:
    wire = {"maxInputTokens": 700, "minOutputTokens": 0}
    whole = await run("wikipediaRewrite", wire, LINE, LINE)
    assert whole[0]["rewritten"] == f"{LINE.strip()}\n{LINE.strip()}"
    with pytest.raises(StageFailure):
        await run("wikipediaRewrite", wire, LINE, half(LINE))
    (row,) = await run("wikipediaRewrite", {**wire, "onNothing": "Keep"}, LINE, half(LINE))
    assert row["rewritten"] is None


@pytest.mark.parametrize("kind", ["knowledgeList", "diverseQA"])
@pytest.mark.parametrize("output", ["Rows", "Text"])
async def test_facts_and_pairs_of_which_none_is_whole_fail(kind: str, output: str) -> None:
    wire = {"output": output, "maxInputTokens": 10_000}
    with pytest.raises(StageFailure, match=r"raise sampling\.maxTokens") as caught:
        await run(kind, wire, half("Question: Who built the"))
    assert caught.value.kind == "TruncatedCompletion"
    assert len(await run(kind, {**wire, "onNothing": "Keep"}, half("Question: Who built the"))) == 1


async def test_the_manifest_in_the_documentation_does_what_it_says() -> None:
    section = PAGE.read_text().partition("### Answers that are cut off\n")[2]
    manifest = section.partition("```yaml\n")[2].partition("```")[0]
    answer, prompt, rest = yaml.safe_load(manifest)
    assert StageSpec.model_validate(prompt).kind == "prompt"
    shortens = Condition.compile(prompt["when"])
    keeps = Condition.compile(rest["filter"]["where"])
    (row,) = await run("answer", answer["answer"], half())
    assert (shortens.holds(row), keeps.holds(row)) == (True, False)
    (row,) = await run("answer", answer["answer"], "Whole.")
    assert (shortens.holds(row), keeps.holds(row)) == (False, True)
