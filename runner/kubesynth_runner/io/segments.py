"""Segments of a journal as they lie in storage: frames one after the other, read in bounded memory.

A frame is `<length u32><crc32 u32><payload>`, little endian.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from kubesynth_runner.io.storage import Storage, StoredFile

HEADER = struct.Struct("<II")
# What is read at once, and kept in memory, unless a single frame is larger.
CHUNK_BYTES = 4 << 20


def to_frame(payload: bytes) -> bytes:
    """Return a payload as a frame."""
    return HEADER.pack(len(payload), zlib.crc32(payload)) + payload


def read_frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, payload) of the whole frames of a segment; stop at the first torn one."""
    position = 0
    while position + HEADER.size <= len(data):
        length, checksum = HEADER.unpack_from(data, position)
        start = position + HEADER.size
        payload = data[start : start + length]
        # No frame is empty: zeros are what a dead machine may leave at the end of a file.
        if not length or len(payload) < length or zlib.crc32(payload) != checksum:
            return
        yield start, payload
        position = start + length


def scan(storage: Storage, file: StoredFile) -> Iterator[tuple[int, bytes]]:
    """Yield what `read_frames` does for a stored segment, however large that is. Blocking.

    Raises:
        FileNotFoundError: it is not there, or not any more.
    """
    data, base = b"", 0  # read and not yet used, and where that begins
    while True:
        used = 0
        for offset, payload in read_frames(data):
            yield base + offset, payload
            used = offset + len(payload)
        data, base = data[used:], base + used
        lacking = _lacking(data)
        left = file.size_bytes - base - len(data)
        if not lacking or lacking > left:
            return
        more = storage.read_range(file.path, base + len(data), min(max(lacking, CHUNK_BYTES), left))
        if not more:
            return
        data += more


def _lacking(data: bytes) -> int:
    """Return how many bytes the frame at the beginning lacks; 0 if it is there, and broken."""
    if len(data) < HEADER.size:
        return HEADER.size - len(data)
    length, _ = HEADER.unpack_from(data)
    return max(0, HEADER.size + length - len(data)) if length else 0
