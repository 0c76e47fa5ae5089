"""Peak memory of runs of different length: it should not depend on it.

Short documents and a short latency, so that a million rows take minutes and not hours.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from benchmarks import clients
from benchmarks.scenarios import Bench
from benchmarks.trial import Job

CONCURRENCY = 128
LATENCY_SECONDS = 0.02
DOCUMENT_WORDS = 30


@dataclasses.dataclass(frozen=True, slots=True)
class Memory:
    """The peak of one run, as proportional and as resident set, sampled four times a second."""

    rows: int
    peak_proportional_bytes: int
    peak_resident_bytes: int
    cpu_ms_per_row: float


def measure(bench: Bench) -> list[Memory]:
    """Return one result for each length."""
    return [
        run(bench, bench.documents(rows, DOCUMENT_WORDS), rows) for rows in bench.sizes.memory_rows
    ]


def run(bench: Bench, documents: Path, count: int, *arguments: str) -> Memory:
    """Run so many documents through a pipeline and look at the memory meanwhile."""
    job = Job(documents, count, CONCURRENCY, bench.new_output(), arguments)
    endpoint = ("-latency", f"{LATENCY_SECONDS}s")
    done = bench.run(clients.ENGINE, job, *endpoint, sample_memory=True)
    return Memory(
        done.rows,
        done.peak_proportional_bytes,
        done.peak_resident_bytes,
        done.cpu_ms_per_answer,
    )


def slope_bytes_per_row(runs: list[Memory]) -> float:
    """Return the growth from the last run but one to the last."""
    before, last = runs[-2:]
    return (last.peak_proportional_bytes - before.peak_proportional_bytes) / (
        last.rows - before.rows
    )
