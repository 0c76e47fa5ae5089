"""`kill -9` when half of the rows are done, in each of the ways in which a run can go on.

    disk      the process is killed and the same command runs again: the folder is still there
    bucket    the same with an output in an object store (SeaweedFS), as on a node that is lost:
              what the journal has not uploaded yet is gone
    stale     the process is stopped (SIGSTOP), the same command takes over, and then the first one
              wakes up and finds out

What is in the output is read back from its Parquet files. A call that is issued a second time is
one whose request body the endpoint has let in before; as many as are in flight for the client are
unavoidable, and an answer that it has not read yet is in flight too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from unittest import mock

import pyarrow.parquet as pq

from benchmarks import clients, endpoint_process, trial
from benchmarks.endpoint_process import Endpoint
from benchmarks.scenarios import Bench
from benchmarks.trial import Job
from kubesynth_api.v1alpha1.storage import OutputSpec, StorageOptions
from kubesynth_runner.io.local_storage import LocalStorage
from kubesynth_runner.io.locations import open_storage
from kubesynth_runner.io.mounts import Mounts
from kubesynth_runner.io.storage import Storage
from kubesynth_testing import object_stores

CONCURRENCY = 64
LATENCY_SECONDS = 0.2
# The journal is uploaded, and a writer looks at its claim, once a second.
HEARTBEAT_SECONDS = 1.0
PER_HEARTBEAT = round(CONCURRENCY / LATENCY_SECONDS * HEARTBEAT_SECONDS)


@dataclasses.dataclass(frozen=True, slots=True)
class Kill:
    """What a kill has cost. `allowed` calls may be issued again."""

    rows: int
    answered_at_kill: int
    allowed: int
    lost: int
    duplicated: int
    reissued: int


@dataclasses.dataclass(frozen=True, slots=True)
class _Place:
    """Where a run has its output: arguments of the client, and the way to look into it."""

    arguments: tuple[str, ...]
    open: Callable[[Path], Storage]


def measure(bench: Bench) -> Mapping[str, list[Kill]]:
    """Return one result for each case and round."""
    disk = _Place((), LocalStorage)
    results: dict[str, list[Kill]] = {"disk": [], "bucket": [], "stale": []}
    for _ in range(bench.sizes.rounds):
        results["disk"].append(_run(bench, disk, _killed, CONCURRENCY))
        with _bucket() as bucket:
            results["bucket"].append(_run(bench, bucket, _killed, CONCURRENCY + PER_HEARTBEAT))
        results["stale"].append(_run(bench, disk, _stale, 2 * CONCURRENCY + PER_HEARTBEAT))
    return results


def _run(
    bench: Bench,
    place: _Place,
    disturb: Callable[[Job, Endpoint, Bench], int],
    allowed: int,
) -> Kill:
    rows = bench.sizes.kill_rows
    # Several parts, so that the kill meets committed, open and journalled rows.
    arguments = ("--rows-per-part", str(rows // 5), *place.arguments)
    job = Job(bench.documents(rows), rows, CONCURRENCY, bench.new_output(), arguments)
    with endpoint_process.run(bench.cores, "-latency", f"{LATENCY_SECONDS}s") as endpoint:
        at_kill = disturb(job, endpoint, bench)
        after = endpoint.stats()
    ids = _ids(place.open(job.output))
    return Kill(
        rows,
        at_kill,
        allowed,
        rows - len(set(ids)),
        len(ids) - len(set(ids)),
        after.reissued,
    )


def _killed(job: Job, endpoint: Endpoint, bench: Bench) -> int:
    """Kill the engine at half and run it again; return the answers up to then."""
    with _half_done(job, endpoint, bench) as running:
        running.process.send_signal(signal.SIGKILL)
        running.process.wait()
    answered = endpoint.stats().answered
    trial.run(clients.ENGINE, job, endpoint, bench.cores)
    return answered


def _stale(job: Job, endpoint: Endpoint, bench: Bench) -> int:
    """Stop the engine at half, let another one take over, and wake the first one up."""
    with _half_done(job, endpoint, bench) as first:
        first.process.send_signal(signal.SIGSTOP)
        answered = endpoint.stats().answered
        with trial.RunningClient(clients.ENGINE, job, endpoint, bench.cores) as second:
            for _ in second.watch():
                if endpoint.stats().answered >= answered + 3 * CONCURRENCY:
                    break
            first.process.send_signal(signal.SIGCONT)
            for _ in second.watch():
                pass
            if second.process.returncode != 0:
                raise trial.ClientFailedError("the engine that took over has failed")
        first.process.wait()
    return answered


@contextlib.contextmanager
def _half_done(job: Job, endpoint: Endpoint, bench: Bench) -> Iterator[trial.RunningClient]:
    with trial.RunningClient(clients.ENGINE, job, endpoint, bench.cores) as running:
        for _ in running.watch():
            if endpoint.stats().answered >= job.rows // 2:
                break
        else:
            raise trial.ClientFailedError("the engine ended before it was disturbed")
        yield running


@contextlib.contextmanager
def _bucket() -> Iterator[_Place]:
    """Run an object store; its keys are in the environment of the clients that are started."""
    with object_stores.serve("seaweedfs") as store:
        keys = {path.name: path.read_text() for path in store.secret_folder.iterdir()}
        uri = f"{store.make_bucket()}/run"
        storage = StorageOptions.model_validate(dict(store.options))
        arguments = ("--bucket", uri, "--endpoint", str(store.options["endpoint"]))
        with mock.patch.dict(os.environ, keys):
            output = OutputSpec(uri=uri, storage=storage)
            mounts = Mounts(secrets=store.mounts.secrets)
            yield _Place(arguments, lambda _: open_storage(output, mounts))


def _ids(storage: Storage) -> list[str]:
    ids: list[str] = []
    for file in storage.list_files("data"):
        table = pq.read_table(io.BytesIO(storage.read(file.path)), columns=["id"])
        ids += table["id"].to_pylist()
    return ids
