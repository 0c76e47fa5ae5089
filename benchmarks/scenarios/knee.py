"""A server that works on 64 requests at once, lets all others wait, and never says 429.

The engine may have 512 under way. With `limits.adaptive: Latency` it should find out that 64 to 128
do, and keep the server as busy as if it had sent them all.
"""

from __future__ import annotations

import dataclasses

from benchmarks import clients
from benchmarks.scenarios import Bench
from benchmarks.trial import Job, Trial

SLOTS = 64
CONCURRENCY = 512
LATENCY_SECONDS = 0.2
SIGMA = 0.3
CAPACITY_PER_SECOND = SLOTS / LATENCY_SECONDS


@dataclasses.dataclass(frozen=True, slots=True)
class Knee:
    """Trials with either kind of admission."""

    latency: list[Trial]
    refusals: list[Trial]


def measure(bench: Bench) -> Knee:
    """Run the engine both ways."""
    rows = bench.sizes.knee_rows
    endpoint = ("-latency", f"{LATENCY_SECONDS}s", "-sigma", str(SIGMA), "-slots", str(SLOTS))
    result = Knee([], [])
    for _ in range(bench.sizes.rounds):
        for adaptive, trials in (("Latency", result.latency), ("Refusals", result.refusals)):
            job = Job(
                bench.documents(rows),
                rows,
                CONCURRENCY,
                bench.new_output(),
                ("--adaptive", adaptive),
            )
            trials.append(bench.run(clients.ENGINE, job, *endpoint))
    return result
