"""A stage for tests of the engine: asks once, and makes some records of each."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping

from kubesynth_runner import records
from kubesynth_runner.io.plan_file import ColumnType
from kubesynth_runner.llm.base import Message
from kubesynth_runner.pipelines.base import StageFailure, StageLlm


@dataclasses.dataclass(frozen=True, slots=True)
class FanOut:
    """A stage that asks once and makes `children` of the record; "bad" ones fail after one."""

    children: int = 1

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        """None that are written."""
        return {}

    async def run(self, record: records.Record, llm: StageLlm) -> AsyncIterator[records.Columns]:
        """Ask, then yield the children."""
        await llm.complete((Message("user", record.record_id),))
        for number in range(self.children):
            if number == 1 and record.columns.get("bad"):
                raise StageFailure("Refusal", "it is bad")
            yield {"number": number}
