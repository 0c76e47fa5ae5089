from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kubesynth_runner import errors
from kubesynth_runner.io import readers
from kubesynth_runner.io.contents import LocalContent
from kubesynth_runner.io.partition import ScannedFile
from kubesynth_runner.io.plan_file import FileFormat, InputFile, Slice


def whole(
    path: Path, file_format: FileFormat = "JSONL"
) -> list[readers.GoodRecord | readers.BadRecord]:
    file = readers.scan(InputFile(path.as_uri(), file_format, 0, "v"), LocalContent(path)).file
    return list(readers.read(Slice(file, 0, file.records), LocalContent(path)))


def columns(rows: list[readers.GoodRecord | readers.BadRecord]) -> list[dict[str, Any]]:
    assert all(isinstance(row, readers.GoodRecord) for row in rows), rows
    return [row.columns for row in rows if isinstance(row, readers.GoodRecord)]


@pytest.mark.parametrize(
    ("data", "numbers", "positions"),
    [
        pytest.param(b'{"n":1}\n{"n":2}\n', [1, 2], [1, 2], id="plain"),
        pytest.param(b'{"n":1}\r\n{"n":2}\r\n', [1, 2], [1, 2], id="crlf"),
        pytest.param(b'{"n":1}\n{"n":2}', [1, 2], [1, 2], id="no-final-newline"),
        pytest.param(b'\n{"n":1}\n\n  \t\n{"n":2}\n\n', [1, 2], [2, 5], id="blank-lines"),
        pytest.param(b'\xef\xbb\xbf{"n":1}\n{"n":2}\n', [1, 2], [1, 2], id="byte-order-mark"),
        pytest.param(b'\xef\xbb\xbf\n{"n":1}\n', [1], [2], id="byte-order-mark-alone"),
        pytest.param(b"", [], [], id="empty"),
        pytest.param(b"\n\r\n  \n", [], [], id="only-blank-lines"),
    ],
)
def test_jsonl_lines_become_records(
    tmp_path: Path, data: bytes, numbers: list[int], positions: list[int]
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(data)
    rows = whole(path)
    assert [row["n"] for row in columns(rows)] == numbers
    assert [row.position for row in rows] == positions


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"{", id="cut-off"),
        pytest.param(b"[1]", id="list"),
        pytest.param(b'"text"', id="string"),
        pytest.param(b"null", id="null"),
        pytest.param(b'{"a": "\xff"}', id="invalid-utf-8"),
        pytest.param(b'{"a": "\\ud800"}', id="half-a-surrogate-pair"),
        pytest.param(b'{"a": NaN}', id="nan"),
        pytest.param(b'{"a": "\x00"}', id="control-character"),
        pytest.param(b'{"a":' + b"[" * 100_000, id="too-deep"),
        pytest.param(b"\xff\xfe{\x00", id="utf-16"),
    ],
)
def test_bad_jsonl_line_is_quarantined_and_the_rest_is_read(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"n":1}\n' + line + b'\n{"n":2}\n')
    first, bad, last = whole(path)
    assert isinstance(first, readers.GoodRecord)
    assert isinstance(last, readers.GoodRecord)
    assert isinstance(bad, readers.BadRecord)
    assert bad.position == 2
    assert "not a JSON object" in bad.message
    assert len(bad.raw) <= 2000


def test_huge_line_is_one_record(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"t": "x" * 10_000_000}) + '\n{"t": "y"}\n')
    assert [len(row["t"]) for row in columns(whole(path))] == [10_000_000, 1]


@pytest.mark.parametrize("ending", [b"\n", b""])
def test_a_line_that_is_too_long_for_memory_is_one_bad_record(
    ending: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "MAX_LINE_BYTES", 1000)
    monkeypatch.setattr(readers, "ENTRY_EVERY_RECORDS", 2)
    path = tmp_path / "a.jsonl"
    fits = b'{"t": "' + b"x" * 990 + b'"}\n'
    assert len(fits) == 1000
    long = b'{"t": "' + b"y" * 5000 + b'"}'
    path.write_bytes(fits + long + b"\n" + b" " * 3000 + b"\n" + fits + long + ending)
    rows = whole(path)
    kinds = [type(row).__name__ for row in rows]
    assert kinds == ["GoodRecord", "BadRecord", "BadRecord", "GoodRecord", "BadRecord"]
    assert [row.position for row in rows] == [1, 2, 3, 4, 5]
    bad = rows[1]
    assert isinstance(bad, readers.BadRecord)
    assert bad.message.startswith("longer than 1000 bytes: 50")
    scanned = readers.scan(InputFile(path.as_uri(), "JSONL", 0, "v"), LocalContent(path))
    assert scanned.content_bytes == path.stat().st_size
    entry = scanned.entries[-1]
    piece = Slice(scanned.file, 4, 1, entry.record, entry.offset, entry.line)
    assert [row.position for row in readers.read(piece, LocalContent(path))] == [5]


def test_a_text_that_is_too_long_for_memory_is_quarantined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "MAX_LINE_BYTES", 1000)
    (tmp_path / "a.txt").write_text("x" * 1000)
    assert len(columns(whole(tmp_path / "a.txt", "Text"))) == 1
    (tmp_path / "a.txt").write_text("x" * 1001)
    (bad,) = whole(tmp_path / "a.txt", "Text")
    assert isinstance(bad, readers.BadRecord)
    assert bad.message == "longer than 1000 bytes"


@pytest.mark.parametrize("name", ["a.jsonl.gz", "A.JSONL.GZ"])
def test_gzip_is_read_by_its_name_in_any_case(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    # Two members, as `cat a.gz b.gz` makes them.
    path.write_bytes(gzip.compress(b'{"n":1}\n') + gzip.compress(b'{"n":2}\n'))
    assert [row["n"] for row in columns(whole(path))] == [1, 2]


def test_a_slice_of_gzip_is_read_from_the_beginning(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b"".join(b'{"n":%d}\n' % n for n in range(10_000))))
    scanned = readers.scan(InputFile(path.as_uri(), "JSONL", 0, "v"), LocalContent(path))
    assert len(scanned.entries) == 1
    rows = list(readers.read(Slice(scanned.file, 9_990, 5), LocalContent(path)))
    assert [row["n"] for row in columns(rows)] == list(range(9_990, 9_995))


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.999])
def test_truncated_gzip_is_refused_as_a_whole(tmp_path: Path, keep: float) -> None:
    data = gzip.compress(b"".join(b'{"n":%d}\n' % n for n in range(1000)))
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(errors.ConfigurationError, match=r"file:///.*/a\.jsonl\.gz"):
        whole(path)


def test_corrupt_gzip_is_refused_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(b"this is no gzip")
    with pytest.raises(errors.ConfigurationError, match="cannot be read as JSONL"):
        whole(path)


def test_file_that_has_lost_records_since_the_scan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"n":1}\n{"n":2}\n')
    file = readers.scan(InputFile(path.as_uri(), "JSONL", 0, "v"), LocalContent(path)).file
    path.write_text('{"n":1}\n')
    with pytest.raises(errors.ConfigurationError, match="ends after 1 records, 2 were planned"):
        list(readers.read(Slice(file, 0, 2), LocalContent(path)))


def parquet(path: Path, table: pa.Table, rows_per_group: int = 1000) -> Path:
    pq.write_table(table, path, row_group_size=rows_per_group)
    return path


@pytest.mark.parametrize(("first", "count"), [(0, 70), (0, 1), (9, 2), (10, 10), (25, 30), (69, 1)])
def test_parquet_slice_spans_row_groups(tmp_path: Path, first: int, count: int) -> None:
    path = parquet(tmp_path / "a.parquet", pa.table({"n": list(range(70))}), rows_per_group=10)
    file = readers.scan(InputFile(path.as_uri(), "Parquet", 0, "v"), LocalContent(path)).file
    assert file.records == 70
    rows = list(readers.read(Slice(file, first, count), LocalContent(path)))
    assert [row["n"] for row in columns(rows)] == list(range(first, first + count))
    assert [row.position for row in rows] == list(range(first + 1, first + count + 1))


def test_parquet_nulls_and_nested_values_are_kept(tmp_path: Path) -> None:
    rows = [{"t": "a", "s": {"x": 1}, "l": [1, 2]}, {"t": None, "s": None, "l": None}]
    path = parquet(tmp_path / "a.parquet", pa.Table.from_pylist(rows))
    assert columns(whole(path, "Parquet")) == rows


def test_parquet_nanoseconds_become_microseconds(tmp_path: Path) -> None:
    table = pa.table(
        {
            "at": pa.array([1_500, None], pa.timestamp("ns", "UTC")),
            "took": pa.array([2_500, None], pa.duration("ns")),
        }
    )
    path = parquet(tmp_path / "a.parquet", table)
    assert columns(whole(path, "Parquet")) == [
        {"at": datetime(1970, 1, 1, microsecond=1, tzinfo=UTC), "took": timedelta(microseconds=2)},
        {"at": None, "took": None},
    ]


def test_parquet_row_without_a_python_value_is_quarantined(tmp_path: Path) -> None:
    table = pa.table({"n": [1, 2, 3], "at": pa.array([0, 2**55, 1], pa.timestamp("ms"))})
    rows = whole(parquet(tmp_path / "a.parquet", table), "Parquet")
    assert [type(row) for row in rows] == [
        readers.GoodRecord,
        readers.BadRecord,
        readers.GoodRecord,
    ]
    assert [row.position for row in rows] == [1, 2, 3]
    assert [row.columns.get("n") for row in rows] == [1, 2, 3]
    assert "at" not in rows[1].columns


def test_empty_parquet_has_no_records(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", pa.table({"n": pa.array([], pa.int64())}))
    assert whole(path, "Parquet") == []


@pytest.mark.parametrize("data", [b"", b"PAR1", b"no parquet at all"])
def test_what_is_no_parquet_is_refused_as_a_whole(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(data)
    with pytest.raises(errors.ConfigurationError, match="cannot be read as Parquet"):
        whole(path, "Parquet")


def test_column_types_come_from_the_parquet_schema(tmp_path: Path) -> None:
    table = pa.table(
        {
            "s": pa.array(["a"], pa.large_string()),
            "d": pa.array(["a"]).dictionary_encode(),
            "i": pa.array([1], pa.int8()),
            "u": pa.array([1], pa.uint64()),
            "f": pa.array([1.0], pa.float32()),
            "b": pa.array([True]),
            "l": pa.array([[1]]),
            "n": pa.array([None]),
        }
    )
    path = parquet(tmp_path / "a.parquet", table)
    types = readers.column_types(InputFile("u", "Parquet", 0, "v"), LocalContent(path))
    assert {name: "".join(kinds) for name, kinds in types.items()} == {
        "s": "string",
        "d": "string",
        "i": "integer",
        "u": "json",
        "f": "number",
        "b": "boolean",
        "l": "json",
        "n": "",
    }


def test_text_file_is_one_record_without_its_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfline one\r\nline two\n")
    assert columns(whole(path, "Text")) == [{"text": "line one\r\nline two\n"}]


def test_text_file_that_is_no_text_is_quarantined(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xff\xfe\x00")
    (bad,) = whole(path, "Text")
    assert isinstance(bad, readers.BadRecord)
    assert "not UTF-8" in bad.message


def test_scan_tells_how_much_text_there_is_before_compression(tmp_path: Path) -> None:
    text = b'{"t":"' + b"x" * 50_000 + b'"}\n'
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(text))
    table = pa.table({"t": ["x" * 50_000, "y" * 50_000]})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd", use_dictionary=False)

    def scan(name: str, file_format: FileFormat) -> ScannedFile:
        path = tmp_path / name
        return readers.scan(InputFile(path.as_uri(), file_format, 99, "v"), LocalContent(path))

    jsonl = scan("a.jsonl.gz", "JSONL")
    parquet_file = scan("a.parquet", "Parquet")
    text_file = scan("a.parquet", "Text")
    assert jsonl.content_bytes == len(text)
    assert 100_000 <= parquet_file.content_bytes <= 110_000
    assert text_file.content_bytes == 99
