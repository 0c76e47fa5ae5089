"""The test's Triton server as a process.

with TritonServer(folder, ["megatron", "pure"], llm_url=...) as triton:
    endpoint = TritonEndpoint(triton.url, "megatron")
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import tempfile
import threading
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from kubesynth_testing.ports import free_ports
from kubesynth_testing.triton import environment

MODELS = Path(__file__).with_name("served_models.py")
READY = "the models are ready\n"
# About a second of processor time a model: a busy machine takes long.
START_LIMIT_SECONDS = 200.0
STOP_LIMIT_SECONDS = 30.0


class TritonServer:
    """A real Triton with some of the models of `served_models`.

    Its output goes to a file in `folder`, whose end is shown if it does not start. `llm_url` is
    the origin of a llama.cpp server, for the models that ask one. Started again after an end, it
    has the same ports.
    """

    def __init__(
        self,
        folder: Path,
        models: Sequence[str],
        *,
        llm_url: str = "",
        latency_seconds: float = 0.0,
    ) -> None:
        self._folder = folder
        self._models = list(models)
        self._llm_url = llm_url
        self._latency_seconds = latency_seconds
        self._ports = free_ports(3)
        self._log = folder / "triton.log"
        self._lines: queue.Queue[str] = queue.Queue()
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """URL of its gRPC endpoint."""
        return f"grpc://127.0.0.1:{self._ports[0]}"

    def inferences(self, model: str) -> int:
        """Return how many requests a model has answered, as the server itself counts them."""
        name = f'nv_inference_request_success{{model="{model}",version="1"}} '
        with urllib.request.urlopen(f"http://127.0.0.1:{self._ports[2]}/metrics") as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith(name):
                    return int(line.removeprefix(name))
        return 0

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()  # unloading its models would take longer than most tests

    def start(self) -> None:
        """Start it, and return at once."""
        interpreter = environment.python()
        # There are sockets in it, whose paths must be short.
        self._scratch = tempfile.TemporaryDirectory(prefix="triton-")
        grpc, http, metrics = self._ports
        arguments = [
            *("--grpc", str(grpc), "--http", str(http), "--metrics", str(metrics)),
            *("--workspace", f"{self._scratch.name}/w"),
            *("--llm", self._llm_url, "--latency", str(self._latency_seconds)),
            *self._models,
        ]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(interpreter), str(MODELS), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={
                    **os.environ,
                    "LD_LIBRARY_PATH": environment.library_path(interpreter),
                    # Tensors of a few words need no shared memory, which is two processes a model.
                    "PYTRITON_NO_TENSORSTORE": "1",
                },
                # Its tritonserver and the stubs of its models are children: they end together.
                start_new_session=True,
            )
        # Of this process alone: one before has said that it ended.
        self._lines = queue.Queue()
        reader = threading.Thread(target=_read, args=(self._stdout(), self._lines), daemon=True)
        reader.start()

    def wait_ready(self) -> None:
        """Wait until all its models are loaded.

        Raises:
            RuntimeError: it ended, or took too long.
        """
        try:
            line = self._lines.get(timeout=START_LIMIT_SECONDS)
        except queue.Empty:
            line = "silence"
        if line != READY:
            tail = self._log.read_text(errors="replace")[-3000:]
            raise RuntimeError(f"Triton did not start ({line}):\n{tail}")

    def bind(self, model: str) -> None:
        """Load one more model, and wait until it is there."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.write(f"{model}\n")
        process.stdin.flush()
        self.wait_ready()

    def stop(self) -> None:
        """End it as Kubernetes would: with SIGTERM. It may start again. Safe to repeat."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_LIMIT_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End it as a lost node would: at once, whatever is under way. It may start again."""
        process, self._process = self._process, None
        if process is None:
            return
        shared = _shared_memory(process.pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for path in shared:
            path.unlink(missing_ok=True)
        self._scratch.cleanup()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _stdout(self) -> IO[str]:
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout


def _read(stdout: IO[str], lines: queue.Queue[str]) -> None:
    with contextlib.suppress(ValueError):  # closed meanwhile
        for line in stdout:
            lines.put(line)
    lines.put("it ended")


def _shared_memory(group: int) -> set[Path]:
    """Return the files in memory that the processes of a group share: nobody else deletes them."""
    found: set[Path] = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            if os.getpgid(int(maps.parent.name)) == group:
                for line in maps.read_text().splitlines():
                    _, slash, path = line.partition("/dev/shm/")
                    if slash:
                        found.add(Path("/dev/shm") / path.removesuffix(" (deleted)"))
    return found
