"""What `limits.adaptive: Latency` finds out about servers: on virtual time, without a network.

    PYTHONPATH=tests/support python -m benchmarks.adaptive [--rounds 3]

The servers are simulated (`kubesynth_testing.simulated_servers`), what decides is the engine's own.
Each row is a server and how much its answers differ in length (sigma of a log-normal). What it is
measured by is the best that any fixed number of requests, up to 512, gets from the same server; the
first half of each run, the search, is left out of the throughput.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import statistics
from collections.abc import Iterator

from kubesynth_runner.engine.gradient import LatencyGradient
from kubesynth_testing.simulated_servers import Client, Fixed, Server, Simulation

MOST = 512
FIXED = (8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512)
# Through what was measured of vLLM 0.24 on an H200, with answers of 128 tokens: 0.54 s alone, 54.6
# answers/s with 50 under way, 82 answers/s with 256.
MEASURED = Server(alone=0.5328, each=0.00719, pair=1.109e-5)


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A server and its requests."""

    name: str
    server: Server
    sigma: float
    answers: int
    counts_tokens: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """`share` of the best throughput; `answers` until nine tenths of it were in reach."""

    share: float
    limit: float
    lowest: float
    highest: float
    answers: int


def rows() -> Iterator[Row]:
    """Yield what is simulated."""
    for slots in (4, 16, 64, 256):
        for sigma in (0.0, 0.6, 1.0):
            yield Row(f"{slots} slots", Server(slots=slots), sigma, max(3000, 100 * slots))
    for sigma in (0.0, 0.6, 1.0):
        yield Row("batching, as measured", MEASURED, sigma, 12000)
    batching = Server(alone=0.53, each=0.01)
    yield Row("batching, linear", batching, 0.6, 12000)
    yield Row("— with 256 slots", dataclasses.replace(batching, slots=256), 0.6, 12000)
    yield Row("— soon full", Server(1.0, 1 / 16), 0.6, 8000)
    yield Row("— falls beyond 45", Server(1.0, 0.005, 1 / 2000), 0.6, 8000)
    yield Row("— a small cache", Server(1.0, 1 / 64, cache=100), 0.6, 8000)
    yield Row("64 slots, no tokens counted", Server(slots=64), 0.6, 6400, counts_tokens=False)
    yield Row("batching, no tokens counted", MEASURED, 0.6, 12000, counts_tokens=False)


def per_second(client: Client) -> float:
    """Return the work per second in the second half of the answers."""
    since, until = client.answers[len(client.answers) // 2][0], client.answers[-1][0]
    return sum(work for time, work, _, _ in client.answers if time > since) / (until - since)


def best_of(row: Row) -> float:
    """Return the most that a fixed number gets; only a cache makes it a matter of trying."""
    if row.server.cache == math.inf:
        return row.server.best(MOST)
    found = []
    for number in FIXED:
        client = Client(Fixed(number))
        Simulation(row.server, [client], row.sigma, seed=1000).run(row.answers)
        found.append(per_second(client))
    return max(found)


def measure(row: Row, best: float, seed: int) -> Found:
    """Run the controller on a server."""
    client = Client(LatencyGradient(), MOST, sees_work=row.counts_tokens)
    Simulation(row.server, [client], row.sigma, seed=seed).run(row.answers)
    rate = per_second(client)
    limits = [answer[3] for answer in client.answers]
    late = limits[len(limits) // 2 :]
    near = 0.9 * min(best, rate)
    reached = (n for n, limit in enumerate(limits) if row.server.per_second(int(limit)) >= near)
    return Found(
        rate / best, statistics.mean(late), min(late), max(late), next(reached, row.answers)
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="seeds for each row")
    rounds: int = parser.parse_args().rounds
    print("| server | sigma | of the best, mean (worst) | under way, mean (range) | answers |")
    print("|---|---|---|---|---|")
    for row in rows():
        best = best_of(row)
        found = [measure(row, best, seed) for seed in range(1, rounds + 1)]
        mean, worst = statistics.mean(f.share for f in found), min(f.share for f in found)
        print(
            f"| {row.name} | {row.sigma} | {mean:.0%} ({worst:.0%}) "
            f"| {statistics.mean(f.limit for f in found):.0f} "
            f"({min(f.lowest for f in found):.0f}-{max(f.highest for f in found):.0f}) "
            f"| {statistics.mean(f.answers for f in found):,.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
