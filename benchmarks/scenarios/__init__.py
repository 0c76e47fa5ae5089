"""What is measured: one module for each row, or group of rows, of the table."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from pathlib import Path

from benchmarks import endpoint_process, machine, trial, workload
from benchmarks.clients import Client


@dataclasses.dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured. `memory_rows` is in rising order."""

    rounds: int = 3
    throughput_rows: int = 10_000
    slots_rows: int = 1_536
    questions_documents: int = 256
    kill_rows: int = 4_000
    knee_rows: int = 9_600
    memory_rows: tuple[int, ...] = (10_000, 100_000)
    startup_rows: int = 1_000_000
    triton_rows: int = 4_000
    routed_documents: tuple[int, ...] = (2_500, 10_000)


QUICK = Sizes(1, 2_560, 512, 64, 1_500, 4_800, (2_000, 8_000), 200_000, 1_200, (500, 2_000))
FULL = Sizes(memory_rows=(10_000, 100_000, 1_000_000))


class Bench:
    """The place where scenarios run: cores, a scratch folder, input files that are made once."""

    def __init__(self, cores: machine.Cores, folder: Path, sizes: Sizes) -> None:
        self.cores = cores
        self.folder = folder
        self.sizes = sizes
        self._numbers = itertools.count()

    def documents(self, count: int, words: int = workload.DOCUMENT_WORDS) -> Path:
        """Return a file of documents."""
        path = self.folder / f"documents-{count}-{words}.jsonl"
        if not path.exists():
            workload.write_documents(path, count, words)
        return path

    def new_output(self) -> Path:
        """Return a folder that does not exist yet."""
        return self.folder / f"output-{next(self._numbers)}"

    def run(
        self, client: Client, job: trial.Job, *endpoint: str, sample_memory: bool = False
    ) -> trial.Trial:
        """Run a client against an endpoint of its own, and delete what it has written."""
        with endpoint_process.run(self.cores, *endpoint) as server:
            done = trial.run(client, job, server, self.cores, sample_memory=sample_memory)
        shutil.rmtree(job.output, ignore_errors=True)
        return done
