"""A storage whose process dies: from its N-th operation on nothing happens any more.

Half of the crashes are before the fatal operation, half after it, so that every gap between two
operations on the file system is visited from both sides.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from kubesynth_runner.io.storage import AppendLog, StagedFile, Storage, StoredFile


class Crash(Exception):
    """The process is dead."""


@dataclasses.dataclass(slots=True)
class Fuse:
    """Counts operations and blows at number `at`; `done` is whether that one still happens."""

    at: int | None = None
    is_done: bool = False
    count: int = 0
    is_blown: bool = False

    def before(self) -> None:
        """Die here if it is time, or dead already."""
        if self.is_blown or (self.count == self.at and not self.is_done):
            self.is_blown = True
            raise Crash

    def after(self) -> None:
        """Count a finished operation, and die if it was the last one."""
        if self.count == self.at:
            self.is_blown = True
            raise Crash
        self.count += 1


@dataclasses.dataclass(slots=True)
class Interlude(Fuse):
    """Something else happens once before operation number `at`, or instead of it."""

    action: Callable[[], object] = list

    def before(self) -> None:
        """Let it happen if it is time."""
        if self.count == self.at:
            self.count += 1  # once, also where it fails
            self.action()

    def after(self) -> None:
        """Count a finished operation."""
        self.count += 1


class _CrashingFile:
    def __init__(self, inner: StagedFile, fuse: Fuse) -> None:
        self._inner = inner
        self._fuse = fuse

    def write(self, data: bytes) -> None:
        self._fuse.before()
        self._inner.write(data)
        self._fuse.after()

    def finish(self) -> None:
        self._fuse.before()
        self._inner.finish()
        self._fuse.after()

    def abandon(self) -> None:
        self._inner.abandon()


class _CrashingLog:
    def __init__(self, inner: AppendLog, fuse: Fuse) -> None:
        self._inner = inner
        self._fuse = fuse

    def append(self, data: bytes) -> int:
        if self._fuse.count == self._fuse.at and not self._fuse.is_done:
            self._inner.append(data[: len(data) // 2])  # a torn frame
        self._fuse.before()
        offset = self._inner.append(data)
        self._fuse.after()
        return offset

    def sync(self) -> None:
        self._fuse.before()
        self._inner.sync()

    def close(self) -> None:
        self._inner.close()
        self._fuse.before()


class CrashingStorage:
    """A `Storage` over a real one."""

    def __init__(self, inner: Storage, fuse: Fuse) -> None:
        self._inner = inner
        self._fuse = fuse
        self._staged: list[StagedFile] = []
        self._logs: list[AppendLog] = []
        self.uri = inner.uri
        self.is_remote = inner.is_remote

    def bury(self) -> None:
        """Close what the dead process has left open, as the system does."""
        for file in self._staged:
            file.abandon()
        for log in self._logs:
            log.close()

    def read(self, path: str) -> bytes:
        """Read a file; reading changes nothing, so it is no operation of its own."""
        self._refuse_if_dead()
        return self._inner.read(path)

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        """Read part of a file."""
        self._refuse_if_dead()
        return self._inner.read_range(path, offset, length)

    def exists(self, path: str) -> bool:
        """Look for a file."""
        self._refuse_if_dead()
        return self._inner.exists(path)

    def list_files(self, folder: str) -> list[StoredFile]:
        """List a folder."""
        self._refuse_if_dead()
        return self._inner.list_files(folder)

    def create(self, path: str, data: bytes) -> bool:
        """Create a file."""
        self._fuse.before()
        created = self._inner.create(path, data)
        self._fuse.after()
        return created

    def put(self, path: str, data: bytes) -> None:
        """Replace a file."""
        self._fuse.before()
        self._inner.put(path, data)
        self._fuse.after()

    def open_staged(self, path: str) -> StagedFile:
        """Open a staged file."""
        self._fuse.before()
        staged = self._inner.open_staged(path)
        self._staged.append(staged)
        self._fuse.after()
        return _CrashingFile(staged, self._fuse)

    def append_log(self, path: str) -> AppendLog:
        """Open a log."""
        self._fuse.before()
        log = self._inner.append_log(path)
        self._logs.append(log)
        return _CrashingLog(log, self._fuse)

    def publish(self, staged: str, final: str) -> None:
        """Publish a staged file."""
        self._fuse.before()
        self._inner.publish(staged, final)
        self._fuse.after()

    def delete(self, path: str) -> None:
        """Delete a file or folder."""
        self._fuse.before()
        self._inner.delete(path)
        self._fuse.after()

    def _refuse_if_dead(self) -> None:
        if self._fuse.is_blown:
            raise Crash
