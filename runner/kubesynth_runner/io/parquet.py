"""Records of Parquet files, by row groups; of files far away only what is needed is fetched."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from kubesynth_runner.io.contents import Content
from kubesynth_runner.io.partition import ScannedFile
from kubesynth_runner.io.plan_file import ColumnType, InputFile, Slice
from kubesynth_runner.io.rows import BadRecord, GoodRecord, Visit

# What is turned into Python's objects at once, whichever comes first.
BATCH_ROWS = 256
BATCH_BYTES = 16 << 20
# A row group up to this size is fetched at once, neighbouring columns together. Of a larger one
# each column is read in pieces, so that memory does not grow with the row group.
SMALL_GROUP_BYTES = 32 << 20
PIECE_BYTES = 1 << 20


def scan(
    file: InputFile, content: Content, visit: Visit | None, columns: Collection[str] | None
) -> ScannedFile:
    """Count the rows of a file, and show `columns` of them to `visit`.

    Without columns to show, only the end of the file is read.
    """
    with pq.ParquetFile(content.open_anywhere(), pre_buffer=False) as parquet:
        metadata = parquet.metadata
        groups = range(metadata.num_row_groups)
        size = sum(metadata.row_group(group).total_byte_size for group in groups)
        rows = metadata.num_rows
        wanted = [name for name in columns or () if name in parquet.schema_arrow.names]
    if visit is not None:
        counted = msgspec.structs.replace(file, records=rows)
        rows = _visit(Slice(counted, 0, rows), content, visit, wanted)
    counted = msgspec.structs.replace(file, records=rows)
    return ScannedFile(counted, content_bytes=size * rows // max(1, metadata.num_rows))


def _visit(piece: Slice, content: Content, visit: Visit, wanted: list[str]) -> int:
    """Show rows until there are no more or `visit` has seen enough; return how many it saw."""
    if not wanted:
        for position in range(1, piece.records + 1):
            if not visit(position, None):
                return position
        return piece.records
    for row in read(piece, content, wanted):
        columns = row.columns if isinstance(row, GoodRecord) else None
        if not visit(row.position, columns):
            return row.position
    return piece.records


def read(
    piece: Slice, content: Content, columns: list[str] | None = None
) -> Iterator[GoodRecord | BadRecord]:
    """Yield the rows of a slice; of all columns, or of the named ones."""
    end = piece.first_record + piece.records
    source = content.open_anywhere()
    with pq.ParquetFile(source, pre_buffer=False) as parquet:
        position = 0
        for group in range(parquet.metadata.num_row_groups):
            rows = parquet.metadata.row_group(group).num_rows
            if position + rows > piece.first_record and position < end:
                for batch in _batches(source, parquet.metadata, group, columns):
                    if position + batch.num_rows > piece.first_record and position < end:
                        for offset, row in enumerate(_rows(batch, position + 1)):
                            if piece.first_record <= position + offset < end:
                                yield row
                    position += batch.num_rows
                    if position >= end:
                        return
            else:
                position += rows
    if position < end:
        raise OSError(f"it ends after {position} rows, {end} were planned")


def _batches(
    source: Path | BinaryIO, metadata: pq.FileMetaData, group: int, columns: list[str] | None
) -> Iterator[pa.RecordBatch]:
    chunks = metadata.row_group(group)
    size = sum(chunks.column(index).total_compressed_size for index in range(chunks.num_columns))
    is_small = size <= SMALL_GROUP_BYTES
    with pq.ParquetFile(
        source,
        metadata=metadata,
        pre_buffer=is_small,
        buffer_size=0 if is_small else PIECE_BYTES,
    ) as opened:
        rows = _rows_at_once(chunks, columns)
        yield from opened.iter_batches(rows, row_groups=[group], columns=columns)


def _rows_at_once(chunks: pq.RowGroupMetaData, columns: list[str] | None) -> int:
    """Return how many rows of a row group to decode at once, going by their average size."""
    rows, size = int(chunks.num_rows), 0
    for index in range(chunks.num_columns):
        chunk = chunks.column(index)
        # What is within a list or a struct has its path behind the column's name.
        path = f"{chunk.path_in_schema}."
        if columns is None or any(path.startswith(f"{name}.") for name in columns):
            size += int(chunk.total_uncompressed_size)
    return max(1, min(BATCH_ROWS, BATCH_BYTES * rows // max(1, size)))


def column_types(content: Content) -> dict[str, frozenset[ColumnType]]:
    """Return the type of each column; the empty set for one without values."""
    with pq.ParquetFile(content.open_anywhere(), pre_buffer=False) as parquet:
        return {field.name: _column_type(field.type) for field in parquet.schema_arrow}


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
    row = batch.slice(offset, 1)
    try:
        return GoodRecord(position, row.to_pylist()[0])
    except (ValueError, OverflowError) as exc:
        message = f"the row cannot be read: {exc}"
    columns = {}
    for name, column in zip(row.schema.names, row.columns, strict=True):
        with contextlib.suppress(ValueError, OverflowError):
            columns[name] = column.to_pylist()[0]
    return BadRecord(position, message, "", columns)
