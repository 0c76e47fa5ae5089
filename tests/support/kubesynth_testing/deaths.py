"""Processes that die in the middle of an operation on their storage, by their own SIGKILL.

The nursery installs this into a runner that it has forked, if the environment says so. Operations
are counted; at number N the process is killed: on a disk between two system calls, or with half of
a write done, and on an object store before a request, while it is under way, or after it.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import obstore

from kubesynth_runner.io import object_storage

ENV_AT = "KUBESYNTH_TESTING_DIES_AT"
ENV_FOLDER = "KUBESYNTH_TESTING_DIES_IN"
ENV_COUNTER = "KUBESYNTH_TESTING_COUNTS_INTO"
_COUNT = struct.Struct("<q")
_CHANGING = frozenset(
    {"os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
# A request to a store on loopback takes about this long.
_REQUEST_SECONDS = 0.002


@dataclasses.dataclass(frozen=True, slots=True)
class Death:
    """When a runner dies: at its N-th operation, or so many seconds after its start."""

    operation: int | None = None
    seconds: float | None = None

    def environment(self, folder: Path, counter: Path) -> dict[str, str]:
        """Return what makes a forked runner die in time; it counts its operations in any case."""
        at = 0 if self.operation is None else self.operation
        return {ENV_AT: str(at), ENV_FOLDER: str(folder), ENV_COUNTER: str(counter)}


def read_count(counter: Path) -> int:
    """Return how many operations a runner has begun; it may have died before the first."""
    data = counter.read_bytes() if counter.exists() else b""
    return int(_COUNT.unpack(data)[0]) if data else 0


def install(environment: Mapping[str, str]) -> None:
    """Make this process die as the environment says, if it does."""
    if ENV_AT not in environment:
        return
    countdown = _Countdown(int(environment[ENV_AT]), Path(environment[ENV_COUNTER]))
    _watch_disk(countdown, environment[ENV_FOLDER])
    vars(object_storage)["obstore"] = _FatalStore(countdown)


class _Countdown:
    def __init__(self, at: int, counter: Path) -> None:
        self.at = at
        self._count = 0
        self._lock = threading.Lock()
        self._counter = os.open(counter, os.O_WRONLY | os.O_CREAT)

    def is_over(self) -> bool:
        """Count an operation; return whether it is the fatal one."""
        with self._lock:
            self._count += 1
            os.pwrite(self._counter, _COUNT.pack(self._count), 0)
            return self._count == self.at


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(10)


def _watch_disk(countdown: _Countdown, folder: str) -> None:
    def on_event(event: str, arguments: tuple[Any, ...]) -> None:
        concerns = bool((arguments[2] or 0) & _WRITING) if event == "open" else event in _CHANGING
        if not concerns or not isinstance(arguments[0], str | os.PathLike):
            return
        path = os.fspath(arguments[0])
        # What a tree is cleared of is named relative to its folder.
        is_ours = path.startswith(folder) or (event != "open" and not path.startswith("/"))
        if is_ours and countdown.is_over():
            _die()

    write, fsync, fdatasync = os.write, os.fsync, os.fdatasync

    def fatal_write(descriptor: int, data: Any) -> int:
        if descriptor > 2 and countdown.is_over():
            write(descriptor, data[: len(data) // 2])
            _die()
        return write(descriptor, data)

    def fatal_sync(sync: Callable[[int], None]) -> Callable[[int], None]:
        def run(descriptor: int) -> None:
            if countdown.is_over():
                _die()
            sync(descriptor)

        return run

    os.write = fatal_write
    os.fsync, os.fdatasync = fatal_sync(fsync), fatal_sync(fdatasync)  # type: ignore[assignment]
    sys.addaudithook(on_event)


class _FatalStore:
    """The functions of obstore, of which those that change something may be the last."""

    def __init__(self, countdown: _Countdown) -> None:
        self._countdown = countdown
        self._inner = obstore

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._inner, name)
        if name not in ("put", "copy", "delete", "open_writer"):
            return function

        def run(*arguments: Any, **options: Any) -> Any:
            if self._countdown.is_over():
                self._call_and_die(lambda: function(*arguments, **options))
            return function(*arguments, **options)

        return run

    def _call_and_die(self, call: Callable[[], Any]) -> None:
        match self._countdown.at % 3:
            case 0:
                call()
            case 1:
                threading.Thread(target=call, daemon=True).start()
                time.sleep(_REQUEST_SECONDS * (self._countdown.at % 7) / 7)
        _die()
