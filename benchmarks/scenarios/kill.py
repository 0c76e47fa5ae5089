"""`kill -9` when half of the rows are done; then the same command again.

What is in the output is read back from its Parquet files. A call that is issued a second time is
one whose request body the endpoint has let in before; as many as are in flight for the client are
unavoidable, and an answer that it has not read yet is in flight too.
"""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks import clients, endpoint_process, trial
from benchmarks.endpoint_process import Endpoint
from benchmarks.scenarios import Bench
from benchmarks.trial import Job

CONCURRENCY = 64
LATENCY_SECONDS = 0.2


@dataclasses.dataclass(frozen=True, slots=True)
class Kill:
    """What a kill has cost."""

    rows: int
    answered_at_kill: int
    concurrency: int
    lost: int
    duplicated: int
    reissued: int


def measure(bench: Bench) -> list[Kill]:
    """Return one result for each round."""
    return [_kill(bench) for _ in range(bench.sizes.rounds)]


def _kill(bench: Bench) -> Kill:
    rows = bench.sizes.kill_rows
    # Several parts, so that the kill meets committed, open and journalled rows.
    arguments = ("--rows-per-part", str(rows // 5))
    job = Job(bench.documents(rows), rows, CONCURRENCY, bench.new_output(), arguments)
    with endpoint_process.run(bench.cores, "-latency", f"{LATENCY_SECONDS}s") as endpoint:
        _run_to_half(job, endpoint, bench)
        at_kill = endpoint.stats()
        trial.run(clients.ENGINE, job, endpoint, bench.cores)
        after = endpoint.stats()
    ids = _ids(job.output)
    return Kill(
        rows,
        at_kill.answered,
        CONCURRENCY,
        rows - len(set(ids)),
        len(ids) - len(set(ids)),
        after.reissued,
    )


def _run_to_half(job: Job, endpoint: Endpoint, bench: Bench) -> None:
    with trial.RunningClient(clients.ENGINE, job, endpoint, bench.cores) as running:
        for _ in running.watch():
            if endpoint.stats().answered >= job.rows // 2:
                running.process.send_signal(signal.SIGKILL)
                running.process.wait()
                return
    raise trial.ClientFailedError("the engine ended before it was killed")


def _ids(output: Path) -> list[str]:
    ids: list[str] = []
    for path in sorted((output / "data").iterdir()):
        ids += pq.read_table(path, columns=["id"])["id"].to_pylist()
    return ids
