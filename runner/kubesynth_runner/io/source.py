"""From rows of files to root records: ids, column mapping, and what is wrong with a row."""

from __future__ import annotations

import dataclasses
import re
from array import array
from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from kubesynth_api.v1alpha1.storage import InputSpec
from kubesynth_runner import records
from kubesynth_runner.io import inputs, readers
from kubesynth_runner.io.locations import Mounts
from kubesynth_runner.io.partition import ScannedFile
from kubesynth_runner.io.plan_file import ColumnType, InputFile, Partition, Slice

_NOT_FULL = re.compile(rb"[^\xff]")
_STRING: frozenset[ColumnType] = frozenset({"string"})
_BOOLEAN: frozenset[ColumnType] = frozenset({"boolean"})
_INTEGER: frozenset[ColumnType] = frozenset({"integer"})
_NUMBER: frozenset[ColumnType] = frozenset({"number"})
_JSON: frozenset[ColumnType] = frozenset({"json"})


@dataclasses.dataclass(frozen=True, slots=True)
class RootInput:
    """A record of the input at its place in the shard: a Record, or why it cannot be one."""

    ordinal: int
    record: records.Record | records.FailedRecord


def read_partition(
    partition: Partition, spec: InputSpec, mounts: Mounts, done: bytes | bytearray
) -> Iterator[RootInput]:
    """Yield the records of a partition in order, without those whose bit in `done` is set.

    Raises:
        ConfigurationError: a file is gone, has changed or cannot be read.
    """
    duplicates = frozenset(partition.duplicates)
    ordinal = 0
    for piece in partition.slices:
        end = ordinal + piece.records
        skipped = first_not_done(done, ordinal, end) - ordinal
        ordinal += skipped
        if ordinal == end:
            continue
        rest = msgspec.structs.replace(
            piece, first_record=piece.first_record + skipped, records=piece.records - skipped
        )
        path = inputs.open_checked(piece.file, mounts)
        for row in readers.read(rest, path):
            if not done[ordinal >> 3] & (1 << (ordinal & 7)):
                root = to_root(piece.file, row, spec)
                if ordinal in duplicates and isinstance(root, records.Record):
                    root = _duplicate(root, spec)
                yield RootInput(ordinal, root)
            ordinal += 1


def first_not_done(done: bytes | bytearray, first: int, end: int) -> int:
    """Return the first ordinal from `first` whose bit is not set, or `end`."""
    position = first
    while position < end and done[position >> 3] & (1 << (position & 7)):
        position += 1
        if position & 7 == 0:
            match = _NOT_FULL.search(done, position >> 3)
            position = match.start() << 3 if match else end
    return min(position, end)


def to_root(
    file: InputFile, row: readers.GoodRecord | readers.BadRecord, spec: InputSpec
) -> records.Record | records.FailedRecord:
    """Return the root record of a row: `columns` mapped, text checked, id made."""
    source = records.Source(file.uri, row.position)
    if isinstance(row, readers.BadRecord):
        return _bad_input(source, row.message, row.raw, {})
    columns = dict(row.columns)
    if file.format == "Text":
        columns[spec.text_column] = columns.pop("text")
    for name, original in spec.columns.items():
        if original not in row.columns:
            return _bad_input(source, f"column {original!r} is missing", "", columns)
        columns[name] = row.columns[original]
    text = columns.get(spec.text_column)
    if not isinstance(text, str) or not text.strip():
        problem = "is missing" if spec.text_column not in columns else "is not a text, or is empty"
        return _bad_input(source, f"column {spec.text_column!r} {problem}", "", columns)
    identifier = records.root_id(file.uri, row.position)
    if spec.id_column is not None:
        user_id = user_id_text(row.columns.get(spec.id_column))
        if user_id is None:
            return _bad_input(source, f"column {spec.id_column!r} is missing", "", columns)
        source = dataclasses.replace(source, user_id=user_id)
        identifier = records.root_id_of_user_id(user_id)
    return records.Record(identifier, None, identifier, (), columns, source)


def user_id_text(value: Any) -> str | None:
    """Return a user's id as text; numbers and texts that look the same are the same id."""
    if value is None or value == "":
        return None
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _bad_input(
    source: records.Source, message: str, raw: str, columns: records.Columns
) -> records.FailedRecord:
    where = records.root_id(source.uri, source.position)
    return records.FailedRecord(
        where, None, where, source, "input", "BadInput", message, raw, columns=columns
    )


def _duplicate(root: records.Record, spec: InputSpec) -> records.FailedRecord:
    where = records.root_id(root.source.uri, root.source.position)
    return records.FailedRecord(
        where,
        None,
        where,
        root.source,
        "input",
        "DuplicateId",
        f"column {spec.id_column!r}: an earlier record has the id {root.source.user_id!r}",
        columns=root.columns,
    )


def find_duplicates(files: list[tuple[ScannedFile, inputs.FoundFile]], id_column: str) -> list[int]:
    """Return the positions, over all files, of records whose id an earlier record has.

    Holds 8 bytes per record; two ids count as equal if their 64-bit hashes are.
    """
    hashes = array("Q")
    for scanned, found in files:
        whole = Slice(scanned.file, 0, scanned.file.records)
        for row in readers.read(whole, found.path):
            user_id = None
            if isinstance(row, readers.GoodRecord):
                user_id = user_id_text(row.columns.get(id_column))
            # A record without an id is nobody's duplicate: its place makes it unique.
            name = f"id\0{user_id}" if user_id is not None else f"none\0{len(hashes)}"
            hashes.append(xxhash.xxh3_64_intdigest(name.encode()))
    if not hashes:
        return []
    column = pa.Array.from_buffers(pa.uint64(), len(hashes), [None, pa.py_buffer(hashes)])
    table = pa.table({"hash": column, "position": pa.array(range(len(hashes)), pa.int64())})
    firsts = table.group_by("hash").aggregate([("position", "min")])["position_min"]
    if len(firsts) == len(hashes):
        return []
    is_first = pc.is_in(table["position"], value_set=firsts.combine_chunks())
    return list(table.filter(pc.invert(is_first))["position"].to_pylist())


def infer_column_types(
    files: list[tuple[ScannedFile, inputs.FoundFile]], spec: InputSpec
) -> dict[str, ColumnType]:
    """Return the types of the carried columns.

    Every record is looked at: one that does not fit its column would fail only after its
    completions have been paid for.
    """
    seen: dict[str, set[ColumnType]] = {name: set() for name in spec.columns}
    if not spec.columns:
        return {}
    for scanned, found in files:
        if scanned.file.format == "Parquet":
            types = readers.parquet_column_types(scanned.file, found.path)
            for name, original in spec.columns.items():
                seen[name] |= types.get(original, frozenset())
            continue
        whole = Slice(scanned.file, 0, scanned.file.records)
        for row in readers.read(whole, found.path):
            if isinstance(row, readers.GoodRecord):
                for name, original in spec.columns.items():
                    seen[name] |= _types_of(row.columns.get(original))
    return {name: _widest(types) for name, types in seen.items()}


def _types_of(value: Any) -> frozenset[ColumnType]:
    match value:
        case None:
            return frozenset()
        case str():
            return _STRING
        case bool():
            return _BOOLEAN
        case int() if -(2**63) <= value < 2**63:
            return _INTEGER
        case float():
            return _NUMBER
        case _:
            return _JSON


def _widest(types: set[ColumnType]) -> ColumnType:
    if not types:
        return "string"
    if len(types) == 1:
        return next(iter(types))
    return "number" if types <= {"integer", "number"} else "json"
