"""A folder somewhere: the one door through which all output and all state goes.

What correctness rests on is `create`: it makes a whole file appear under a name that did not exist,
or does nothing. On a POSIX file system that is link(2), on an object store a PUT with
`If-None-Match: *`.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol


@dataclasses.dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in a storage: path relative to its root, size in bytes."""

    path: str
    size_bytes: int


class StagedFile(Protocol):
    """A new file, written front to back, that nobody looks at before it is published."""

    def write(self, data: bytes) -> None:
        """Add data.

        Raises:
            RunnerError: the storage takes no more.
        """
        ...

    def finish(self) -> None:
        """Make the whole file durable and close it."""
        ...

    def abandon(self) -> None:
        """Close the file as it is. Safe to repeat."""
        ...


class AppendLog(Protocol):
    """An append-only file with one writer."""

    def append(self, data: bytes) -> int:
        """Hand `data` to the system, all of it or nothing, and return its offset.

        When this returns, the data survives the death of the process, and after the next `sync`
        that of the machine.

        Raises:
            RunnerError: the storage takes no more.
        """
        ...

    def sync(self) -> None:
        """Make everything appended so far durable. May run in another thread than `append`."""
        ...

    def close(self) -> None:
        """Sync and close. Safe to repeat."""
        ...


class Storage(Protocol):
    """A tree of files under a root. Paths are relative and use forward slashes. Blocking.

    What fails raises a RunnerError that says whether trying again can help, except for the
    FileNotFoundErrors below.
    """

    uri: str
    # Whether each operation goes over a network.
    is_remote: bool

    def read(self, path: str) -> bytes:
        """Return a whole file.

        Raises:
            FileNotFoundError: there is none.
        """
        ...

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        """Return part of a file; fewer bytes when it ends earlier."""
        ...

    def exists(self, path: str) -> bool:
        """Return whether there is such a file."""
        ...

    def list_files(self, folder: str) -> list[StoredFile]:
        """Return the files below a folder, sorted by path; none if there is no folder."""
        ...

    def create(self, path: str, data: bytes) -> bool:
        """Create a whole file durably; return False, changing nothing, if the path exists.

        A file of equal content may count as created: an object store whose answer was lost cannot
        tell whose it is. Where that matters, writers put something of their own into it.
        """
        ...

    def put(self, path: str, data: bytes) -> None:
        """Create or replace a whole file durably and atomically."""
        ...

    def open_staged(self, path: str) -> StagedFile:
        """Open a new file for writing that nobody looks at before `publish`."""
        ...

    def append_log(self, path: str) -> AppendLog:
        """Open a new append-only file."""
        ...

    def publish(self, staged: str, final: str) -> None:
        """Move a staged file to its final name. Safe to repeat, also after a crash in between.

        Raises:
            FileNotFoundError: neither of the two exists.
        """
        ...

    def delete(self, path: str) -> None:
        """Delete a file or a folder with all that is in it, if it is there."""
        ...
