"""Ten thousand documents through the five stages for documents, routed by quality.

A document has a quality from 0 to 19, said by its number. Poor ones are rewritten, good ones go
through four stages: about 2.2 calls for each document. Memory should not depend on their number.
"""

from __future__ import annotations

from benchmarks import clients
from benchmarks.scenarios import Bench
from benchmarks.scenarios.memory import Memory
from benchmarks.trial import Job

CONCURRENCY = 128
LATENCY_SECONDS = 0.02


def measure(bench: Bench) -> list[Memory]:
    """Return one result for each number of documents."""
    return [_run(bench, documents) for documents in bench.sizes.routed_documents]


def _run(bench: Bench, documents: int) -> Memory:
    arguments = ("--pipeline", "routed")
    job = Job(bench.documents(documents), documents, CONCURRENCY, bench.new_output(), arguments)
    endpoint = ("-latency", f"{LATENCY_SECONDS}s")
    done = bench.run(clients.ENGINE, job, *endpoint, sample_memory=True)
    return Memory(
        done.rows, done.peak_proportional_bytes, done.peak_resident_bytes, done.cpu_ms_per_answer
    )
