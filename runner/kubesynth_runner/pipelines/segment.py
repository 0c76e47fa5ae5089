"""`segment`: documents cut by tokens, without a model."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping

from kubesynth_api.v1alpha1.stages.rewriting import SEGMENT_COLUMN, Segment
from kubesynth_runner import records
from kubesynth_runner.io.plan_file import ColumnType
from kubesynth_runner.pipelines import document_tasks, segmenting, tokens
from kubesynth_runner.pipelines.base import Cost, StageLlm, Step, Steps
from kubesynth_runner.pipelines.compiling import CompileContext


@dataclasses.dataclass(frozen=True, slots=True)
class SegmentStage:
    """Cuts a document, and asks nobody."""

    spec: Segment
    text_column: str
    count: tokens.Count

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        """The segment's number, from 0; the text takes the document's place."""
        return {SEGMENT_COLUMN: "integer"}

    async def run(self, record: records.Record, llm: StageLlm) -> AsyncIterator[records.Columns]:
        """Yield one child per segment."""
        document, spec = document_tasks.document_of(record, self.text_column), self.spec
        if self.count(document) < spec.min_document_tokens:
            return
        found = segmenting.segments(
            document,
            spec.max_tokens,
            min_tokens=spec.min_tokens,
            join_lines=spec.join_lines,
            count=self.count,
        )
        for number, segment in enumerate(found):
            yield {self.text_column: segment, SEGMENT_COLUMN: number}


def compile_stage(spec: Segment, context: CompileContext) -> Steps:
    """Return the step of a `segment`."""
    stage = SegmentStage(spec, context.text_column, context.count)
    cost = Cost(calls=0, segment_tokens=spec.max_tokens, splits=True)
    return Steps((Step(stage, fields=(), cost=cost),))
