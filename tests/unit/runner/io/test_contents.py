"""Files that are read by ranges: the same bytes, few requests, bounded memory."""

from __future__ import annotations

import gzip
import io
import random
import time
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kubesynth_api.conditions import Reason
from kubesynth_runner import errors
from kubesynth_runner.io import contents, parquet, readers
from kubesynth_runner.io.contents import RangedContent
from kubesynth_runner.io.plan_file import InputFile, Slice

DRAW = random.Random(1)
ROWS = 2000


class CountingFetch:
    """Ranges of bytes, and which were asked for."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.ranges: list[tuple[int, int]] = []

    def __call__(self, start: int, end: int) -> bytes:
        assert 0 <= start < end <= len(self.data)
        self.ranges.append((start, end))
        return self.data[start:end]

    @property
    def bytes_read(self) -> int:
        return sum(end - start for start, end in self.ranges)

    @property
    def content(self) -> RangedContent:
        return RangedContent(len(self.data), self)


def table(rows: int = ROWS) -> pa.Table:
    """Return rows that cannot be compressed: 1 KB of text, and a number."""
    return pa.table(
        {"text": [DRAW.randbytes(500).hex() for _ in range(rows)], "n": list(range(rows))}
    )


def as_parquet(rows: pa.Table, rows_per_group: int) -> CountingFetch:
    sink = io.BytesIO()
    pq.write_table(
        rows,
        sink,
        row_group_size=rows_per_group,
        compression="zstd",
        use_dictionary=False,  # what is read at once is a page, and a dictionary is one, too
        data_page_size=20_000,
        write_batch_size=10,
    )
    return CountingFetch(sink.getvalue())


def file_of(fetch: CountingFetch, name: str, records: int = 0) -> InputFile:
    file_format = "Parquet" if name.endswith("parquet") else "JSONL"
    return InputFile(f"s3://b/{name}", file_format, len(fetch.data), "v", records)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, 1, contents.CHUNK_MIN_BYTES, 5_000_000])
def test_a_stream_has_every_byte_once(size: int) -> None:
    fetch = CountingFetch(DRAW.randbytes(size))
    with fetch.content.open() as file:
        assert file.read() == fetch.data
    assert fetch.bytes_read == size
    with fetch.content.open(size // 3) as file:
        assert file.read() == fetch.data[size // 3 :]


def test_a_small_file_takes_one_request_and_a_big_one_few() -> None:
    small = CountingFetch(b"x" * 1000)
    with small.content.open() as file:
        file.read()
    assert len(small.ranges) == 1
    big = CountingFetch(bytes(40_000_000))
    with big.content.open() as file:
        while file.read(100_000):
            pass
    assert len(big.ranges) <= 15
    assert max(end - start for start, end in big.ranges) == contents.CHUNK_MAX_BYTES


def test_a_slow_reader_is_one_piece_behind_and_no_more() -> None:
    fetch = CountingFetch(bytes(40_000_000))
    with fetch.content.open() as file:
        file.read(10)
        deadline = time.monotonic() + 10
        while len(fetch.ranges) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        assert len(fetch.ranges) == 2


def test_what_stops_a_fetch_reaches_the_reader() -> None:
    def fail(start: int, end: int) -> bytes:
        raise errors.RetryLaterError(Reason.INPUT_UNREADABLE, f"{start} {end}")

    for name in ("a.jsonl", "a.jsonl.gz", "a.parquet"):
        file = file_of(CountingFetch(bytes(100)), name)
        with pytest.raises(errors.RetryLaterError):
            readers.scan(file, RangedContent(100, fail))


def test_the_scan_of_parquet_reads_its_end_alone() -> None:
    fetch = as_parquet(table(), 100)
    scanned = readers.scan(file_of(fetch, "a.parquet"), fetch.content)
    assert scanned.file.records == ROWS
    assert len(fetch.ranges) == 1
    assert fetch.bytes_read <= contents.TAIL_BYTES


def test_a_scan_for_ids_reads_the_ids_alone() -> None:
    fetch = as_parquet(table(), 1000)
    seen: list[Any] = []

    def visit(position: int, columns: dict[str, Any] | None) -> bool:
        assert columns is not None
        seen.append(columns)
        return True

    readers.scan(file_of(fetch, "a.parquet"), fetch.content, visit, ["n"])
    assert seen == [{"n": number} for number in range(ROWS)]
    assert fetch.bytes_read < len(fetch.data) / 10


@pytest.mark.parametrize("in_pieces", [False, True])
@pytest.mark.parametrize("rows_per_group", [100, ROWS])
def test_a_slice_of_parquet_reads_what_it_needs(
    rows_per_group: int, in_pieces: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if in_pieces:
        monkeypatch.setattr(parquet, "SMALL_GROUP_BYTES", 1000)
        monkeypatch.setattr(parquet, "PIECE_BYTES", 10_000)
    rows = table()
    fetch = as_parquet(rows, rows_per_group)
    file = file_of(fetch, "a.parquet", ROWS)
    values = []
    for first in range(0, ROWS, ROWS // 4):
        for row in readers.read(Slice(file, first, ROWS // 4), fetch.content):
            assert isinstance(row, readers.GoodRecord)
            values.append(row.columns)
    assert values == rows.to_pylist()
    if rows_per_group < ROWS:
        assert fetch.bytes_read < 1.2 * len(fetch.data) + 4 * contents.TAIL_BYTES
    if in_pieces:
        assert max(end - start for start, end in fetch.ranges) <= contents.TAIL_BYTES


@pytest.mark.parametrize(("characters", "most_rows"), [(100_000, 11), (3_000_000, 1), (10, 256)])
def test_rows_of_parquet_are_decoded_a_few_at_a_time_where_they_are_large(
    characters: int, most_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "BATCH_BYTES", 1 << 20)
    decoded: list[int] = []
    decode = parquet._rows

    def counting(batch: pa.RecordBatch, first_position: int) -> Any:
        decoded.append(batch.num_rows)
        return decode(batch, first_position)

    monkeypatch.setattr(parquet, "_rows", counting)
    count = min(300, 6_000_000 // characters)
    rows = pa.table({"text": [f"{n:06}" + "x" * characters for n in range(count)]})
    fetch = as_parquet(rows, 300)
    file = file_of(fetch, "a.parquet", count)
    read = [row.columns for row in readers.read(Slice(file, 0, count), fetch.content)]
    assert read == rows.to_pylist()
    assert most_rows / 2 <= max(decoded) <= most_rows


def test_a_slice_of_jsonl_starts_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = CountingFetch(
        b"".join(b'{"n": %d, "t": "%s"}\n' % (n, b"x" * 990) for n in range(20_000))
    )
    file = file_of(fetch, "a.jsonl")
    scanned = readers.scan(file, fetch.content)
    fetch.ranges.clear()
    entry = scanned.entries[-1]
    piece = Slice(scanned.file, entry.record + 5, 10, entry.record, entry.offset, entry.line)
    rows = list(readers.read(piece, fetch.content))
    assert [row.position for row in rows] == list(range(entry.record + 6, entry.record + 16))
    assert fetch.ranges[0][0] == entry.offset
    assert fetch.bytes_read <= 4 * contents.CHUNK_MIN_BYTES


def test_gzip_is_read_front_to_back() -> None:
    lines = b"".join(b'{"n": %d}\n' % n for n in range(100_000))
    fetch = CountingFetch(gzip.compress(lines))
    file = file_of(fetch, "a.jsonl.gz")
    scanned = readers.scan(file, fetch.content)
    assert scanned.file.records == 100_000
    rows = list(readers.read(Slice(scanned.file, 99_990, 10), fetch.content))
    assert [row.position for row in rows] == list(range(99_991, 100_001))
