"""Builds the endpoint, once for each state of its source, and runs it as a process."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import machine

SOURCE = Path(__file__).parent / "endpoint"
MODEL = "bench"
_BUILD_TIMEOUT_SECONDS = 600
_STOP_TIMEOUT_SECONDS = 10


class MissingToolchainError(RuntimeError):
    """The endpoint is not built yet and there is no Go compiler to build it."""


@dataclasses.dataclass(frozen=True, slots=True)
class EndpointStats:
    """What the endpoint saw; the fields are explained in `endpoint/stats.go`."""

    requests: int
    answered: int
    refused: int
    abandoned: int
    distinct: int
    reissued: int
    in_flight: int
    peak_concurrency: int
    mean_concurrency: float
    span_seconds: float
    service_p50_seconds: float
    cpu_seconds: float

    @property
    def items_per_second(self) -> float:
        """Answers per second over the span."""
        return self.answered / self.span_seconds if self.span_seconds else 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class SelfTest:
    """What the endpoint itself can do with no latency, on one core."""

    requests_per_second: float
    endpoint_cpu_ms_per_request: float
    ceiling_requests_per_second: float


@dataclasses.dataclass(frozen=True, slots=True)
class Endpoint:
    """A running endpoint."""

    url: str

    @property
    def api_url(self) -> str:
        """The base URL for clients."""
        return f"{self.url}/v1"

    def stats(self) -> EndpointStats:
        """Return what it has seen since it started."""
        with urllib.request.urlopen(f"{self.url}/stats", timeout=30) as response:
            found = json.load(response)
        names = [field.name for field in dataclasses.fields(EndpointStats)]
        return EndpointStats(**{name: found[name] for name in names})


def build() -> Path:
    """Return the program, built if this state of the source has not been built before.

    Raises:
        MissingToolchainError: it must be built and there is no `go`.
        subprocess.CalledProcessError: the build failed; its stderr is printed.
    """
    program = _cache_folder() / f"endpoint-{_key()}"
    if program.exists():
        return program
    if shutil.which("go") is None:
        raise MissingToolchainError(
            "the benchmarks' endpoint is not built yet, and building it needs Go >= 1.24 in PATH"
        )
    with tempfile.TemporaryDirectory(dir=program.parent, prefix="building-") as scratch:
        built = Path(scratch, "endpoint")
        subprocess.run(
            ["go", "build", "-buildvcs=false", "-trimpath", "-o", built, "."],
            cwd=SOURCE,
            env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"},
            timeout=_BUILD_TIMEOUT_SECONDS,
            check=True,
        )
        built.replace(program)
    return program


def _cache_folder() -> Path:
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kubesynth"
    folder = Path(os.environ.get("KUBESYNTH_CACHE") or default) / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _key() -> str:
    digest = hashlib.sha256()
    for path in sorted([*SOURCE.glob("*.go"), SOURCE / "go.mod"]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


@contextlib.contextmanager
def run(cores: machine.Cores, *arguments: str) -> Iterator[Endpoint]:
    """Run an endpoint on its core, on a free port of the loopback interface."""
    environment = {**os.environ, **({"GOMAXPROCS": "1"} if cores.apart else {})}
    with machine.pinned(cores.server):
        process = subprocess.Popen(
            [build(), "-model", MODEL, *arguments],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the endpoint ended at once: exit status {process.wait()}")
        yield Endpoint(json.loads(line)["url"])
    finally:
        process.terminate()
        process.wait(_STOP_TIMEOUT_SECONDS)
        process.stdout.close()


def self_test(cores: machine.Cores, seconds: float) -> SelfTest:
    """Measure what the endpoint can do, loaded from the client's core."""
    with run(cores, "-latency", "0s") as endpoint:
        command: Sequence[str | Path] = [
            build(),
            "-selftest",
            "-target",
            endpoint.url,
            "-duration",
            f"{seconds}s",
        ]
        with machine.pinned(cores.client):
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout)
    names = [field.name for field in dataclasses.fields(SelfTest)]
    return SelfTest(**{name: found[name] for name in names})
