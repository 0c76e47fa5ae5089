"""Rows per second over gRPC, against a real Triton Inference Server: the engine and tritonclient.

The server is the test harness's, with NeMo Deploy's tensors and a model that waits and then answers
with a pure function of the prompt. It merges requests into batches, and so it sets the pace of
both clients; what differs is how well they keep it busy.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks import machine, trial, workload
from benchmarks.clients import Client
from benchmarks.endpoint_process import Endpoint, EndpointStats
from benchmarks.scenarios import Bench
from benchmarks.trial import Job, Trial

CONCURRENCY = 64
LATENCY_SECONDS = 0.1
ENGINE = Client("kubesynth", "benchmarks.clients.engine", ("--protocol", "Triton"))
BARE = "bare tritonclient.aio"
_HARNESS = Path(__file__).parents[2] / "tests" / "support"


@dataclasses.dataclass(frozen=True, slots=True)
class _TritonEndpoint(Endpoint):
    """The server as a trial sees it. It counts nothing that a trial needs."""

    @property
    def api_url(self) -> str:
        """Where it is."""
        return self.url

    def stats(self) -> EndpointStats:
        """Return nothing."""
        return EndpointStats(**{field.name: 0 for field in dataclasses.fields(EndpointStats)})


def measure(bench: Bench) -> Mapping[str, list[Trial]]:
    """Return the trials of both clients, by title, one for each round."""
    documents = bench.documents(bench.sizes.triton_rows)
    trials: dict[str, list[Trial]] = {ENGINE.title: [], BARE: []}
    with _server(bench) as (endpoint, interpreter):
        bare = Client(BARE, "benchmarks.clients.bare_tritonclient", _bare_arguments(interpreter))
        for _ in range(bench.sizes.rounds):
            for client in (ENGINE, bare):
                job = Job(documents, bench.sizes.triton_rows, CONCURRENCY, bench.new_output())
                done = trial.run(client, job, endpoint, bench.cores)
                shutil.rmtree(job.output, ignore_errors=True)
                trials[client.title].append(done)
    return trials


def rows_per_second(done: Trial) -> float:
    """Return rows per second from the moment when all is imported to the end of the process."""
    return done.rows / done.wall_seconds


@contextlib.contextmanager
def _server(bench: Bench) -> Iterator[tuple[Endpoint, str]]:
    """Serve on the endpoint's core; yield the interpreter that has tritonclient, too."""
    sys.path.insert(0, str(_HARNESS))
    from kubesynth_testing.triton import environment
    from kubesynth_testing.triton.server import TritonServer

    folder = bench.folder / "triton"
    folder.mkdir()
    models = [workload.TRITON_MODEL]
    with (
        machine.pinned(bench.cores.server),
        TritonServer(folder, models, latency_seconds=LATENCY_SECONDS) as server,
    ):
        yield _TritonEndpoint(server.url), str(environment.python())


def _bare_arguments(interpreter: str) -> tuple[str, ...]:
    return (
        *("--python", interpreter, "--triton-model", workload.TRITON_MODEL),
        *("--prompt", workload.PROMPT, "--max-tokens", str(workload.MAX_TOKENS)),
    )
