"""How many of 64 slots are busy when answers take unequally long, in one stage and in two.

Latencies are log-normal; a client that waits for the slowest answer of a batch leaves most slots
empty. The second run is a pipeline in which each document becomes five questions, each of which is
answered: a barrier between the stages would show.
"""

from __future__ import annotations

import dataclasses

from benchmarks import clients, workload
from benchmarks.scenarios import Bench
from benchmarks.trial import Job, Trial

CONCURRENCY = 64
MEAN_LATENCY_SECONDS = 0.5
SIGMA = 0.6


@dataclasses.dataclass(frozen=True, slots=True)
class Slots:
    """Trials of one round each; `mean_concurrency` of the server is the result."""

    engine: list[Trial]
    bare_aiohttp: list[Trial]
    pipeline: list[Trial]


def measure(bench: Bench) -> Slots:
    """Run the three."""
    latency = ("-latency", f"{MEAN_LATENCY_SECONDS}s", "-sigma", str(SIGMA))
    rows, count = bench.sizes.slots_rows, bench.sizes.questions_documents
    result = Slots([], [], [])
    for number in range(bench.sizes.rounds):
        endpoint = (*latency, "-seed", str(number + 1))
        for client, trials in (
            (clients.ENGINE, result.engine),
            (clients.BARE_AIOHTTP, result.bare_aiohttp),
        ):
            job = Job(bench.documents(rows), rows, CONCURRENCY, bench.new_output())
            trials.append(bench.run(client, job, *endpoint))
        job = Job(
            bench.documents(count),
            count,
            CONCURRENCY,
            bench.new_output(),
            ("--pipeline", "questions"),
        )
        done = bench.run(clients.ENGINE, job, *endpoint)
        expected = count * workload.CALLS_PER_DOCUMENT
        if done.server.distinct < expected:
            raise RuntimeError(f"{done.server.distinct} calls, {expected} were expected")
        result.pipeline.append(done)
    return result
