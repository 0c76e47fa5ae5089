"""How much of the input is read before anybody begins it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubesynth_runner import records
from kubesynth_runner.engine.calls import Caller
from kubesynth_runner.engine.scheduler import Scheduler
from kubesynth_runner.io.journal import Journal
from kubesynth_runner.io.local_storage import LocalStorage
from kubesynth_runner.io.shard_output import RootOutcome
from kubesynth_runner.io.source import RootInput

COUNT = 300
MIB = 1 << 20
SOURCE = records.Source("file:///a", 1)
TEXT = "x" * MIB


class Reading:
    """A run without stages over records with these columns, which counts what memory holds."""

    def __init__(self, folder: Path, columns: dict[str, Any]) -> None:
        self.held = self.most_held = self.delivered = 0
        self.may_end = asyncio.Event()
        self._columns = columns
        caller = Caller(Journal(LocalStorage(folder), "run", 0, epoch=1))
        self.scheduler = Scheduler([], caller, self._source(), self._deliver)

    def _source(self) -> Iterator[RootInput]:
        for number in range(COUNT):
            self.held += 1
            self.most_held = max(self.most_held, self.held)
            name = f"r{number}"
            yield RootInput(number, records.Record(name, None, name, (), self._columns, SOURCE))

    async def _deliver(self, outcome: RootOutcome) -> None:
        await self.may_end.wait()
        self.held -= 1
        self.delivered += 1


@pytest.mark.parametrize(
    ("columns", "most"),
    [
        pytest.param({"text": TEXT}, 40, id="large-texts"),
        pytest.param({"turns": [{"text": TEXT}, {"text": TEXT}]}, 25, id="within-lists"),
        pytest.param({"text": TEXT * 40}, 16, id="larger-than-a-batch"),
        pytest.param({"text": "x"}, 250, id="small-texts"),
    ],
)
async def test_memory_holds_so_many_bytes_of_input(
    tmp_path: Path, columns: dict[str, Any], most: int
) -> None:
    reading = Reading(tmp_path, columns)
    task = asyncio.create_task(reading.scheduler.run())
    await asyncio.sleep(0.1)
    assert 0 < reading.held < most
    reading.may_end.set()
    await asyncio.wait_for(task, 20)
    assert reading.delivered == COUNT
    assert reading.most_held < most


async def test_small_records_are_read_many_at_a_time(tmp_path: Path) -> None:
    reading = Reading(tmp_path, {"text": "x"})
    task = asyncio.create_task(reading.scheduler.run())
    await asyncio.sleep(0.1)
    assert reading.held > 100
    reading.may_end.set()
    await task
