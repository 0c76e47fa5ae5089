"""Writing part files: rows go straight to a staged file, so memory does not grow with a part."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from typing import Any, Literal, Protocol

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from kubesynth_runner.io.ledger import CommittedFile
from kubesynth_runner.io.storage import StagedFile, Storage

# What a Parquet row group holds at most, whichever comes first: bounds memory.
ROWS_PER_GROUP = 2048
CHARACTERS_PER_GROUP = 16 * 1024 * 1024
# Rows turned into Arrow at once. As Python's objects they take several times as much, most of it
# for their provenance.
ROWS_PER_BATCH = 128
_JSON = msgspec.json.Encoder()


class _HashingFile(io.RawIOBase):
    """A staged file that knows the SHA-256 and the size of what was written to it."""

    def __init__(self, staged: StagedFile) -> None:
        super().__init__()
        self._staged = staged
        self._digest = hashlib.sha256()
        self._abandoned = False
        self.size_bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        if not self._abandoned:
            self._digest.update(data)
            self._staged.write(data)
            self.size_bytes += len(data)
        return len(data)

    def tell(self) -> int:
        return self.size_bytes

    def finish(self) -> str:
        """Make the file durable, close it, and return its SHA-256."""
        self._staged.finish()
        return self._digest.hexdigest()

    def abandon(self) -> None:
        """Close the file as it is; what is written from now on is dropped."""
        self._abandoned = True
        self._staged.abandon()


class PartWriter(Protocol):
    """A part file in the making."""

    rows: int

    @property
    def size_bytes(self) -> int:
        """What is in the file so far; rows that are held in memory are not."""
        ...

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row."""
        ...

    def finish(self, final_path: str) -> CommittedFile:
        """Complete the file and describe it."""
        ...

    def abandon(self) -> None:
        """Give the file up."""
        ...


class JsonlPart:
    """Rows as JSON lines."""

    def __init__(self, storage: Storage, staged: str) -> None:
        self._staged = staged
        self._file = _HashingFile(storage.open_staged(staged))
        self.rows = 0

    @property
    def size_bytes(self) -> int:
        """What is in the file so far; rows that are held in memory are not."""
        return self._file.size_bytes

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row."""
        self._file.write(_JSON.encode(row) + b"\n")
        self.rows += 1

    def finish(self, final_path: str) -> CommittedFile:
        """Complete the file and describe it."""
        sha256 = self._file.finish()
        return CommittedFile(self._staged, final_path, self.rows, self._file.size_bytes, sha256)

    def abandon(self) -> None:
        """Give the file up."""
        self._file.abandon()


class ParquetPart:
    """Rows as Parquet, zstd, one row group per ROWS_PER_GROUP rows."""

    def __init__(self, storage: Storage, staged: str, schema: pa.Schema) -> None:
        self._staged = staged
        self._schema = schema
        self._file = _HashingFile(storage.open_staged(staged))
        self._writer = pq.ParquetWriter(
            pa.PythonFile(self._file, mode="w"), schema, compression="zstd"
        )
        self._buffer: list[Mapping[str, Any]] = []
        self._batches: list[pa.RecordBatch] = []
        self._rows_in_group = 0
        self._characters_in_group = 0
        self.rows = 0

    @property
    def size_bytes(self) -> int:
        """What is in the file so far; rows that are held in memory are not."""
        return self._file.size_bytes

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row."""
        self._buffer.append(row)
        for value in row.values():
            if isinstance(value, str):
                self._characters_in_group += len(value)
        self._rows_in_group += 1
        self.rows += 1
        if (
            self._rows_in_group >= ROWS_PER_GROUP
            or self._characters_in_group >= CHARACTERS_PER_GROUP
        ):
            self._flush()
        elif len(self._buffer) >= ROWS_PER_BATCH:
            self._pack()

    def _pack(self) -> None:
        if self._buffer:
            self._batches.append(pa.RecordBatch.from_pylist(self._buffer, schema=self._schema))
            self._buffer.clear()

    def _flush(self) -> None:
        """Write what is held as a row group."""
        self._pack()
        if self._batches:
            self._writer.write_table(pa.Table.from_batches(self._batches, self._schema))
            self._batches.clear()
            self._rows_in_group = self._characters_in_group = 0

    def finish(self, final_path: str) -> CommittedFile:
        """Complete the file and describe it."""
        self._flush()
        self._writer.close()
        sha256 = self._file.finish()
        return CommittedFile(self._staged, final_path, self.rows, self._file.size_bytes, sha256)

    def abandon(self) -> None:
        """Give the file up."""
        self._buffer.clear()
        self._batches.clear()
        # First the file: a disk that is full must not be asked to take a footer.
        self._file.abandon()
        self._writer.close()


Format = Literal["Parquet", "JSONL"]
EXTENSIONS: Mapping[Format, str] = {"Parquet": "parquet", "JSONL": "jsonl"}


def open_part(storage: Storage, staged: str, file_format: Format, schema: pa.Schema) -> PartWriter:
    """Return a writer for a new part."""
    if file_format == "Parquet":
        return ParquetPart(storage, staged, schema)
    return JsonlPart(storage, staged)
