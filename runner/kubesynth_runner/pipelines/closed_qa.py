"""`closedQA`: questions about a document that the document itself answers."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping

from kubesynth_runner import records
from kubesynth_runner.io.plan_file import ColumnType
from kubesynth_runner.pipelines import structured
from kubesynth_runner.pipelines.base import StageFailure, StageLlm
from kubesynth_runner.pipelines.templates import PromptTemplate


@dataclasses.dataclass(frozen=True, slots=True)
class ClosedQAStage:
    """Asks for `questions` questions; each becomes a record."""

    prompt: PromptTemplate
    text_column: str
    questions: int
    fail_on_short_list: bool

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
                "questions": self.questions,
            }
        )
        request = structured.ListRequest("questions", self.questions)
        questions, text = await structured.ask_list(llm, messages, request)
        if len(questions) < self.questions and self.fail_on_short_list:
            raise StageFailure(
                "TooFewItems", f"{len(questions)} of {self.questions} questions", text
            )
        for question in questions:
            yield {"question": question}
