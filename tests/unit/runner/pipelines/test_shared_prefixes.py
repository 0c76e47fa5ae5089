"""What prompts begin with is the same for all records, so that a server reads it once."""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import Any

import msgspec
import pytest

from kubesynth_api.v1alpha1.pipeline import STAGE_KINDS
from kubesynth_api.v1alpha1.pipeline import Stage as StageSpec
from kubesynth_runner import records
from kubesynth_runner.llm.base import Completion, JsonSchemaFormat, Message, TokenUsage
from kubesynth_runner.pipelines import registry
from kubesynth_runner.pipelines.base import Step
from kubesynth_runner.pipelines.compiling import CompileContext
from kubesynth_testing import fake_replies

SOURCE = records.Source("file:///a", 1)
TEXT = "The mill has two wheels, and both of them turn when the river is high. " * 9
# Of each stage that has prompts of its own; `prompt` and `plugin` have their users'.
STAGES: dict[str, dict[str, Any]] = {
    "openQA": {},
    "math": {},
    "coding": {},
    "writing": {"topics": ["bread"], "materials": ["poem"]},
    "multilingualQA": {"languages": ["German", "Swahili"], "samplesPerLanguage": 2},
    "closedQA": {},
    "wikipediaRewrite": {},
    "distill": {},
    "diverseQA": {},
    "extractKnowledge": {},
    "knowledgeList": {},
    "answer": {},
    "dialogue": {"useDocument": False},
    "twoTurnPrompt": {"useDocument": False},
    "preferencePairs": {},
    "score": {},
    "classifyEntity": {"preset": "Math"},
    "translate": {"languages": ["German"]},
}
PROMPTLESS = {"segment", "prompt", "plugin", "filter"}
Asked = dict[str, list[tuple[Message, ...]]]


class Asking:
    """A `StageLlm` that answers as the schema says, and keeps what it was asked, by role field."""

    json_schema = True

    def __init__(self, asked: Asked, step: str, field: str = "model") -> None:
        self._asked, self._step, self._field = asked, step, field

    async def complete(
        self, messages: tuple[Message, ...], response_format: JsonSchemaFormat | None = None
    ) -> Completion:
        """Answer."""
        self._asked[f"{self._step}/{self._field}"].append(messages)
        body: dict[str, Any] = {
            "model": "m",
            "seed": sum(map(len, self._asked.values())),
            "messages": [{"role": each.role, "content": each.content} for each in messages],
        }
        if response_format is not None:
            schema = {"name": response_format.name, "schema": response_format.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        text = fake_replies.complete(body)["choices"][0]["message"]["content"]
        return Completion(text, "stop", TokenUsage(), "m")

    def of(self, field: str) -> Asking:
        """Answer for another role."""
        return Asking(self._asked, self._step, field)

    def branches(self, count: int) -> list[Asking]:
        """Answer all."""
        return [self] * count


def a_record(number: int, **columns: Any) -> records.Record:
    """Return a record with every column that a stage may look at."""
    names = ("question", "answer", "entity", "topic", "macro_topic", "material", "language")
    mine = {name: f"{name} of {number}" for name in names}
    given = {"text": f"{number}: {TEXT}", "number": number, "answers": ["Yes.", "No."]}
    return records.Record(str(number), None, str(number), (), {**mine, **given, **columns}, SOURCE)


async def ask(kind: str, *given: records.Record, **more: Any) -> Asked:
    """Run every step of a stage over records; return what was asked, by step and role."""
    asked: Asked = defaultdict(list)
    spec = StageSpec.model_validate({kind: {**STAGES[kind], **more}})
    compiled = registry.compile_stage(spec, CompileContext("text", lambda prompt: str(prompt)))
    for level in compiled.levels:
        await run(level.step, given, asked)
    for step in compiled.steps:
        given = await run(step, given, asked)
    return asked


async def run(
    step: Step, given: tuple[records.Record, ...], asked: Asked
) -> tuple[records.Record, ...]:
    """Run a step over records; return their children."""
    llm = Asking(asked, step.name, step.fields[0] if step.fields else "")
    return tuple(
        [
            msgspec.structs.replace(record, columns={**record.columns, **made})
            for record in given
            async for made in step.stage.run(record, llm)
        ]
    )


def common(first: tuple[Message, ...], second: tuple[Message, ...]) -> str:
    """Return what two requests have in common, from the start."""
    texts = ("\n".join(message.content for message in each) for each in (first, second))
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*texts, strict=False))
    return "".join(character for character, _ in pairs)


def test_no_stage_is_forgotten() -> None:
    assert {*STAGES} | PROMPTLESS == {*STAGE_KINDS}


@pytest.mark.parametrize("kind", STAGES)
async def test_system_message_is_the_same_for_all_records(kind: str) -> None:
    asked = await ask(kind, a_record(1), a_record(2))
    assert asked
    for step, requests in asked.items():
        assert {each[0].role for each in requests} == {"system"}
        assert len({each[0].content for each in requests}) == 1, step
    assert any(len({each[1:] for each in requests}) > 1 for requests in asked.values())


async def test_system_message_of_a_translation_is_that_of_its_language() -> None:
    (requests,) = (
        await ask("translate", a_record(1), a_record(2), languages=["Ewe", "Fon"])
    ).values()
    assert [each[0].content.split(" as ")[0] for each in requests] == [
        f"You translate texts into {language}" for language in ("Ewe", "Fon", "Ewe", "Fon")
    ]
    assert len({each[0].content for each in requests}) == 2


@pytest.mark.parametrize("kind", ["dialogue", "twoTurnPrompt"])
async def test_system_message_of_a_conversation_is_that_of_its_document(kind: str) -> None:
    given = (a_record(1), a_record(2), a_record(1, question="Another one?"))
    asked = await ask(kind, *given, useDocument=True)
    assistant = [each for each in asked["/model"] if len(each) == 2]
    systems = [each[0].content for each in assistant]
    assert systems[0] == systems[2] != systems[1]
    assert TEXT in common(assistant[0], assistant[2])
    assert len({each[0].content for each in asked["/userModel"]}) == 1


async def test_each_turn_begins_with_all_that_was_said_before() -> None:
    asked = await ask("dialogue", a_record(1), userTurns=3)
    for requests in asked.values():
        for before, after in itertools.pairwise(requests):
            shared = common(before, after)
            for message in before[:-1]:
                assert message.content in shared
    assert asked["/model"][2][:3] == asked["/model"][1][:3]


async def test_questions_about_a_document_come_after_it() -> None:
    (requests,) = (await ask("answer", a_record(1), a_record(1, question="Another?"))).values()
    assert TEXT.strip() in common(*requests)


@pytest.mark.parametrize("kind", ["score", "preferencePairs"])
async def test_judge_reads_a_document_and_its_question_before_the_answer(kind: str) -> None:
    asked = await ask(kind, a_record(1), a_record(1, answer="No."))
    requests = asked["/model" if kind == "score" else "scores/judgeModel"]
    shared = common(*requests[:2])
    assert TEXT.strip() in shared
    assert "question of 1" in shared


async def test_labels_come_before_the_entity() -> None:
    (requests,) = (await ask("classifyEntity", a_record(1), a_record(2))).values()
    assert common(*requests).endswith("Entity: entity of ")
    assert "it belongs to mathematics" in common(*requests)
