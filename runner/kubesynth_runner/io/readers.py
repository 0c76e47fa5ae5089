"""Reading records: JSONL (also gzipped), Parquet, text files.

`scan` counts a file's records once, in plan; `read` yields a slice of them, bad ones included as
`BadRecord`, so that positions never depend on what is wrong with a record.
"""

from __future__ import annotations

import dataclasses
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from kubesynth_api.conditions import Reason
from kubesynth_runner import errors
from kubesynth_runner.io.partition import Entry, ScannedFile
from kubesynth_runner.io.plan_file import ColumnType, InputFile, Slice

# Every so many records a JSONL file gets an entry point; a shard reads at most that many in vain.
ENTRY_EVERY_RECORDS = 4096
PARQUET_BATCH_ROWS = 256
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclasses.dataclass(frozen=True, slots=True)
class GoodRecord:
    """A record of a file: its position (1-based line, row or 1) and its columns."""

    position: int
    columns: dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that cannot be read, and why; `raw` is the beginning of it."""

    position: int
    message: str
    raw: str


def scan(file: InputFile, path: Path) -> ScannedFile:
    """Count the records of a file and find its entry points.

    Raises:
        ConfigurationError: the file as a whole cannot be read.
    """
    try:
        match file.format:
            case "JSONL":
                return _scan_jsonl(file, path)
            case "Parquet":
                return _scan_parquet(file, path)
            case "Text":
                one = msgspec.structs.replace(file, records=1)
                return ScannedFile(one, content_bytes=file.size_bytes)
    except (OSError, EOFError, zlib.error, pa.ArrowException) as exc:
        raise unreadable(file, exc) from exc


def read(piece: Slice, path: Path) -> Iterator[GoodRecord | BadRecord]:
    """Yield the records of a slice, in order, exactly `piece.records` of them.

    Raises:
        ConfigurationError: the file as a whole cannot be read.
    """
    try:
        match piece.file.format:
            case "JSONL":
                yield from _read_jsonl(piece, path)
            case "Parquet":
                yield from _read_parquet(piece, path)
            case "Text":
                yield _read_text(path)
    except (OSError, EOFError, zlib.error, pa.ArrowException) as exc:
        raise unreadable(piece.file, exc) from exc


def unreadable(file: InputFile, exc: Exception) -> errors.ConfigurationError:
    """Return the error that a whole file cannot be read."""
    return errors.ConfigurationError(
        Reason.INPUT_UNREADABLE,
        f"input file {file.uri} cannot be read as {file.format}: {exc}; repair or remove it",
    )


def is_gzip(path: Path) -> bool:
    """Return whether a file is compressed, by its name."""
    return path.name.lower().endswith(".gz")


def _open(path: Path) -> BinaryIO:
    if is_gzip(path):
        return cast("BinaryIO", gzip.open(path, "rb"))
    return path.open("rb")


def _scan_jsonl(file: InputFile, path: Path) -> ScannedFile:
    can_seek = not is_gzip(path)
    entries = [Entry(0, 0, 0)]
    records = offset = 0
    with _open(path) as lines:
        for number, line in enumerate(lines):
            if _content(line, number):
                if can_seek and records and records % ENTRY_EVERY_RECORDS == 0:
                    entries.append(Entry(records, offset, number))
                records += 1
            offset += len(line)
    counted = msgspec.structs.replace(file, records=records)
    return ScannedFile(counted, tuple(entries), content_bytes=offset)


def _scan_parquet(file: InputFile, path: Path) -> ScannedFile:
    metadata = pq.read_metadata(path)
    groups = range(metadata.num_row_groups)
    size = sum(metadata.row_group(group).total_byte_size for group in groups)
    counted = msgspec.structs.replace(file, records=metadata.num_rows)
    return ScannedFile(counted, content_bytes=size)


def _read_jsonl(piece: Slice, path: Path) -> Iterator[GoodRecord | BadRecord]:
    decode = msgspec.json.Decoder(type=dict[str, Any]).decode
    index, end = piece.entry_record, piece.first_record + piece.records
    with _open(path) as lines:
        if piece.offset:
            lines.seek(piece.offset)
        for number, line in enumerate(lines, start=piece.line + 1):
            if index >= end:
                return
            content = _content(line, number - 1)
            if not content:
                continue
            index += 1
            if index <= piece.first_record:
                continue
            try:
                yield GoodRecord(number, decode(content))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
                yield BadRecord(number, f"not a JSON object: {exc}", _excerpt(line))
    if index < end:
        raise OSError(0, f"ends after {index} records, {end} were planned", str(path))


def _content(line: bytes, index: int) -> bytes:
    """Return a line without white space around it, and the first one without a byte order mark."""
    return (line.removeprefix(BYTE_ORDER_MARK) if index == 0 else line).strip()


def _read_parquet(piece: Slice, path: Path) -> Iterator[GoodRecord | BadRecord]:
    with pq.ParquetFile(path) as parquet:
        skipped, groups = 0, []
        end = piece.first_record + piece.records
        position = 0
        for group in range(parquet.metadata.num_row_groups):
            rows = parquet.metadata.row_group(group).num_rows
            if position + rows <= piece.first_record:
                skipped += rows
            elif position < end:
                groups.append(group)
            position += rows
        position = skipped
        for batch in parquet.iter_batches(batch_size=PARQUET_BATCH_ROWS, row_groups=groups):
            if position + batch.num_rows > piece.first_record:
                for offset, row in enumerate(_rows(batch, position + 1)):
                    if piece.first_record <= position + offset < end:
                        yield row
            position += batch.num_rows
    if position < end:
        raise OSError(0, f"ends after {position} rows, {end} were planned", str(path))


def parquet_column_types(file: InputFile, path: Path) -> dict[str, frozenset[ColumnType]]:
    """Return the type of each column of a Parquet file; the empty set for one without values.

    Raises:
        ConfigurationError: the file as a whole cannot be read.
    """
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException) as exc:
        raise unreadable(file, exc) from exc
    return {field.name: _column_type(field.type) for field in schema}


def _column_type(kind: pa.DataType) -> frozenset[ColumnType]:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_null(kind):
        return frozenset()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return frozenset({"string"})
    if pa.types.is_boolean(kind):
        return frozenset({"boolean"})
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return frozenset({"integer"})
    if pa.types.is_floating(kind):
        return frozenset({"number"})
    return frozenset({"json"})


def _rows(batch: pa.RecordBatch, first_position: int) -> list[GoodRecord | BadRecord]:
    batch = batch.cast(
        pa.schema([_without_nanoseconds(field) for field in batch.schema]), safe=False
    )
    try:
        return [
            GoodRecord(first_position + offset, row) for offset, row in enumerate(batch.to_pylist())
        ]
    except (ValueError, OverflowError):
        # Some row holds what Python has no value for: text that is no UTF-8, the year 20000.
        return [_row(batch, offset, first_position) for offset in range(batch.num_rows)]


def _without_nanoseconds(field: pa.Field) -> pa.Field:
    """Return a field whose times Python has values for."""
    kind = field.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return field.with_type(pa.timestamp("us", kind.tz))
    if pa.types.is_duration(kind) and kind.unit == "ns":
        return field.with_type(pa.duration("us"))
    if pa.types.is_time64(kind) and kind.unit == "ns":
        return field.with_type(pa.time64("us"))
    return field


def _row(batch: pa.RecordBatch, offset: int, first_position: int) -> GoodRecord | BadRecord:
    position = first_position + offset
    try:
        return GoodRecord(position, batch.slice(offset, 1).to_pylist()[0])
    except (ValueError, OverflowError) as exc:
        return BadRecord(position, f"the row cannot be read: {exc}", "")


def _read_text(path: Path) -> GoodRecord | BadRecord:
    data = path.read_bytes()
    try:
        return GoodRecord(1, {"text": data.decode("utf-8-sig")})
    except UnicodeDecodeError as exc:
        return BadRecord(1, f"not UTF-8 text: {exc}", _excerpt(data))


def _excerpt(data: bytes) -> str:
    return data[:2000].decode("utf-8", errors="replace").rstrip("\r\n")
