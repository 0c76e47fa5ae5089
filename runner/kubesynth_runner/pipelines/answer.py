"""`answer`: an answer to a question, from its document where there is one."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping

from kubesynth_api.v1alpha1.stages.questions import Answer
from kubesynth_runner import records
from kubesynth_runner.io.plan_file import ColumnType
from kubesynth_runner.pipelines.base import (
    StageFailure,
    StageLlm,
    Step,
    Steps,
    columns_of_text,
    text_in,
)
from kubesynth_runner.pipelines.compiling import CompileContext
from kubesynth_runner.pipelines.templates import PromptTemplate


@dataclasses.dataclass(frozen=True, slots=True)
class AnswerStage:
    """Asks one question; the record goes on with the answer."""

    prompt: PromptTemplate
    spec: Answer
    document_column: str | None

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        """The answer, and whether it was cut off."""
        return columns_of_text(self.spec.answer_column, self.spec)

    async def run(self, record: records.Record, llm: StageLlm) -> AsyncIterator[records.Columns]:
        """Yield the record with its answer."""
        question = record.columns.get(self.spec.question_column)
        if not isinstance(question, str) or not question.strip():
            raise StageFailure(
                "BadInput", f"column {self.spec.question_column!r} holds no question"
            )
        document = record.columns.get(self.document_column) if self.document_column else None
        messages = self.prompt.render(
            {**record.columns, "question": question, "document": document}
        )
        completion = await llm.complete(messages)
        yield text_in(completion, self.spec.answer_column, self.spec)


def compile_stage(spec: Answer, context: CompileContext) -> Steps:
    """Return the step of an `answer`."""
    has_document = spec.use_document and context.text_column != spec.question_column
    stage = AnswerStage(
        context.prompt(spec.prompts, "answer.v1"),
        spec,
        context.text_column if has_document else None,
    )
    return Steps((Step(stage),))
