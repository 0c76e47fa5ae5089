"""Records that are made without a model: the step of a level whose records are known beforehand."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping, Sequence

from kubesynth_runner import records
from kubesynth_runner.io.plan_file import ColumnType
from kubesynth_runner.pipelines.base import Cost, Level, StageLlm, Step


@dataclasses.dataclass(frozen=True, slots=True)
class DrawnStage:
    """Makes the same records of any record. Asks no model."""

    columns: Mapping[str, ColumnType]
    drawn: Sequence[records.Columns]

    async def run(self, record: records.Record, llm: StageLlm) -> AsyncIterator[records.Columns]:
        """Yield them, in order."""
        for columns in self.drawn:
            yield dict(columns)


def level(name: str, columns: Mapping[str, ColumnType], drawn: Sequence[records.Columns]) -> Level:
    """Return the level that makes these records."""
    return Level(
        Step(DrawnStage(columns, drawn), name, fields=()),
        lambda inputs, outputs: list(outputs),
        Cost(0, len(drawn)),
    )
