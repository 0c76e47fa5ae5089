"""Storage on a POSIX file system."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NoReturn

from kubesynth_api.conditions import Reason
from kubesynth_runner import errors
from kubesynth_runner.io.storage import StoredFile

_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
# Somebody has to change something; every other error may pass (a full disk, a lost mount).
_UNWRITABLE = frozenset(
    {
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ENOTDIR,
        errno.EEXIST,  # a file where a folder has to be
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
    }
)


class LocalStagedFile:
    """A file on a POSIX file system on its way to its final name."""

    def __init__(self, storage: LocalStorage, path: Path) -> None:
        self._storage = storage
        with storage.translated():
            _make_folder(path.parent)
            self._file: BinaryIO = path.open("wb")
            # A commit that names this file must not outlive its name.
            _sync_folder(path.parent)

    def write(self, data: bytes) -> None:
        """Add data."""
        with self._storage.translated():
            self._file.write(data)

    def finish(self) -> None:
        """Flush, fsync(2) and close."""
        with self._storage.translated(), self._file:
            self._file.flush()
            os.fsync(self._file.fileno())

    def abandon(self) -> None:
        """Close; what is still in the buffer may be lost, nobody reads it."""
        with contextlib.suppress(OSError):
            self._file.close()


class LocalLog:
    """An append-only file on a POSIX file system."""

    def __init__(self, storage: LocalStorage, path: Path) -> None:
        self._storage = storage
        with storage.translated():
            _make_folder(path.parent)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
            self._fd = os.open(path, flags, 0o664)
            _sync_folder(path.parent)
        self._offset = 0
        # `sync` runs in a thread: the descriptor must not be closed, and reused, under it.
        self._closing = threading.Lock()

    def append(self, data: bytes) -> int:
        """Write all of `data` before returning: write(2) may take only part of it."""
        offset = self._offset
        view = memoryview(data)
        try:
            while view:
                written = os.write(self._fd, view)
                view = view[written:]
        except OSError as exc:
            # Half a frame would hide whatever is appended after it.
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, offset)
            self._storage.fail(exc)
        self._offset += len(data)
        return offset

    def sync(self) -> None:
        """Call fdatasync(2)."""
        with self._closing, self._storage.translated():
            if self._fd >= 0:
                os.fdatasync(self._fd)

    def close(self) -> None:
        """Sync and close. Safe to repeat."""
        with self._closing, self._storage.translated():
            if self._fd >= 0:
                descriptor, self._fd = self._fd, -1
                try:
                    os.fdatasync(descriptor)
                finally:
                    os.close(descriptor)


class LocalStorage:
    """A folder on a POSIX file system with hard links: a disk, NFS, most volume claims."""

    is_remote = False

    def __init__(self, root: Path, uri: str = "") -> None:
        self.root = root
        self.uri = uri or f"file://{root}"

    def fail(self, exc: OSError) -> NoReturn:
        """Raise the RunnerError for an error of the system."""
        problem = f"output.uri {self.uri}: {exc.strerror}: {exc.filename or self.root}"
        if exc.errno in _UNWRITABLE:
            raise errors.ConfigurationError(
                Reason.OUTPUT_UNWRITABLE,
                f"{problem}; it must be a folder that the pods' user (uid and gid 65532) may write",
            ) from exc
        raise errors.RetryLaterError(Reason.OUTPUT_UNWRITABLE, problem) from exc

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Turn errors of the system into RunnerErrors."""
        try:
            yield
        except OSError as exc:
            self.fail(exc)

    def read(self, path: str) -> bytes:
        """Return a whole file."""
        try:
            return (self.root / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise FileNotFoundError(exc.errno, exc.strerror, exc.filename) from exc
        except OSError as exc:
            self.fail(exc)

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        """Return part of a file."""
        try:
            with (self.root / path).open("rb", buffering=0) as file:
                file.seek(offset)
                return file.read(length)
        except FileNotFoundError:
            raise
        except OSError as exc:
            self.fail(exc)

    def exists(self, path: str) -> bool:
        """Return whether there is such a file."""
        with self.translated():
            return (self.root / path).exists()

    def list_files(self, folder: str) -> list[StoredFile]:
        """Return the files below a folder, unfinished ones left out."""
        with self.translated():
            return sorted(self._walk(self.root / folder), key=lambda file: file.path)

    def _walk(self, folder: Path) -> Iterator[StoredFile]:
        try:
            entries = list(os.scandir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
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
        with self.translated(), self._temporary(final, data) as temporary:
            try:
                os.link(temporary, final)
            except FileExistsError:
                return False
            except OSError as exc:
                if exc.errno in _NO_LINKS:
                    raise self._no_links(exc) from exc
                raise
            _sync_folder(final.parent)
        return True

    def put(self, path: str, data: bytes) -> None:
        """Replace a file by renaming a finished temporary one."""
        final = self.root / path
        with self.translated(), self._temporary(final, data) as temporary:
            temporary.replace(final)
            _sync_folder(final.parent)

    @contextlib.contextmanager
    def _temporary(self, final: Path, data: bytes) -> Iterator[Path]:
        _make_folder(final.parent)
        temporary = final.parent / f".tmp-{uuid.uuid4().hex}"
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _no_links(self, exc: OSError) -> errors.ConfigurationError:
        return errors.ConfigurationError(
            Reason.OUTPUT_UNWRITABLE,
            f"output.uri {self.uri}: the file system has no hard links ({exc.strerror}); "
            "use one that has them (local disks, NFS, CephFS), or an object store",
        )

    def open_staged(self, path: str) -> LocalStagedFile:
        """Open a new file, replacing a left-over of the same name."""
        return LocalStagedFile(self, self.root / path)

    def append_log(self, path: str) -> LocalLog:
        """Open a new append-only file."""
        return LocalLog(self, self.root / path)

    def publish(self, staged: str, final: str) -> None:
        """Rename; a missing source means that somebody else has done it."""
        source, target = self.root / staged, self.root / final
        try:
            _make_folder(target.parent)
            source.replace(target)
        except FileNotFoundError:
            if not target.exists():
                raise
            return
        except OSError as exc:
            self.fail(exc)
        with self.translated():
            _sync_folder(target.parent)

    def delete(self, path: str) -> None:
        """Delete a file or folder."""
        target = self.root / path
        with self.translated():
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target, onerror=_ignore_missing)
            else:
                target.unlink(missing_ok=True)


def _ignore_missing(
    _function: object, _path: object, problem: tuple[object, object, object]
) -> None:
    """Go on when somebody else has deleted the same file; raise everything else."""
    error = problem[1]
    if not isinstance(error, FileNotFoundError):
        assert isinstance(error, OSError)
        raise error


def _make_folder(folder: Path) -> None:
    """Create a folder and its parents, and make their names durable."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        _sync_folder(new.parent)


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
