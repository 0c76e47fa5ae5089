"""`preferencePairs`: several answers to a question, and the best and the worst of them."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping
from typing import TypeVar

from kubesynth_api.v1alpha1.sampling import SamplingParameters
from kubesynth_api.v1alpha1.stages.judgement import PreferencePairs
from kubesynth_runner import records
from kubesynth_runner.io.plan_file import ColumnType
from kubesynth_runner.llm.base import Message
from kubesynth_runner.pipelines import conversation, lists, scorers
from kubesynth_runner.pipelines.base import (
    Cost,
    ModelFailure,
    StageFailure,
    StageLlm,
    Step,
    Steps,
    accept_whole,
)
from kubesynth_runner.pipelines.compiling import CompileContext
from kubesynth_runner.pipelines.scoring import Scorer, Scores, Subject
from kubesynth_runner.pipelines.templates import PromptTemplate

T = TypeVar("T")
# The answers have to differ.
SAMPLING = SamplingParameters(temperature=0.9, top_p=0.95)
ANSWERS = "answers"


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """Where a record has its question or conversation, and its document."""

    spec: PreferencePairs
    document_column: str | None

    def asked(self, record: records.Record) -> tuple[Message, ...]:
        """Return the messages that are answered.

        Raises:
            StageFailure: there are none.
        """
        column = self.spec.messages_column
        if column is None:
            text = conversation.text_of(record.columns, self.spec.question_column, "question")
            return (Message("user", text),)
        messages = conversation.from_column(record.columns, column)
        if messages[-1].role != "user":
            raise StageFailure(
                "BadInput", f"the conversation in {column!r} does not end with the user"
            )
        return messages

    def document(self, record: records.Record) -> str | None:
        """Return the record's document, if there is one."""
        return record.columns.get(self.document_column) if self.document_column else None


@dataclasses.dataclass(frozen=True, slots=True)
class AnswersStage:
    """Answers several times, side by side."""

    prompt: PromptTemplate
    question: Question
    count: int

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        """The answers, as a list."""
        return {ANSWERS: "json"}

    async def run(self, record: records.Record, llm: StageLlm) -> AsyncIterator[records.Columns]:
        """Yield the record with its distinct whole answers; nothing, if they are all the same."""
        asked = self.question.asked(record)
        document = self.question.document(record)
        messages = self.prompt.render(
            {**record.columns, "question": asked[-1].content, "document": document}
        )
        if self.question.spec.messages_column is not None:
            messages = (*messages[:-1], *asked)
        completions = await _side_by_side(llm.complete(messages) for _ in range(self.count))
        texts, problems = [], []
        for completion in completions:
            try:
                if isinstance(completion, StageFailure | ModelFailure):
                    raise completion
                texts.append(accept_whole(completion))
            except (StageFailure, ModelFailure) as failure:
                problems.append(failure)
        if len(texts) < 2 and problems:
            raise problems[0]
        distinct = lists.distinct(texts)
        if len(distinct) > 1:
            yield {ANSWERS: distinct}


@dataclasses.dataclass(frozen=True, slots=True)
class PairStage:
    """Scores the answers side by side, and keeps the best and the worst."""

    scorer: Scorer
    question: Question

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        """The pair, what it scored, and all answers with their scores."""
        return {
            "chosen": "string",
            "rejected": "string",
            "chosen_score": "number",
            "rejected_score": "number",
            "margin": "number",
            ANSWERS: "json",
        }

    async def run(self, record: records.Record, llm: StageLlm) -> AsyncIterator[records.Columns]:
        """Yield the record with its pair; nothing, if its scores are too close or too low."""
        asked, document = self.question.asked(record), self.question.document(record)
        answers = [str(answer) for answer in record.columns[ANSWERS]]
        subjects = [Subject(asked, answer, document, record.columns) for answer in answers]
        branches = llm.branches(len(subjects))
        results = await _side_by_side(map(self.scorer.score, subjects, branches))
        scored: list[tuple[str, Scores]] = []
        problems: list[StageFailure | ModelFailure] = []
        for answer, result in zip(answers, results, strict=True):
            if isinstance(result, StageFailure | ModelFailure):
                problems.append(result)
            else:
                scored.append((answer, result))
        if len(scored) < 2:
            raise problems[0]
        # Of equals the first: the order of the answers is that of the calls.
        chosen = max(scored, key=lambda pair: pair[1].overall)
        rejected = min(scored, key=lambda pair: pair[1].overall)
        margin = chosen[1].overall - rejected[1].overall
        spec = self.question.spec
        floor = spec.min_chosen_score
        is_good = floor is None or chosen[1].overall >= floor
        is_enough = margin >= spec.min_margin and is_good
        if margin > 0 and is_enough:
            yield {
                "chosen": chosen[0],
                "rejected": rejected[0],
                "chosen_score": chosen[1].overall,
                "rejected_score": rejected[1].overall,
                "margin": margin,
                ANSWERS: [
                    {"answer": answer, "score": scores.overall, "scores": dict(scores.by_name)}
                    for answer, scores in scored
                ],
            }


async def _side_by_side(
    calls: Iterable[Awaitable[T]],
) -> list[T | StageFailure | ModelFailure]:
    """Return what came of each call, in order; one that failed does not spoil the others."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    settled: list[T | StageFailure | ModelFailure] = []
    for result in results:
        if isinstance(result, BaseException) and not isinstance(
            result, StageFailure | ModelFailure
        ):
            raise result
        settled.append(result)
    return settled


def compile_stage(spec: PreferencePairs, context: CompileContext) -> Steps:
    """Return the steps of a `preferencePairs`: the answers, then their scores."""
    named = (spec.question_column, spec.messages_column)
    has_document = spec.use_document and context.text_column not in named
    question = Question(spec, context.text_column if has_document else None)
    # The document of a conversation is in the system prompt.
    name = "answer.v1" if spec.messages_column is None else "dialogue_assistant.v1"
    answers = AnswersStage(context.prompt(spec.prompts.answer, name), question, spec.answers)
    pair = PairStage(scorers.scorer(spec, spec.prompts.judge, context), question)
    return Steps(
        (
            Step(answers, "answers", sampling=SAMPLING, cost=Cost(calls=spec.answers)),
            Step(
                pair,
                "scores",
                fields=("judgeModel",),
                sampling=scorers.sampling(spec.method),
                cost=scorers.cost(spec.method, spec.answers),
            ),
        )
    )
