"""The plan as it is stored: which files, which columns, and which records each shard gets."""

from __future__ import annotations

from typing import Literal

import msgspec

from kubesynth_runner.io import layout
from kubesynth_runner.io.storage import Storage

FileFormat = Literal["JSONL", "Parquet", "Text"]
# The type of an input column that is carried to the output. "json": anything, as JSON text.
ColumnType = Literal["string", "integer", "number", "boolean", "json"]


class InputFile(msgspec.Struct, frozen=True, rename="camel"):
    """A file of the input as plan saw it. `version` differs when the content may differ."""

    uri: str
    format: FileFormat
    size_bytes: int
    version: str
    records: int = 0


class Slice(msgspec.Struct, frozen=True, rename="camel"):
    """Consecutive records of one file.

    `first_record` counts from 0 over the file's records (blank lines are none). Where the file can
    be entered in the middle, `offset` and `line` belong to the record `entry_record` at or before
    the first one.
    """

    file: InputFile
    first_record: int
    records: int
    entry_record: int = 0
    offset: int = 0
    line: int = 0


class Partition(msgspec.Struct, frozen=True, rename="camel"):
    """The input of one shard: slices in order. A record's ordinal counts from 0 over all of them.

    `duplicates` are ordinals of records whose id an earlier record of the input has.
    """

    shard: int
    slices: tuple[Slice, ...]
    duplicates: tuple[int, ...] = ()

    @property
    def records(self) -> int:
        """Number of records."""
        return sum(piece.records for piece in self.slices)


class PlanFile(msgspec.Struct, frozen=True, rename="camel"):
    """What plan found out, for all shards and for finalize."""

    run_id: str
    pipeline_hash: str
    shards: int
    records: int
    files: tuple[InputFile, ...]
    column_types: dict[str, ColumnType]
    estimated_calls: int
    estimated_tokens: int
    estimated_rows: int


def save(storage: Storage, plan: PlanFile, partitions: list[Partition]) -> None:
    """Store the partitions, then the plan, which makes them count. Safe to repeat."""
    for part in partitions:
        storage.put(layout.partition(part.shard), msgspec.json.encode(part))
    storage.create(layout.PLAN, msgspec.json.encode(plan))


def load(storage: Storage) -> PlanFile | None:
    """Return the stored plan, if there is one."""
    try:
        return msgspec.json.decode(storage.read(layout.PLAN), type=PlanFile)
    except FileNotFoundError:
        return None


def load_partition(storage: Storage, shard: int) -> Partition:
    """Return a shard's partition."""
    return msgspec.json.decode(storage.read(layout.partition(shard)), type=Partition)
