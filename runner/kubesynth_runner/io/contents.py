"""The bytes of an input file: on a disk, or far away and fetched by ranges.

What is far away is read in pieces that grow from CHUNK_MIN_BYTES to CHUNK_MAX_BYTES, the next one
while the present one is used. So an open file holds at most two such pieces, a small file takes one
request, and a slow reader keeps no connection waiting.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CHUNK_MIN_BYTES = 1 << 18
CHUNK_MAX_BYTES = 1 << 22
# The end of a Parquet file, where its directory is: small files and most directories fit in.
TAIL_BYTES = 1 << 16

Fetch = Callable[[int, int], bytes]


class Content(Protocol):
    """The content of one file of the input. Blocking.

    Reading raises an OSError or a RunnerError.
    """

    def open(self, offset: int = 0) -> BinaryIO:
        """Return the bytes from `offset` on, to be read front to back."""
        ...

    def open_anywhere(self) -> Path | BinaryIO:
        """Return something to read from at any place: a path, or a file that can seek."""
        ...


class LocalContent:
    """A file of this machine."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self, offset: int = 0) -> BinaryIO:
        """Return the file, open at `offset`."""
        file = self.path.open("rb")
        file.seek(offset)
        return file

    def open_anywhere(self) -> Path:
        """Return the path."""
        return self.path


class RangedContent:
    """A file that is read by ranges."""

    def __init__(self, size_bytes: int, fetch: Fetch) -> None:
        """`fetch(start, end)` returns the bytes from `start` to before `end`, all of them."""
        self._size_bytes = size_bytes
        self._fetch = fetch
        self._tail: bytes | None = None

    def open(self, offset: int = 0) -> BinaryIO:
        """Return the bytes from `offset` on."""
        return io.BufferedReader(_Stream(self._fetch, offset, self._size_bytes), 1 << 16)

    def open_anywhere(self) -> BinaryIO:
        """Return a file that reads what it is asked for, each time by one request."""
        return cast("BinaryIO", _RandomAccess(self._fetch_or_tail, self._size_bytes))

    def _fetch_or_tail(self, start: int, end: int) -> bytes:
        """Fetch a range, or take it from the end of the file, which is fetched once and kept."""
        tail_start = max(0, self._size_bytes - TAIL_BYTES)
        if start < tail_start:
            return self._fetch(start, end)
        if self._tail is None:
            self._tail = self._fetch(tail_start, self._size_bytes)
        return self._tail[start - tail_start : end - tail_start]


class _Stream(io.RawIOBase):
    """A range front to back, one piece ahead."""

    def __init__(self, fetch: Fetch, start: int, end: int) -> None:
        self._fetch = fetch
        self._next = start
        self._end = end
        self._chunk_bytes = CHUNK_MIN_BYTES
        self._piece = memoryview(b"")
        self._ahead: Future[bytes] | None = None
        self._thread: ThreadPoolExecutor | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Copy the next bytes into `buffer` and return how many; 0 at the end."""
        if not self._piece and not self._advance():
            return 0
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._piece))
        target[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count

    def _advance(self) -> bool:
        if self._ahead is not None:
            self._piece = memoryview(self._ahead.result())
            self._ahead = None
        elif self._next < self._end:
            self._piece = memoryview(self._fetch(*self._take()))
        else:
            return False
        if self._next < self._end:
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
            self._ahead = self._thread.submit(self._fetch, *self._take())
        return True

    def _take(self) -> tuple[int, int]:
        start, self._next = self._next, min(self._end, self._next + self._chunk_bytes)
        self._chunk_bytes = min(CHUNK_MAX_BYTES, 2 * self._chunk_bytes)
        return start, self._next

    def close(self) -> None:
        """Forget what has been read ahead."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = None
        self._ahead = None
        self._piece = memoryview(b"")
        super().close()


class _RandomAccess(io.RawIOBase):
    """A file read wherever it is asked for."""

    def __init__(self, fetch: Fetch, size_bytes: int) -> None:
        self._fetch = fetch
        self._size_bytes = size_bytes
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a place; asks nobody."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size_bytes}
        self._position = max(0, base[whence] + offset)
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Return the next `size` bytes; fewer at the end."""
        start = min(self._position, self._size_bytes)
        wanted = self._size_bytes if size is None or size < 0 else start + size
        end = min(wanted, self._size_bytes)
        if start == end:
            return b""
        self._position = end
        return self._fetch(start, end)

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Copy the next bytes into `buffer` and return how many."""
        target = memoryview(buffer).cast("B")
        data = self.read(len(target))
        target[: len(data)] = data
        return len(data)
