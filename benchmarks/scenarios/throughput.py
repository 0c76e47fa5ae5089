"""Rows per second and CPU per row of every client, against an endpoint with a fixed latency."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks import clients
from benchmarks.scenarios import Bench
from benchmarks.trial import Job, Trial

CONCURRENCY = 256
LATENCY_SECONDS = 0.2
LIMIT_PER_SECOND = CONCURRENCY / LATENCY_SECONDS


def measure(bench: Bench) -> Mapping[str, list[Trial]]:
    """Return the trials of each client, by its title, one for each round.

    A round runs all clients, so that what the neighbours do meets all of them.
    """
    trials: dict[str, list[Trial]] = {client.title: [] for client in clients.ALL}
    documents = bench.documents(bench.sizes.throughput_rows)
    for _ in range(bench.sizes.rounds):
        for client in clients.ALL:
            rows = round(bench.sizes.throughput_rows * client.rows_share)
            job = Job(documents, rows, CONCURRENCY, bench.new_output())
            trials[client.title].append(bench.run(client, job, "-latency", f"{LATENCY_SECONDS}s"))
    return trials
