"""The runner's pod entry point as a process of its own, started, stopped and killed by tests.

`RunnerProcess` is a new interpreter, as in a pod. A `Nursery` forks runners from one interpreter
that has imported everything already: the same code and just as mortal, but begun in milliseconds,
for tests that need many of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Self

import aiohttp

from kubesynth_api import runner_contract
from kubesynth_api.run_spec import RunSpec
from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_testing.ports import free_port

START_LIMIT_SECONDS = 30.0
EXIT_LIMIT_SECONDS = 60.0


class Pod:
    """What the operator gives a runner, and what it leaves: a folder, an environment, a port."""

    def __init__(
        self, folder: Path, spec: RunSpec, phase: RunnerPhase = RunnerPhase.ALL, shard: int = 0
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._message = folder / "termination-log"
        self._message.unlink(missing_ok=True)
        self.log = folder / "log.jsonl"
        run_spec = folder / "run.json"
        run_spec.write_text(spec.to_json())
        self.environment = {
            runner_contract.ENV_PHASE: phase.value,
            runner_contract.ENV_RUN_SPEC: str(run_spec),
            runner_contract.ENV_SHARD_INDEX: str(shard),
            runner_contract.ENV_HTTP_PORT: str(self.port),
            runner_contract.ENV_TERMINATION_MESSAGE_PATH: str(self._message),
        }

    def message(self) -> dict[str, Any]:
        """Return the termination message."""
        data = self._message.read_bytes()
        assert len(data) <= runner_contract.TERMINATION_MESSAGE_MAX_BYTES
        content: dict[str, Any] = json.loads(data)
        return content

    async def get(self, path: str) -> bytes:
        """Return what the runner's own server answers, once it is there."""
        url = f"http://127.0.0.1:{self.port}{path}"
        async with aiohttp.ClientSession() as session:
            for _ in range(600):
                with contextlib.suppress(aiohttp.ClientConnectorError):
                    async with session.get(url) as response:
                        response.raise_for_status()
                        return await response.read()
                await asyncio.sleep(0.05)
        raise TimeoutError(f"nobody listens at {url}")

    async def progress(self) -> dict[str, Any]:
        """Return the live progress."""
        content: dict[str, Any] = json.loads(await self.get(runner_contract.PROGRESS_PATH))
        return content


class RunnerProcess:
    """A runner in an interpreter of its own. `async with RunnerProcess(pod) as process: ...`."""

    def __init__(self, pod: Pod, **environment: str) -> None:
        self.pod = pod
        self._environment = {**os.environ, **pod.environment, **environment}

    async def __aenter__(self) -> Self:
        with self.pod.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "kubesynth_runner", env=self._environment, stderr=log
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    async def exit_code(self, within_seconds: float = EXIT_LIMIT_SECONDS) -> int:
        """Wait for the end."""
        return await asyncio.wait_for(self._process.wait(), within_seconds)


async def run(pod: Pod, **environment: str) -> int:
    """Run a runner to its end and return its exit code."""
    async with RunnerProcess(pod, **environment) as process:
        return await process.exit_code()


class Nursery:
    """Forks runners. `with Nursery() as nursery: pid = await nursery.start(pod)`."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kubesynth_testing.runner_nursery"],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        # Where the process ids of those arrive who have been ordered, by number of the order.
        self._started: dict[int, queue.SimpleQueue[int]] = {}
        # Exit codes by process id, None while it runs.
        self._exits: dict[int, int | None] = {}
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_all()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(EXIT_LIMIT_SECONDS)
        self._listener.join(EXIT_LIMIT_SECONDS)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def kill_all(self) -> None:
        """Kill what still runs."""
        for pid, code in list(self._exits.items()):
            if code is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    async def start(self, pod: Pod) -> int:
        """Fork a runner and return its process id."""
        assert self._process.stdin is not None
        number = len(self._started)
        started = self._started[number] = queue.SimpleQueue()
        order = {"number": number, "environment": pod.environment, "log": str(pod.log)}
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        return await asyncio.to_thread(started.get, timeout=START_LIMIT_SECONDS)

    async def exit_code(self, pid: int, within_seconds: float = EXIT_LIMIT_SECONDS) -> int:
        """Wait for the end; a signal that killed it is a negative number."""
        async with asyncio.timeout(within_seconds):
            while (code := self._exits[pid]) is None:
                await asyncio.sleep(0.002)
        return code

    async def run(self, pod: Pod) -> int:
        """Run a runner to its end and return its exit code."""
        return await self.exit_code(await self.start(pod))

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            report = json.loads(line)
            pid, code = report["pid"], report.get("code")
            self._exits[pid] = code
            if code is None:
                self._started[report["number"]].put(pid)
