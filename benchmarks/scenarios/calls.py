"""How many calls an accepted row costs, beside the formulas of NVIDIA NeMo Curator's pipelines.

Curator 0.9 asks for each list twice: once to write it, once to turn it into YAML. Ours are real
runs whose requests the endpoint has counted, its probe included; Curator's are what its code comes
to for the same parameters, if no conversion fails.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from benchmarks import clients, workload
from benchmarks.scenarios import Bench
from benchmarks.trial import Job

CONCURRENCY = 64
DOCUMENTS = 100
# The endpoint's answers are lists of five.
N = 5
TREE: Mapping[str, Any] = {"macroTopics": N, "subtopics": N}
TOPICS = N * N + N
# Of 5 topics and 2 kinds of text.
PAIRS = 10
PIPELINES: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "openQA": ({"openQA": {**TREE, "questions": N, "revisions": N}},),
    "closedQA": ({"closedQA": {"questions": N}},),
    "writing": (
        {
            "writing": {
                "topics": ["bread", "rivers", "glass", "bees", "locks"],
                "materials": ["poem", "letter"],
                "tasks": N,
                "revisions": N,
            }
        },
    ),
    "math": ({"math": {**TREE, "problems": N}},),
    "coding": ({"coding": {**TREE, "problems": N}},),
}
# Calls and rows by Curator's formulas. Its synchronous Python pipeline takes every subtopic twice;
# that fault is left out.
CURATOR: Mapping[str, tuple[int, int]] = {
    "openQA": (2 * (1 + N + TOPICS + TOPICS * N), TOPICS * N * N),
    "closedQA": (2 * DOCUMENTS, DOCUMENTS * N),
    "writing": (2 * PAIRS + 2 * PAIRS * N, PAIRS * N * N),
    "math": (2 * (1 + N + TOPICS), TOPICS * N),
    "coding": (2 * (1 + N + TOPICS), TOPICS * N),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Calls:
    """One run: the requests that the endpoint has seen, and the rows that were accepted."""

    pipeline: str
    requests: int
    rows: int

    @property
    def per_row(self) -> float:
        """Requests per accepted row."""
        return self.requests / self.rows

    @property
    def curators_per_row(self) -> float:
        """The same by Curator's formula."""
        calls, rows = CURATOR[self.pipeline]
        return calls / rows


def measure(bench: Bench) -> list[Calls]:
    """Run each pipeline once: counts do not vary."""
    return [_run(bench, name) for name in PIPELINES]


def _run(bench: Bench, name: str) -> Calls:
    documents = bench.documents(DOCUMENTS, workload.DOCUMENT_WORDS)
    job = Job(documents, DOCUMENTS, CONCURRENCY, bench.new_output(), ("--pipeline", name))
    done = bench.run(clients.ENGINE, job, "-latency", "0.002s")
    if not done.rows:
        raise RuntimeError(f"no row came of {name}")
    return Calls(name, done.server.requests, done.rows)
