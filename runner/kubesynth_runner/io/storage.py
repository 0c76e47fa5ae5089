"""A folder somewhere: the one door through which all output and all state goes.

What correctness rests on is `create`: it makes a whole file appear under a name that did not exist,
or does nothing. On a POSIX file system that is link(2), on an object store a PUT with
`If-None-Match: *`.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from kubesynth_api.conditions import Reason
from kubesynth_runner import errors

_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_UNWRITABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR})


@dataclasses.dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in a storage: path relative to its root, size in bytes."""

    path: str
    size_bytes: int


class AppendLog(Protocol):
    """An append-only file with one writer."""

    def append(self, data: bytes) -> int:
        """Hand `data` to the system and return its offset.

        When this returns, the data survives the death of the process, and after the next `sync`
        that of the machine.
        """
        ...

    def sync(self) -> None:
        """Make everything appended so far durable. May run in another thread than `append`."""
        ...

    def close(self) -> None:
        """Sync and close. Safe to repeat."""
        ...


class Storage(Protocol):
    """A tree of files under a root. Paths are relative and use forward slashes. Blocking."""

    uri: str

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
        """Create a whole file durably; return False, changing nothing, if the path exists."""
        ...

    def put(self, path: str, data: bytes) -> None:
        """Create or replace a whole file durably and atomically."""
        ...

    def open_staged(self, path: str) -> BinaryIO:
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


class LocalLog:
    """An append-only file on a POSIX file system."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o664)
        self._offset = 0
        # `sync` runs in a thread: the descriptor must not be closed, and reused, under it.
        self._closing = threading.Lock()
        _sync_folder(path.parent)

    def append(self, data: bytes) -> int:
        """Write all of `data` before returning: write(2) may take only part of it."""
        offset = self._offset
        view = memoryview(data)
        while view:
            written = os.write(self._fd, view)
            view = view[written:]
        self._offset += len(data)
        return offset

    def sync(self) -> None:
        """Call fdatasync(2)."""
        with self._closing:
            if self._fd >= 0:
                os.fdatasync(self._fd)

    def close(self) -> None:
        """Sync and close. Safe to repeat."""
        with self._closing:
            if self._fd >= 0:
                os.fdatasync(self._fd)
                os.close(self._fd)
                self._fd = -1


class LocalStorage:
    """A folder on a POSIX file system with hard links: a disk, NFS, most volume claims."""

    def __init__(self, root: Path, uri: str = "") -> None:
        self.root = root
        self.uri = uri or f"file://{root}"

    def read(self, path: str) -> bytes:
        """Return a whole file."""
        return (self.root / path).read_bytes()

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        """Return part of a file."""
        with (self.root / path).open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def exists(self, path: str) -> bool:
        """Return whether there is such a file."""
        return (self.root / path).exists()

    def list_files(self, folder: str) -> list[StoredFile]:
        """Return the files below a folder, unfinished ones left out."""
        return sorted(self._walk(self.root / folder), key=lambda file: file.path)

    def _walk(self, folder: Path) -> Iterator[StoredFile]:
        try:
            entries = list(os.scandir(folder))
        except FileNotFoundError:
            return
        for entry in entries:
            if entry.is_dir():
                yield from self._walk(Path(entry.path))
            elif not entry.name.startswith(".tmp-"):
                try:
                    size = entry.stat().st_size
                except FileNotFoundError:  # deleted since the folder was read
                    continue
                yield StoredFile(Path(entry.path).relative_to(self.root).as_posix(), size)

    def create(self, path: str, data: bytes) -> bool:
        """Create a file by linking a finished temporary one to its name."""
        final = self.root / path
        temporary = self._write_temporary(final, data)
        try:
            os.link(temporary, final)
        except FileExistsError:
            return False
        except OSError as exc:
            if exc.errno in _NO_LINKS:
                raise errors.ConfigurationError(
                    Reason.OUTPUT_UNWRITABLE,
                    f"output.uri {self.uri}: the file system has no hard links ({exc.strerror}); "
                    "use one that has them (local disks, NFS, CephFS), or an object store",
                ) from exc
            raise
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(final.parent)
        return True

    def put(self, path: str, data: bytes) -> None:
        """Replace a file by renaming a finished temporary one."""
        final = self.root / path
        self._write_temporary(final, data).replace(final)
        _sync_folder(final.parent)

    def _write_temporary(self, final: Path, data: bytes) -> Path:
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            temporary = final.parent / f".tmp-{uuid.uuid4().hex}"
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as exc:
            raise self._translate(exc) from exc
        return temporary

    def _translate(self, exc: OSError) -> Exception:
        if exc.errno in _UNWRITABLE:
            return errors.ConfigurationError(
                Reason.OUTPUT_UNWRITABLE,
                f"output.uri {self.uri}: cannot write ({exc.strerror}: {exc.filename}); give the "
                "pods' user (uid and group 65532) write access",
            )
        return errors.RetryLaterError(
            Reason.OUTPUT_UNWRITABLE, f"output.uri {self.uri}: {exc.strerror}: {exc.filename}"
        )

    def open_staged(self, path: str) -> BinaryIO:
        """Open a new file, replacing a left-over of the same name."""
        target = self.root / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            return target.open("wb")
        except OSError as exc:
            raise self._translate(exc) from exc

    def append_log(self, path: str) -> LocalLog:
        """Open a new append-only file."""
        try:
            return LocalLog(self.root / path)
        except OSError as exc:
            raise self._translate(exc) from exc

    def publish(self, staged: str, final: str) -> None:
        """Rename; a missing source means that somebody else has done it."""
        source, target = self.root / staged, self.root / final
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            source.replace(target)
        except FileNotFoundError:
            if not target.exists():
                raise
            return
        _sync_folder(target.parent)

    def delete(self, path: str) -> None:
        """Delete a file or folder."""
        target = self.root / path
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target, ignore_errors=True)
        else:
            target.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make names in a folder durable; a no-op where the file system refuses to sync folders."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as exc:
        if exc.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)
