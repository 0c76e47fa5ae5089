"""Files that grow, on stores whose objects do not: logs as many objects, large files in parts."""

from __future__ import annotations

import bisect
import collections
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from obstore import WritableFile

# A log is uploaded when so much has gathered, and otherwise when `sync` is called.
LOG_FLUSH_BYTES = 1 << 20
# The parts of a large file; S3 wants at least 5 MiB, and at most 10,000 of them.
PART_BYTES = 8 << 20
_PARTS_UNDER_WAY = 2


class ObjectLog:
    """An append-only log as numbered objects `PATH/000000`, each holding whole appends.

    What has not been uploaded is lost with the process: at most what was appended since the last
    `sync`, and never more than is on its way.
    """

    def __init__(self, path: str, put: Callable[[str, bytes], None]) -> None:
        self._path = path
        self._put = put
        self._buffer = bytearray()
        self._length = 0
        # Offset of each object's first byte; the last one is the buffer's.
        self._starts = [0]
        self._lock = threading.Lock()
        # One thread, so that objects are written in order and a failure stops those after it.
        self._uploads = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._last: Future[None] | None = None

    def append(self, data: bytes) -> int:
        """Take `data` into the next object; upload in the background when that is large enough."""
        with self._lock:
            offset = self._length
            self._buffer += data
            self._length += len(data)
            if len(self._buffer) >= LOG_FLUSH_BYTES:
                self._flush()
        return offset

    def _flush(self) -> None:
        if not self._buffer:
            return
        data, self._buffer = bytes(self._buffer), bytearray()
        name = self._name(len(self._starts) - 1)
        self._starts.append(self._length)
        self._last = self._uploads.submit(self._upload, self._last, name, data)

    def _name(self, number: int) -> str:
        return f"{self._path}/{number:06d}"

    def _upload(self, before: Future[None] | None, name: str, data: bytes) -> None:
        if before is not None:
            before.result()
        self._put(name, data)

    def locate(self, offset: int) -> tuple[str, int]:
        """Return the object that holds an append, uploaded by now, and its offset there."""
        self.sync()
        with self._lock:
            number = bisect.bisect_right(self._starts, offset) - 1
            return self._name(number), offset - self._starts[number]

    def sync(self) -> None:
        """Upload what has gathered and wait until everything appended so far is stored."""
        with self._lock:
            self._flush()
            upload = self._last
        if upload is not None:
            upload.result()

    def close(self) -> None:
        """Sync and close. Safe to repeat."""
        try:
            self.sync()
        finally:
            self._uploads.shutdown()


class StagedObject:
    """A new object that appears when it is finished: one request, or parts if it is large."""

    def __init__(
        self,
        put: Callable[[bytes], None],
        open_writer: Callable[[], WritableFile],
        run: Callable[[Callable[[], Any]], Any],
    ) -> None:
        """`run` runs an operation of the store and translates its errors."""
        self._put = put
        self._open_writer = open_writer
        self._run = run
        self._buffer = bytearray()
        self._writer: WritableFile | None = None
        self._uploads: ThreadPoolExecutor | None = None
        self._under_way: collections.deque[Future[Any]] = collections.deque()

    def write(self, data: bytes) -> None:
        """Add data; large files are uploaded in the background, a bounded way behind."""
        self._buffer += data
        if len(self._buffer) >= PART_BYTES:
            self._send()

    def _send(self) -> None:
        if self._uploads is None:
            self._uploads = ThreadPoolExecutor(1, thread_name_prefix="part")
        while len(self._under_way) >= _PARTS_UNDER_WAY:
            self._under_way.popleft().result()
        chunk, self._buffer = bytes(self._buffer), bytearray()
        self._under_way.append(self._uploads.submit(self._run, lambda: self._append(chunk)))

    def _append(self, chunk: bytes) -> None:
        if self._writer is None:
            self._writer = self._open_writer()
        self._writer.write(chunk)

    def finish(self) -> None:
        """Upload the rest; the object appears whole."""
        if self._uploads is None:
            self._put(bytes(self._buffer))
            self._buffer.clear()
            return
        self._send()
        try:
            while self._under_way:
                self._under_way.popleft().result()
        finally:
            self._uploads.shutdown()
        if self._writer is not None:
            self._run(self._writer.close)

    def abandon(self) -> None:
        """Drop the file: parts that were uploaded are no object, and the store's to expire."""
        self._buffer.clear()
        if self._uploads is not None:
            self._uploads.shutdown(wait=False, cancel_futures=True)
