"""`filter`: keeps the records for which an expression is true."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping

from kubesynth_api.v1alpha1.stages.records import Filter
from kubesynth_runner import records
from kubesynth_runner.io.plan_file import ColumnType
from kubesynth_runner.pipelines.base import Cost, StageLlm, Step, Steps
from kubesynth_runner.pipelines.compiling import CompileContext
from kubesynth_runner.pipelines.templates import Condition


@dataclasses.dataclass(frozen=True, slots=True)
class FilterStage:
    """Passes a record on, or drops it."""

    where: Condition

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        """None: it adds nothing."""
        return {}

    async def run(self, record: records.Record, llm: StageLlm) -> AsyncIterator[records.Columns]:
        """Yield the record as it is, or nothing."""
        if self.where.holds(record.columns):
            yield {}


def compile_stage(spec: Filter, context: CompileContext) -> Steps:
    """Return the step of a `filter`."""
    return Steps((Step(FilterStage(Condition.compile(spec.where)), fields=(), cost=Cost(calls=0)),))
