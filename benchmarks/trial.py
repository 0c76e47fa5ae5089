"""One client, once: started on its own core, watched from outside, and what it used."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks import machine
from benchmarks.clients import Client
from benchmarks.endpoint_process import MODEL, Endpoint, EndpointStats

REPOSITORY = Path(__file__).parents[1]
_POLL_SECONDS = 0.02
_SCRAPE_EVERY_SECONDS = 1.0
_SAMPLE_EVERY_SECONDS = 0.25


class ClientFailedError(RuntimeError):
    """A client ended with an error, or said less than it should have."""


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """What a client is asked to do."""

    documents: Path
    rows: int
    concurrency: int
    output: Path
    arguments: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Trial:
    """What came of it. CPU and wall time are counted from the moment when all is imported."""

    rows: int
    startup_seconds: float
    wall_seconds: float
    cpu_seconds: float
    peak_resident_bytes: int
    peak_proportional_bytes: int
    neighbour_load: float
    server: EndpointStats

    @property
    def total_seconds(self) -> float:
        """From the start of the process to its end."""
        return self.startup_seconds + self.wall_seconds

    @property
    def cpu_ms_per_answer(self) -> float:
        """Processor time of the client per call, in milliseconds."""
        return self.cpu_seconds * 1000 / max(1, self.server.answered)


class RunningClient:
    """A client process; its events are read by a thread."""

    def __init__(self, client: Client, job: Job, endpoint: Endpoint, cores: machine.Cores) -> None:
        command = [
            *(sys.executable, "-m", client.module, *client.arguments, *job.arguments),
            *("--url", endpoint.api_url, "--model", MODEL, "--input", str(job.documents)),
            *("--rows", str(job.rows), "--concurrency", str(job.concurrency)),
            *("--output", str(job.output)),
        ]
        self.began = time.monotonic()
        with machine.pinned(cores.client):
            self.process = subprocess.Popen(
                command, cwd=REPOSITORY, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
            )
        self.events: dict[str, dict[str, Any]] = {}
        self.ready_at = self.began
        self.peak_proportional_bytes = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> RunningClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                with contextlib.suppress(ValueError):
                    event = json.loads(line)
                    self.events[event["event"]] = event
                    if event["event"] == "ready":
                        self.ready_at = time.monotonic()

    def watch(self, *, sample_memory: bool = False) -> Iterator[None]:
        """Yield every few milliseconds while the process runs; scrape it and look at its memory."""
        next_scrape = next_sample = 0.0
        while self.process.poll() is None:
            now = time.monotonic()
            if now >= next_scrape and "metrics" in self.events:
                next_scrape = now + _SCRAPE_EVERY_SECONDS
                _scrape(self.events["metrics"]["url"])
            if sample_memory and now >= next_sample:
                next_sample = now + _SAMPLE_EVERY_SECONDS
                size = machine.proportional_set_bytes(self.process.pid)
                self.peak_proportional_bytes = max(self.peak_proportional_bytes, size)
            yield
            time.sleep(_POLL_SECONDS)
        self._reader.join()

    def finish(self, server: EndpointStats, neighbour_load: machine.NeighbourLoad) -> Trial:
        """Return the results of a client that has ended.

        Raises:
            ClientFailedError: it failed.
        """
        ended = time.monotonic()
        if self.process.returncode != 0 or not {"ready", "done"} <= self.events.keys():
            raise ClientFailedError(
                f"`{' '.join(map(str, self.process.args))}` "  # type: ignore[arg-type]
                f"exited with {self.process.returncode} after the events {list(self.events)}"
            )
        ready, done = self.events["ready"], self.events["done"]
        return Trial(
            done["rows"],
            self.ready_at - self.began,
            ended - self.ready_at,
            done["cpu_seconds"] - ready["cpu_seconds"],
            done["peak_resident_bytes"],
            self.peak_proportional_bytes,
            neighbour_load.share(done["cpu_seconds"]),
            server,
        )


def _scrape(url: str) -> None:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as response:
        response.read()


def run(
    client: Client,
    job: Job,
    endpoint: Endpoint,
    cores: machine.Cores,
    *,
    sample_memory: bool = False,
) -> Trial:
    """Run a client to its end.

    Raises:
        ClientFailedError: it failed.
    """
    load = machine.NeighbourLoad(cores.client)
    with RunningClient(client, job, endpoint, cores) as running:
        for _ in running.watch(sample_memory=sample_memory):
            pass
        return running.finish(endpoint.stats(), load)
