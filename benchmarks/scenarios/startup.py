"""Going on with a shard of which a million records are done.

The history of the shard is written by the engine's own plan, ledger and journal, without the model
calls that it stands for. What is measured is the time from the start of the process to its first
request for a record, and the memory at that moment, against the same with nothing done. Before that
request one asks what the server can do, whose latency is part of the time.
"""

from __future__ import annotations

import dataclasses
import random
import shutil
import time
from pathlib import Path

from benchmarks import clients, endpoint_process, machine, trial, workload
from benchmarks.endpoint_process import Endpoint
from benchmarks.scenarios import Bench
from benchmarks.trial import Job
from kubesynth_runner.io import ledger, plan_file, run_identity
from kubesynth_runner.io.journal import CallFrame, Journal, call_key
from kubesynth_runner.io.local_storage import LocalStorage
from kubesynth_runner.tally import Tally

CONCURRENCY = 64
LATENCY = "200ms"
DOCUMENT_WORDS = 12
ROWS_PER_PART = 50_000
ROWS_LEFT = 5_000
ROWS_JOURNALLED = 500
TIMEOUT_SECONDS = 120.0


@dataclasses.dataclass(frozen=True, slots=True)
class Start:
    """From the start of the process to its first request."""

    rows_done: int
    seconds: float
    cpu_seconds: float
    import_seconds: float
    proportional_bytes: int


@dataclasses.dataclass(frozen=True, slots=True)
class Startup:
    """With nothing done, and with all but ROWS_LEFT rows done; one of each per round."""

    idle: list[Start]
    resumed: list[Start]


def measure(bench: Bench) -> Startup:
    """Start both as often as there are rounds."""
    total = bench.sizes.startup_rows + ROWS_LEFT
    result = Startup([], [])
    for _ in range(bench.sizes.rounds):
        for rows, starts in ((ROWS_LEFT, result.idle), (total, result.resumed)):
            job = Job(
                bench.documents(rows, DOCUMENT_WORDS),
                rows,
                CONCURRENCY,
                bench.new_output(),
                ("--phase", "generate"),
            )
            with endpoint_process.run(bench.cores, "-latency", LATENCY) as endpoint:
                planned = dataclasses.replace(job, arguments=("--phase", "plan"))
                trial.run(clients.ENGINE, planned, endpoint, bench.cores)
                _write_history(job.output, rows - ROWS_LEFT)
                starts.append(_start(bench, job, endpoint, rows - ROWS_LEFT))
            shutil.rmtree(job.output)
    return result


def _start(bench: Bench, job: Job, endpoint: Endpoint, rows_done: int) -> Start:
    with trial.RunningClient(clients.ENGINE, job, endpoint, bench.cores) as running:
        for _ in running.watch():
            # The capabilities are asked first, by one request alone; then the work begins.
            if endpoint.stats().in_flight > 1:
                pid = running.process.pid
                return Start(
                    rows_done,
                    time.monotonic() - running.began,
                    machine.cpu_seconds(pid),
                    running.ready_at - running.began,
                    machine.proportional_set_bytes(pid),
                )
            if time.monotonic() - running.began > TIMEOUT_SECONDS:
                break
    raise trial.ClientFailedError(f"no request within {TIMEOUT_SECONDS} s, or an early end")


def _write_history(output: Path, rows: int) -> None:
    """Mark the first rows as done, in parts, and leave some calls of the next in the journal."""
    storage = LocalStorage(output)
    run_id = run_identity.require(storage, workload.UID).run_id
    plan = plan_file.load(storage, run_id)
    if plan is None:
        raise RuntimeError(f"{output} holds no plan")
    book = ledger.Ledger(storage, 0, run_id, plan.records)
    book.open("benchmark")
    order, missing = random.Random(3), list[int]()
    for first in range(0, rows, ROWS_PER_PART):
        ordinals = [*missing, *range(first, min(rows, first + ROWS_PER_PART))]
        # Rows end out of order: the last ones of a part leave gaps that the next part fills.
        is_last = ordinals[-1] == rows - 1
        missing = [] if is_last else order.sample(ordinals[-2 * CONCURRENCY :], CONCURRENCY)
        _commit(book, sorted(set(ordinals) - set(missing)))
    journal = Journal(storage, run_id, 0, book.epoch)
    for ordinal in range(rows, rows + ROWS_JOURNALLED):
        key = call_key(str(ordinal), 0, 0)
        journal.append(CallFrame(key, b"", ordinal, "x" * 2000, "stop", 250, 300, "bench", 1))
    journal.close()


def _commit(book: ledger.Ledger, ordinals: list[int]) -> None:
    count, ranges = len(ordinals), ledger.to_ranges(ordinals)
    tally = Tally(done=count, accepted=count, requests_ok=count)
    book.commit(ledger.CommitRecord(book.run_id, book.next_part, book.epoch, ranges, tally))
