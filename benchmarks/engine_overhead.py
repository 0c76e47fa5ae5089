"""What the engine costs when the model costs nothing.

    python -m benchmarks.engine_overhead [--records 100000]

Runs plan, generate and finalize over a model in this very process that answers at once, each size
in a process of its own, and a bare asyncio loop that asks the same model as often. What is left is
the engine: reading, ids, prompts, hashes, journal, lineage, Parquet. No network, no disk waits to
speak of: the output lies in memory where there is such a place.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import uvloop

from kubesynth_api.run_spec import RunSpec
from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_runner import clients
from kubesynth_runner import run as runner
from kubesynth_runner.environment import RunEnvironment
from kubesynth_runner.io import locations
from kubesynth_runner.io.mounts import Mounts
from kubesynth_runner.llm.base import (
    Capabilities,
    Completion,
    CompletionRequest,
    Message,
    TokenUsage,
)
from kubesynth_runner.phases.context import RunContext
from kubesynth_runner.progress import Progress

CONCURRENCY = 64
TEXT = "The mill stands where the river leaves the valley, and has stood there for long. " * 4
ANSWER = "It stands where the river leaves the valley."


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """One run: `peak_mb` is the peak resident set of its process, imports included."""

    name: str
    records: int
    seconds: float
    cpu_seconds: float
    peak_mb: float

    @property
    def cpu_ms_per_record(self) -> float:
        """CPU time, user and system, all threads."""
        return 1000 * self.cpu_seconds / self.records


class InstantModel:
    """Answers at once."""

    def __init__(self, _endpoint: object = None) -> None:
        self._completion = Completion(ANSWER, "stop", TokenUsage(100, 10), "instant")

    async def complete(self, request: CompletionRequest) -> Completion:
        """Return the answer."""
        return self._completion

    async def probe(self) -> Capabilities:
        """Return what there is to know."""
        return Capabilities(json_schema=False)

    async def close(self) -> None:
        """Do nothing."""


async def _bare(folder: Path, records: int) -> None:
    model = InstantModel()
    left = iter(range(records))

    async def work() -> None:
        for _ in left:
            await model.complete(CompletionRequest((Message("user", TEXT),)))
            await asyncio.sleep(0)

    await asyncio.gather(*(work() for _ in range(CONCURRENCY)))


async def _engine(folder: Path, records: int) -> None:
    wire: dict[str, Any] = {
        "models": [
            {
                "name": "instant",
                "external": {"url": "http://127.0.0.1:9/v1", "model": "instant"},
                "limits": {"concurrency": CONCURRENCY},
            }
        ],
        "input": {"uri": f"file://{folder}/in.jsonl"},
        "pipeline": [{"prompt": {"user": {"inline": "What is this about?\n{{ text }}"}}}],
        "output": {"uri": f"file://{folder}/out", "rowsPerPart": 50_000},
        "seed": 1,
    }
    spec = RunSpec(name="bench", uid="bench", spec=SyntheticDataJobSpec.model_validate(wire))
    context = RunContext(
        spec,
        RunEnvironment(Mounts(), writer="bench"),
        locations.open_storage(spec.spec.output, Mounts()),
        Progress(RunnerPhase.ALL),
        asyncio.Event(),
    )
    with mock.patch.object(clients, "OpenAIChatClient", InstantModel):
        message = await runner.run_phase(context, runner.PhaseRequest(RunnerPhase.ALL))
    assert message.totals is not None
    assert message.totals.records.accepted == records


def _measure_here(name: str, records: int, folder: Path) -> None:
    """Run one measurement in this process and print it as JSON."""
    work = {"bare": _bare, "engine": _engine}[name]
    began, cpu = time.perf_counter(), time.process_time()
    uvloop.run(work(folder, records))
    cost = Cost(
        name,
        records,
        time.perf_counter() - began,
        time.process_time() - cpu,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )
    print(json.dumps(dataclasses.asdict(cost)))


def measure(name: str, records: int) -> Cost:
    """Run one measurement in a process of its own."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        with (Path(folder) / "in.jsonl").open("w") as file:
            for number in range(records):
                file.write(json.dumps({"text": f"{number}: {TEXT}"}) + "\n")
        child = subprocess.run(
            [sys.executable, "-m", "benchmarks.engine_overhead", name, str(records), folder],
            check=True,
            stdout=subprocess.PIPE,
        )
    return Cost(**json.loads(child.stdout))


def main() -> None:
    """Measure and print the table."""
    if len(sys.argv) == 4:
        _measure_here(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=100_000)
    records: int = parser.parse_args().records
    base = measure("bare", records)
    costs = [base, measure("engine", records // 10), measure("engine", records)]
    print(f"{'':8}{'records':>9}{'records/s':>11}{'CPU ms/record':>15}{'x bare':>8}{'peak MB':>9}")
    for cost in costs:
        ratio = cost.cpu_ms_per_record / base.cpu_ms_per_record
        print(
            f"{cost.name:8}{cost.records:9,}{cost.records / cost.seconds:11,.0f}"
            f"{cost.cpu_ms_per_record:15.3f}{ratio:8.1f}{cost.peak_mb:9.0f}"
        )


if __name__ == "__main__":
    main()
