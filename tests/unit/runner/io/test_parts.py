from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kubesynth_api.conditions import Reason
from kubesynth_runner import errors
from kubesynth_runner.io import parts
from kubesynth_runner.io.local_storage import LocalStorage
from kubesynth_runner.io.parts import Format

SCHEMA = pa.schema([("id", pa.string()), ("n", pa.int64())])
ROWS: list[dict[str, Any]] = [{"id": f"r{n}", "n": n} for n in range(5)]


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path)


@pytest.mark.parametrize("file_format", ["Parquet", "JSONL"])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_finished_part_tells_its_rows_size_and_hash(
    storage: LocalStorage, file_format: Format, count: int
) -> None:
    part = parts.open_part(storage, "staging/p", file_format, SCHEMA)
    for row in ROWS[:count]:
        part.write(row)
    file = part.finish("data/p")
    data = storage.read("staging/p")
    assert (file.staged, file.path, file.rows) == ("staging/p", "data/p", count)
    assert file.size_bytes == len(data)
    assert file.sha256 == hashlib.sha256(data).hexdigest()
    path = storage.root / "staging/p"
    if file_format == "Parquet":
        assert pq.read_table(path).to_pylist() == ROWS[:count]
    else:
        assert [json.loads(line) for line in data.splitlines()] == ROWS[:count]


def test_row_groups_are_bounded_by_rows(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "ROWS_PER_GROUP", 2)
    part = parts.open_part(storage, "p", "Parquet", SCHEMA)
    for row in ROWS:
        part.write(row)
    part.finish("data/p")
    metadata = pq.read_metadata(storage.root / "p")
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [2, 2, 1]


def test_row_groups_are_bounded_by_size(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "CHARACTERS_PER_GROUP", 10)
    part = parts.open_part(storage, "p", "Parquet", SCHEMA)
    for length in (4, 6, 30, 1):
        part.write({"id": "x" * length, "n": 0})
    part.finish("data/p")
    metadata = pq.read_metadata(storage.root / "p")
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [2, 1, 1]


@pytest.mark.parametrize("file_format", ["Parquet", "JSONL"])
def test_abandoned_part_writes_nothing_more(storage: LocalStorage, file_format: Format) -> None:
    part = parts.open_part(storage, "p", file_format, SCHEMA)
    part.write(ROWS[0])
    part.abandon()
    size = (storage.root / "p").stat().st_size
    part.abandon()
    assert (storage.root / "p").stat().st_size == size


class _FullFile:
    def __init__(self) -> None:
        self.left = 100

    def write(self, data: bytes) -> None:
        self.left -= len(data)
        if self.left < 0:
            raise errors.RetryLaterError(Reason.OUTPUT_UNWRITABLE, "No space left on device")

    def finish(self) -> None:
        raise AssertionError("nobody may finish a file that is not whole")

    def abandon(self) -> None:
        pass


class _FullStorage(LocalStorage):
    def open_staged(self, path: str) -> Any:
        return _FullFile()


@pytest.mark.parametrize("file_format", ["Parquet", "JSONL"])
def test_full_disk_is_reported_as_it_is_and_leaves_no_trap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_format: Format
) -> None:
    monkeypatch.setattr(parts, "ROWS_PER_GROUP", 2)
    part = parts.open_part(_FullStorage(tmp_path), "p", file_format, SCHEMA)

    def fill() -> None:
        for _ in range(100):
            part.write(ROWS[0])

    with pytest.raises(errors.RetryLaterError, match="No space left"):
        fill()
    part.abandon()
