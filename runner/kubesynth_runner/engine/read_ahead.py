"""The input of a shard, read some way ahead of whoever begins its records."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections import deque
from collections.abc import Iterator

from kubesynth_runner.io.source import RootInput
from kubesynth_runner.records import Columns

# What is read at once, whichever comes first. More is read when less than half of it is left.
BATCH_RECORDS = 128
BATCH_BYTES = 16 << 20


class ReadAhead:
    """Records that are read and not begun: few, and with large texts fewer."""

    def __init__(self, source: Iterator[RootInput]) -> None:
        """`source` is read in a thread."""
        self._source = source
        self._waiting: deque[tuple[RootInput, int]] = deque()
        self._waiting_bytes = 0
        # Whether the source has no more. What is read may still wait.
        self.is_exhausted = False

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_low(self) -> bool:
        """Whether it is time to read more."""
        few = len(self._waiting) < BATCH_RECORDS // 2 and self._waiting_bytes < BATCH_BYTES // 2
        return few and not self.is_exhausted

    def pop(self) -> RootInput:
        """Return the next record. There has to be one."""
        item, size_bytes = self._waiting.popleft()
        self._waiting_bytes -= size_bytes
        return item

    async def read(self) -> None:
        """Read a batch. One call at a time.

        Raises:
            RunnerError: the source breaks off.
        """
        batch = await asyncio.to_thread(self._read_batch)
        self._waiting.extend(batch)
        self._waiting_bytes += sum(size_bytes for _, size_bytes in batch)
        self.is_exhausted = not batch

    def _read_batch(self) -> list[tuple[RootInput, int]]:
        batch, total_bytes = [], 0
        for item in itertools.islice(self._source, BATCH_RECORDS):
            size_bytes = _held_bytes(item.record.columns)
            batch.append((item, size_bytes))
            total_bytes += size_bytes
            if total_bytes >= BATCH_BYTES:
                break
        return batch


def _held_bytes(columns: Columns) -> int:
    """Return about how much memory the values of a record take."""
    total, values = 0, list(columns.values())
    while values:
        value = values.pop()
        if isinstance(value, dict):
            values.extend(value.values())
        elif isinstance(value, list):
            values.extend(value)
        else:
            total += sys.getsizeof(value)
    return total
