"""`closedQA`: questions about a document that the document itself answers."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping

from kubesynth_api.v1alpha1.stages.documents import ClosedQA
from kubesynth_runner import records
from kubesynth_runner.io.plan_file import ColumnType
from kubesynth_runner.pipelines import structured
from kubesynth_runner.pipelines.base import Cost, StageFailure, StageLlm, Step, Steps
from kubesynth_runner.pipelines.compiling import CompileContext
from kubesynth_runner.pipelines.templates import PromptTemplate


@dataclasses.dataclass(frozen=True, slots=True)
class ClosedQAStage:
    """Asks for questions; each becomes a record."""

    prompt: PromptTemplate
    text_column: str
    request: structured.ListRequest

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        """One question per record."""
        return {"question": "string"}

    async def run(self, record: records.Record, llm: StageLlm) -> AsyncIterator[records.Columns]:
        """Yield one child per question."""
        document = record.columns.get(self.text_column)
        if not isinstance(document, str) or not document.strip():
            raise StageFailure("BadInput", f"column {self.text_column!r} holds no document")
        messages = self.prompt.render(
            {
                **record.columns,
                "document": document,
                "questions": self.request.count,
            }
        )
        for question in await structured.ask_list(llm, messages, self.request):
            yield {"question": question}


def compile_stage(spec: ClosedQA, context: CompileContext) -> Steps:
    """Return the step of a `closedQA`."""
    stage = ClosedQAStage(
        context.prompt(spec.prompts, "closed_qa.v1"),
        context.text_column,
        structured.ListRequest("questions", spec.questions, spec.on_short_list),
    )
    return Steps((Step(stage, cost=Cost(rows=spec.questions)),))
