"""Which shard gets which records: consecutive ranges, as equal as they can be. Pure."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Sequence

from kubesynth_runner.io.plan_file import InputFile, Partition, Seed, Slice


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A place where a file can be entered: before record `record`, at `offset`, on `line`."""

    record: int
    offset: int
    line: int


@dataclasses.dataclass(frozen=True, slots=True)
class ScannedFile:
    """A file, how many records it has, and where it can be entered (always at record 0).

    `content_bytes` is what the records take uncompressed, roughly. `sample` are the indexes of the
    records that are taken, sorted; None: all of them.
    """

    file: InputFile
    entries: tuple[Entry, ...] = (Entry(0, 0, 0),)
    content_bytes: int = 0
    sample: Sequence[int] | None = None

    @property
    def taken(self) -> int:
        """Number of records that are taken."""
        return self.file.records if self.sample is None else len(self.sample)


def shard_range(total: int, shards: int, shard: int) -> tuple[int, int]:
    """Return the first record of a shard and the one after its last; sizes differ by at most 1."""
    return total * shard // shards, total * (shard + 1) // shards


def assign(
    files: Sequence[ScannedFile], shards: int, limit: int | None, duplicates: Sequence[int]
) -> list[Partition]:
    """Divide the records of all files, in order, over `shards` partitions.

    `duplicates` are sorted positions among all records that are taken. Each of these is in exactly
    one partition; with more shards than records some partitions are empty.
    """
    starts = [0]
    for scanned in files:
        starts.append(starts[-1] + scanned.taken)
    total = starts[-1] if limit is None else min(starts[-1], limit)
    partitions = []
    for shard in range(shards):
        first, end = shard_range(total, shards, shard)
        low, high = bisect.bisect_left(duplicates, first), bisect.bisect_left(duplicates, end)
        partitions.append(
            Partition(
                shard,
                _slices(files, starts, first, end),
                tuple(position - first for position in duplicates[low:high]),
            )
        )
    return partitions


def assign_seeds(seeds: list[Seed], shards: int) -> list[Partition]:
    """Divide generated records, in order, over `shards` partitions."""
    partitions = []
    for shard in range(shards):
        first, end = shard_range(len(seeds), shards, shard)
        partitions.append(Partition(shard, seeds=tuple(seeds[first:end]), first_seed=first))
    return partitions


def _slices(
    files: Sequence[ScannedFile], starts: list[int], first: int, end: int
) -> tuple[Slice, ...]:
    slices = []
    index = bisect.bisect_right(starts, first) - 1
    while first < end:
        scanned = files[index]
        begin = first - starts[index]
        count = min(end, starts[index + 1]) - first
        if count:
            slices.append(_slice(scanned, begin, count))
        first += count
        index += 1
    return tuple(slices)


def _slice(scanned: ScannedFile, begin: int, count: int) -> Slice:
    records, taken = count, None
    if scanned.sample is not None:
        first, last = scanned.sample[begin], scanned.sample[begin + count - 1]
        begin, records, taken = first, last + 1 - first, count
    position = bisect.bisect_right(scanned.entries, begin, key=lambda entry: entry.record) - 1
    entry = scanned.entries[position]
    return Slice(scanned.file, begin, records, entry.record, entry.offset, entry.line, taken)
