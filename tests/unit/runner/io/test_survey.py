"""One look at the whole input: samples, limits, and how much of it is looked at."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kubesynth_api.conditions import Reason
from kubesynth_api.v1alpha1.storage import InputSpec
from kubesynth_runner import errors, records
from kubesynth_runner.io import input_files, inputs, partition, sampling, source, survey
from kubesynth_runner.io.contents import Content
from kubesynth_runner.io.mounts import Mounts
from kubesynth_runner.io.plan_file import InputFile, Partition

ROWS = 2000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(4):
        rows = [{"text": f"{number} {n}", "key": f"k{n}-{number}"} for n in range(ROWS // 4)]
        if number == 3:
            pq.write_table(pa.Table.from_pylist(rows), tmp_path / "3.parquet", row_group_size=90)
        else:
            text = "\n\n".join(json.dumps(row) for row in rows)
            (tmp_path / f"{number}.jsonl").write_text(text + "\n{bad\n")
    return tmp_path


def spec_of(folder: Path, **fields: Any) -> InputSpec:
    return InputSpec.model_validate({"uri": f"file://{folder}/*", **fields})


class Counting:
    """A source that counts what is opened."""

    def __init__(self, spec: InputSpec) -> None:
        self._source = inputs.open_source(spec, Mounts())
        self.left_out = input_files.LeftOut()
        self.opened: Counter[str] = Counter()

    def find(self) -> list[InputFile]:
        return self._source.find()

    def open(self, file: InputFile) -> Content:
        self.opened[file.uri] += 1
        return self._source.open(file)


def taken(spec: InputSpec, *, shards: int = 1, seed: int | None = 1) -> list[str]:
    """Return the ids of the records of all shards, and check what was planned for each."""
    origin = Counting(spec)
    sample = sampling.of(spec, seed)
    seen = survey.survey(origin, origin.find(), spec, sample)
    ids: list[str] = []
    for part in partition.assign(seen.files, shards, spec.limit, seen.duplicates):
        done = bytes(part.records // 8 + 1)
        found = list(source.read_partition(part, spec, origin, done, sample))
        assert [item.ordinal for item in found] == list(range(part.records))
        ids += [item.record.record_id for item in found]
        again = _resume(part, spec, origin, sample)
        assert again == [item.record.record_id for item in found[::2]]
    return ids


def _resume(
    part: Partition, spec: InputSpec, origin: Counting, sample: sampling.Sample | None
) -> list[str]:
    """Return what is read when every second record is done."""
    half = bytes([0b10101010]) * (part.records // 8 + 1)
    found = source.read_partition(part, spec, origin, half, sample)
    return [item.record.record_id for item in found]


@pytest.mark.parametrize("fields", [{}, {"idColumn": "key"}, {"columns": {"k": "key"}}])
def test_a_sample_depends_on_seed_and_record_alone(folder: Path, fields: dict[str, Any]) -> None:
    spec = spec_of(folder, sample={"fraction": 0.25}, **fields)
    once = taken(spec)
    assert 0.2 * ROWS < len(once) < 0.3 * ROWS
    assert len(set(once)) == len(once)
    for shards in (3, 40):
        assert taken(spec, shards=shards) == once
    assert taken(spec, seed=2) != once
    everything = taken(spec_of(folder, **fields))
    assert set(once) < set(everything)
    # Another file leaves what was taken as it was.
    (folder / "0a.jsonl").write_text('{"text": "new", "key": "new"}\n')
    assert set(once) <= set(taken(spec))


def test_a_row_that_cannot_be_read_is_sampled_by_its_id_all_the_same(tmp_path: Path) -> None:
    rows = 400
    words = [b"\xff" if n % 4 == 0 else b"fine" for n in range(rows)]
    column = pa.array(words, pa.binary()).view(pa.string())
    keys = [f"k{n}" for n in range(rows)]
    table = pa.table({"text": ["t"] * rows, "key": keys, "word": column})
    pq.write_table(table, tmp_path / "a.parquet")
    spec = spec_of(tmp_path, sample={"fraction": 0.25}, idColumn="key")
    sample = sampling.of(spec, 1)
    assert sample is not None
    lucky = [n for n, key in enumerate(keys) if sample.takes("", 0, {"key": key})]
    by_id = [records.root_id_of_user_id(keys[n]) for n in lucky if n % 4]
    for shards in (1, 2, 30):
        found = taken(spec, shards=shards)
        assert len(found) == len(lucky)
        assert [identifier for identifier in found if identifier in set(by_id)] == by_id


def test_a_whole_sample_is_everything(folder: Path) -> None:
    assert taken(spec_of(folder, sample={"fraction": 1})) == taken(spec_of(folder))


def test_a_record_keeps_its_luck_when_it_moves_if_it_has_an_id(folder: Path) -> None:
    spec = spec_of(folder, sample={"fraction": 0.25}, idColumn="key")
    before = set(taken(spec))
    lines = (folder / "0.jsonl").read_text().split("\n")
    (folder / "0.jsonl").write_text("\n".join(reversed(lines)))
    after = set(taken(spec))
    good = {records.root_id_of_user_id(f"k{n}-{i}") for n in range(ROWS // 4) for i in range(4)}
    assert before & good == after & good


def test_a_limit_counts_what_is_taken(folder: Path) -> None:
    sampled = taken(spec_of(folder, sample={"fraction": 0.25}))
    limited = taken(spec_of(folder, sample={"fraction": 0.25}, limit=170), shards=3)
    assert limited == sampled[:170]
    assert taken(spec_of(folder, limit=ROWS * 10)) == taken(spec_of(folder))
    assert taken(spec_of(folder, limit=700), shards=7) == taken(spec_of(folder))[:700]


def test_a_limit_ends_the_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "PARALLEL_FILES", 2)
    for number in range(100):
        (tmp_path / f"{number:02}.jsonl").write_text('{"text": "x"}\n' * 10)
    spec = spec_of(tmp_path, limit=15)
    origin = Counting(spec)
    seen = survey.survey(origin, origin.find(), spec)
    assert [scanned.file.records for scanned in seen.files] == [10, 10]
    assert len(origin.opened) <= 6
    one = survey.survey(origin, origin.find()[:1], spec_of(tmp_path, limit=3))
    assert one.files[0].file.records == 3


def test_duplicates_are_found_among_what_is_taken(tmp_path: Path) -> None:
    rows = [{"text": "t", "key": n % 100} for n in range(300)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = spec_of(tmp_path, idColumn="key", sample={"fraction": 0.5})
    sample = sampling.of(spec, 3)
    origin = Counting(spec)
    seen = survey.survey(origin, origin.find(), spec, sample)
    kept = seen.files[0].taken
    assert kept % 3 == 0
    assert len(seen.duplicates) == kept * 2 // 3
    (part,) = partition.assign(seen.files, 1, None, seen.duplicates)
    found = list(source.read_partition(part, spec, origin, bytes(100), sample))
    failed = [item for item in found if isinstance(item.record, records.FailedRecord)]
    assert [item.ordinal for item in failed] == list(seen.duplicates)


def test_every_file_is_opened_once_for_everything(folder: Path) -> None:
    spec = spec_of(folder, idColumn="key", columns={"k": "key"}, sample={"fraction": 0.5})
    origin = Counting(spec)
    seen = survey.survey(origin, origin.find(), spec, sampling.of(spec, 1))
    assert seen.column_types == {"k": "string"}
    assert set(origin.opened.values()) == {1}


def test_ten_thousand_small_files_are_one_input(tmp_path: Path) -> None:
    first = tmp_path / "00000.jsonl"
    first.write_bytes(b'{"text": "x"}\n{"text": "y"}\n')
    for number in range(1, 10_000):
        os.link(first, tmp_path / f"{number:05}.jsonl")
    spec = spec_of(tmp_path)
    origin = Counting(spec)
    seen = survey.survey(origin, inputs.find(origin, spec), spec)
    assert set(origin.opened.values()) == {1}
    parts = partition.assign(seen.files, 64, None, seen.duplicates)
    assert sum(part.records for part in parts) == 20_000
    assert max(part.records for part in parts) <= 313


def test_a_stop_ends_the_look(folder: Path) -> None:
    spec = spec_of(folder)
    origin = Counting(spec)
    with pytest.raises(errors.StoppedError):
        survey.survey(origin, origin.find(), spec, None, lambda: True)


def test_a_broken_file_is_named(folder: Path) -> None:
    (folder / "2.parquet").write_bytes(b"no parquet")
    spec = spec_of(folder)
    origin = Counting(spec)
    with pytest.raises(errors.ConfigurationError, match=r"2\.parquet cannot be read") as caught:
        survey.survey(origin, origin.find(), spec)
    assert caught.value.reason is Reason.INPUT_UNREADABLE


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "input.textColumn: no record of .* has a column 'text'; there are id, body"),
        ({"textColumn": "body", "idColumn": "key"}, "input.idColumn: .* column 'key'"),
        ({"textColumn": "body", "columns": {"x": "y"}}, "input.columns.x: .* column 'y'"),
    ],
)
@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_column_that_no_record_has_is_refused_with_those_that_are_there(
    tmp_path: Path, form: str, fields: dict[str, Any], problem: str
) -> None:
    rows = [{"id": number, "body": "hello"} for number in range(3)]
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    else:
        (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    spec = spec_of(tmp_path, **fields)
    origin = Counting(spec)
    with pytest.raises(errors.ConfigurationError, match=problem) as caught:
        survey.survey(origin, origin.find(), spec)
    assert caught.value.reason is Reason.INVALID_SPEC


@pytest.mark.parametrize(
    ("lines", "fields"),
    [
        (['{"id": 1}', '{"id": 2, "text": "x"}'], {"idColumn": "id"}),
        (['{"id": 1}', '{"body": "x"}'], {"textColumn": "text", "columns": {"text": "body"}}),
        (["no JSON", "neither"], {}),  # each says so in errors/
    ],
)
def test_one_record_with_the_columns_is_enough(
    tmp_path: Path, lines: list[str], fields: dict[str, Any]
) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    spec = spec_of(tmp_path, **fields)
    origin = Counting(spec)
    assert survey.survey(origin, origin.find(), spec).files[0].file.records == 2


def test_a_text_file_has_the_column_of_the_text_and_no_id(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    spec = spec_of(tmp_path, textColumn="document")
    origin = Counting(spec)
    assert survey.survey(origin, origin.find(), spec).files[0].file.records == 1
    spec = spec_of(tmp_path, idColumn="id")
    with pytest.raises(errors.ConfigurationError, match=r"input\.idColumn"):
        survey.survey(origin, origin.find(), spec)
