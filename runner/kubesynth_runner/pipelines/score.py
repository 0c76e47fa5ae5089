"""`score`: scores of an answer or a conversation."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping

from kubesynth_api.v1alpha1.stages.judgement import Score
from kubesynth_runner import records
from kubesynth_runner.io.plan_file import ColumnType
from kubesynth_runner.llm.base import Message
from kubesynth_runner.pipelines import conversation, scorers
from kubesynth_runner.pipelines.base import StageFailure, StageLlm, Step, Steps
from kubesynth_runner.pipelines.compiling import CompileContext
from kubesynth_runner.pipelines.scoring import Scorer, Subject


@dataclasses.dataclass(frozen=True, slots=True)
class ScoreStage:
    """Scores one answer; the record goes on with the scores."""

    scorer: Scorer
    spec: Score
    document_column: str | None

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        """All scores, the overall one, and what else is wanted."""
        spec = self.spec
        columns: dict[str, ColumnType] = {spec.scores_column: "json", "score": "number"}
        if spec.criterion_columns:
            columns |= {f"score_{criterion.name}": "number" for criterion in spec.rubric}
        columns |= {f"score_{name}": "number" for name in spec.attributes}
        if spec.explanation_column is not None:
            columns[spec.explanation_column] = "string"
        return columns

    async def run(self, record: records.Record, llm: StageLlm) -> AsyncIterator[records.Columns]:
        """Yield the record with its scores."""
        spec = self.spec
        scores = await self.scorer.score(self._subject(record), llm)
        made: records.Columns = {spec.scores_column: dict(scores.by_name), "score": scores.overall}
        if spec.criterion_columns:
            made |= {f"score_{name}": float(value) for name, value in scores.by_name.items()}
        made |= {f"score_{name}": scores.by_name[name] for name in spec.attributes}
        if spec.explanation_column is not None:
            made[spec.explanation_column] = scores.explanation
        yield made

    def _subject(self, record: records.Record) -> Subject:
        columns, spec = record.columns, self.spec
        document = columns.get(self.document_column) if self.document_column else None
        if spec.messages_column is None:
            question = conversation.text_of(columns, spec.question_column, "question")
            answer = conversation.text_of(columns, spec.answer_column, "answer")
            return Subject((Message("user", question),), answer, document, columns)
        *asked, last = conversation.from_column(columns, spec.messages_column)
        if last.role != "assistant" or not asked:
            raise StageFailure(
                "BadInput", f"the conversation in {spec.messages_column!r} ends without an answer"
            )
        return Subject(tuple(asked), last.content, document, columns)


def compile_stage(spec: Score, context: CompileContext) -> Steps:
    """Return the step of a `score`."""
    named = (spec.question_column, spec.answer_column, spec.messages_column)
    shows_document = spec.method == "Judge" and spec.use_document is not False
    has_document = shows_document and context.text_column not in named
    stage = ScoreStage(
        scorers.scorer(spec, spec.prompts, context),
        spec,
        context.text_column if has_document else None,
    )
    return Steps(
        (Step(stage, sampling=scorers.sampling(spec.method), cost=scorers.cost(spec.method)),)
    )
