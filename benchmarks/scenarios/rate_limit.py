"""A server that admits 100 requests per second, a burst of 25, and says `Retry-After: 1` to others.

800 rows take (800 - 25) / 100 + 0.2 = 8.0 s at best. The engine is not told the limit.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks import clients
from benchmarks.scenarios import Bench
from benchmarks.trial import Job, Trial

ROWS = 800
CONCURRENCY = 128
REQUESTS_PER_SECOND = 100
BURST = 25
LATENCY_SECONDS = 0.2
IDEAL_SECONDS = (ROWS - BURST) / REQUESTS_PER_SECOND + LATENCY_SECONDS


def measure(bench: Bench) -> Mapping[str, list[Trial]]:
    """Return the trials of the engine, and of the SDK with its own retries."""
    compared = (clients.ENGINE, clients.OPENAI_AIOHTTP)
    trials: dict[str, list[Trial]] = {client.title: [] for client in compared}
    for _ in range(bench.sizes.rounds):
        for client in compared:
            job = Job(bench.documents(ROWS), ROWS, CONCURRENCY, bench.new_output())
            endpoint = (
                *("-latency", f"{LATENCY_SECONDS}s"),
                *("-rps", str(REQUESTS_PER_SECOND), "-burst", str(BURST), "-retry-after", "1s"),
            )
            trials[client.title].append(bench.run(client, job, *endpoint))
    return trials
