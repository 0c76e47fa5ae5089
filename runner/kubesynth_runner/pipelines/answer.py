"""`answer`: an answer to a question, from its document where there is one."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping

from kubesynth_api.v1alpha1.stages.questions import Answer
from kubesynth_runner import records
from kubesynth_runner.io.plan_file import ColumnType
from kubesynth_runner.pipelines.base import StageFailure, StageLlm, Step, Steps, accept_text
from kubesynth_runner.pipelines.compiling import CompileContext
from kubesynth_runner.pipelines.templates import PromptTemplate


@dataclasses.dataclass(frozen=True, slots=True)
class AnswerStage:
    """Asks one question; the record goes on with the answer."""

    prompt: PromptTemplate
    question_column: str
    answer_column: str
    document_column: str | None

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        """The answer."""
        return {self.answer_column: "string"}

    async def run(self, record: records.Record, llm: StageLlm) -> AsyncIterator[records.Columns]:
        """Yield the record with its answer."""
        question = record.columns.get(self.question_column)
        if not isinstance(question, str) or not question.strip():
            raise StageFailure("BadInput", f"column {self.question_column!r} holds no question")
        document = record.columns.get(self.document_column) if self.document_column else None
        messages = self.prompt.render(
            {**record.columns, "question": question, "document": document}
        )
        completion = await llm.complete(messages)
        yield {self.answer_column: accept_text(completion)}


def compile_stage(spec: Answer, context: CompileContext) -> Steps:
    """Return the step of an `answer`."""
    has_document = spec.use_document and context.text_column != spec.question_column
    stage = AnswerStage(
        context.prompt(spec.prompts, "answer.v1"),
        spec.question_column,
        spec.answer_column,
        context.text_column if has_document else None,
    )
    return Steps((Step(stage),))
