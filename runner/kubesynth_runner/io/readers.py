"""Reading records: JSONL (also gzipped), Parquet, text files.

`scan` counts a file's records once, in plan; `read` yields a slice of them, bad ones included as
`BadRecord`, so that positions never depend on what is wrong with a record.
"""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Callable, Collection, Iterator
from typing import Any, BinaryIO, cast

import msgspec
import pyarrow as pa

from kubesynth_api.conditions import Reason
from kubesynth_runner import errors
from kubesynth_runner.io import parquet
from kubesynth_runner.io.contents import Content
from kubesynth_runner.io.input_files import is_gzip
from kubesynth_runner.io.partition import Entry, ScannedFile
from kubesynth_runner.io.plan_file import ColumnType, InputFile, Slice
from kubesynth_runner.io.rows import BadRecord, GoodRecord, Visit

__all__ = ["BadRecord", "GoodRecord", "column_types", "read", "scan"]

# Every so many records a JSONL file gets an entry point; a shard reads at most that many in vain.
ENTRY_EVERY_RECORDS = 4096
# What memory is kept for; a file without line ends is one bad record, not the death of the pod.
MAX_LINE_BYTES = 64 << 20
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_CUT_OFF = b"... "  # not even the beginning of a number
_NOT_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def scan(
    file: InputFile,
    content: Content,
    visit: Visit | None = None,
    columns: Collection[str] | None = None,
    wants_records: Callable[[], bool] = lambda: False,
) -> ScannedFile:
    """Count the records of a file and find its entry points.

    What `visit` ends is counted up to the record that ended it. `columns` are those it wants to
    see; None: it wants positions alone, which for Parquet is no more than the file's end. Lines of
    JSON are shown whole, also without `columns` while `wants_records` says so.

    Raises:
        ConfigurationError: the file as a whole cannot be read.
    """
    try:
        match file.format:
            case "JSONL":
                return _scan_jsonl(
                    file, content, visit, wants_records if columns is None else lambda: True
                )
            case "Parquet":
                return parquet.scan(file, content, visit, columns)
            case "Text":
                if visit is not None:
                    visit(1, None)
                one = msgspec.structs.replace(file, records=1)
                return ScannedFile(one, content_bytes=file.size_bytes)
    except (OSError, EOFError, zlib.error, pa.ArrowException) as exc:
        raise unreadable(file, exc) from exc


def read(piece: Slice, content: Content) -> Iterator[GoodRecord | BadRecord]:
    """Yield the records of a slice, in order, exactly `piece.records` of them.

    Raises:
        ConfigurationError: the file as a whole cannot be read.
    """
    try:
        match piece.file.format:
            case "JSONL":
                yield from _read_jsonl(piece, content)
            case "Parquet":
                yield from parquet.read(piece, content)
            case "Text":
                yield _read_text(content)
    except (OSError, EOFError, zlib.error, pa.ArrowException) as exc:
        raise unreadable(piece.file, exc) from exc


def unreadable(file: InputFile, exc: Exception) -> errors.ConfigurationError:
    """Return the error that a whole file cannot be read."""
    return errors.ConfigurationError(
        Reason.INPUT_UNREADABLE,
        f"input file {file.uri} cannot be read as {file.format}: {exc}; repair or remove it",
    )


def column_types(file: InputFile, content: Content) -> dict[str, frozenset[ColumnType]]:
    """Return the type of each column of a Parquet file; the empty set for one without values.

    Raises:
        ConfigurationError: the file as a whole cannot be read.
    """
    try:
        return parquet.column_types(content)
    except (OSError, pa.ArrowException) as exc:
        raise unreadable(file, exc) from exc


def _open(file: InputFile, content: Content, offset: int = 0) -> BinaryIO:
    raw = content.open(offset)
    if not is_gzip(file):
        return raw
    return cast("BinaryIO", _Unzipped(raw))


class _Unzipped(gzip.GzipFile):
    """What a compressed file holds; closes it, too."""

    def __init__(self, raw: BinaryIO) -> None:
        super().__init__(fileobj=raw, mode="rb")
        self._raw_file = raw

    def close(self) -> None:
        super().close()
        self._raw_file.close()


def _scan_jsonl(
    file: InputFile, content: Content, visit: Visit | None, wants_records: Callable[[], bool]
) -> ScannedFile:
    can_seek = not is_gzip(file)
    decode = msgspec.json.Decoder(type=dict[str, Any]).decode
    entries = [Entry(0, 0, 0)]
    records = offset = 0
    with _open(file, content) as lines:
        for number, (line, length) in enumerate(_lines(lines)):
            if data := _content(line, number):
                if can_seek and records and records % ENTRY_EVERY_RECORDS == 0:
                    entries.append(Entry(records, offset, number))
                records += 1
                if visit is not None:
                    row = None
                    if wants_records():
                        with contextlib.suppress(*_NOT_JSON):
                            row = decode(data)
                    if not visit(number + 1, row):
                        offset += length
                        break
            offset += length
    counted = msgspec.structs.replace(file, records=records)
    return ScannedFile(counted, tuple(entries), content_bytes=offset)


def _read_jsonl(piece: Slice, content: Content) -> Iterator[GoodRecord | BadRecord]:
    decode = msgspec.json.Decoder(type=dict[str, Any]).decode
    index, end = piece.entry_record, piece.first_record + piece.records
    with _open(piece.file, content, piece.offset) as lines:
        for number, (line, length) in enumerate(_lines(lines), start=piece.line + 1):
            data = _content(line, number - 1)
            if not data:
                continue
            index += 1
            if index > piece.first_record:
                try:
                    row: GoodRecord | BadRecord = GoodRecord(number, decode(data))
                except _NOT_JSON as exc:
                    problem = f"not a JSON object: {exc}"
                    if length > MAX_LINE_BYTES:
                        problem = f"longer than {MAX_LINE_BYTES} bytes: {length}"
                    row = BadRecord(number, problem, _excerpt(line))
                yield row
            if index >= end:
                return
    if index < end:
        raise OSError(f"it ends after {index} records, {end} were planned")


def _lines(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield each line and its length; of one that is too long, only a beginning that is no JSON."""
    while line := file.readline(MAX_LINE_BYTES + 1):
        length = len(line)
        if length <= MAX_LINE_BYTES:
            yield line, length
            continue
        end = line[-1:]
        while end != b"\n" and (more := file.readline(MAX_LINE_BYTES)):
            length += len(more)
            end = more[-1:]
        yield _CUT_OFF + line[:2000], length


def _content(line: bytes, index: int) -> bytes:
    """Return a line without white space around it, and the first one without a byte order mark."""
    return (line.removeprefix(BYTE_ORDER_MARK) if index == 0 else line).strip()


def _read_text(content: Content) -> GoodRecord | BadRecord:
    with content.open() as file:
        data = file.read(MAX_LINE_BYTES + 1)
    if len(data) > MAX_LINE_BYTES:
        return BadRecord(1, f"longer than {MAX_LINE_BYTES} bytes", _excerpt(data))
    try:
        return GoodRecord(1, {"text": data.decode("utf-8-sig")})
    except UnicodeDecodeError as exc:
        return BadRecord(1, f"not UTF-8 text: {exc}", _excerpt(data))


def _excerpt(data: bytes) -> str:
    return data[:2000].decode("utf-8", errors="replace").rstrip("\r\n")
