from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kubesynth_api.v1alpha1.storage import InputSpec
from kubesynth_runner import records
from kubesynth_runner.io import inputs, partition, readers, sampling, source, survey
from kubesynth_runner.io.mounts import Mounts
from kubesynth_runner.io.plan_file import InputFile, Partition

FILE = InputFile("file:///docs/a.jsonl", "JSONL", 10, "v", 1)
TEXT = InputFile("file:///docs/a.txt", "Text", 10, "v", 1)


def spec(**fields: Any) -> InputSpec:
    return InputSpec.model_validate({"uri": "file:///docs/*", **fields})


def root(
    columns: dict[str, Any], options: InputSpec | None = None, position: int = 1
) -> records.Record | records.FailedRecord:
    return source.to_root(FILE, readers.GoodRecord(position, columns), options or spec())


def test_id_is_a_hash_of_the_place_and_stays_the_same() -> None:
    record = root({"text": "a"}, position=7)
    assert isinstance(record, records.Record)
    assert record.record_id == records.root_id("file:///docs/a.jsonl", 7)
    assert record.root_id == record.record_id
    assert record.parent_id is None
    assert record.source == records.Source("file:///docs/a.jsonl", 7)


def test_id_column_makes_the_id_wherever_the_record_is() -> None:
    options = spec(idColumn="key")
    here = root({"text": "a", "key": "k1"}, options, position=1)
    there = root({"text": "b", "key": "k1"}, options, position=9)
    assert isinstance(here, records.Record)
    assert isinstance(there, records.Record)
    assert here.record_id == there.record_id
    assert here.source.user_id == "k1"


@pytest.mark.parametrize(
    ("value", "text"),
    [("k", "k"), (7, "7"), (7.5, "7.5"), (True, "true"), ([1], "[1]"), (None, None), ("", None)],
)
def test_user_ids_are_compared_as_texts(value: Any, text: str | None) -> None:
    assert sampling.user_id_text(value) == text


def test_columns_are_mapped_and_the_rest_stays_available() -> None:
    options = spec(textColumn="body", columns={"body": "content", "lang": "language"})
    record = root({"content": "a", "language": "de", "more": 1}, options)
    assert isinstance(record, records.Record)
    assert record.columns == {
        "content": "a",
        "language": "de",
        "more": 1,
        "body": "a",
        "lang": "de",
    }


def test_text_of_a_text_file_goes_into_the_text_column() -> None:
    row = readers.GoodRecord(1, {"text": "whole file"})
    record = source.to_root(TEXT, row, spec(textColumn="body"))
    assert isinstance(record, records.Record)
    assert record.columns == {"body": "whole file"}


@pytest.mark.parametrize(
    ("columns", "options", "problem"),
    [
        pytest.param({}, {}, "column 'text' is missing", id="no-text"),
        pytest.param({"text": None}, {}, "is not a text, or is empty", id="null-text"),
        pytest.param({"text": 7}, {}, "is not a text, or is empty", id="number-for-text"),
        pytest.param({"text": " \n"}, {}, "is not a text, or is empty", id="blank-text"),
        pytest.param({"text": "a"}, {"idColumn": "key"}, "column 'key' is missing", id="no-id"),
        pytest.param(
            {"text": "a", "key": None}, {"idColumn": "key"}, "column 'key' is missing", id="null-id"
        ),
        pytest.param(
            {"text": "a"},
            {"columns": {"lang": "language"}},
            "'language' is missing",
            id="no-column",
        ),
    ],
)
def test_unusable_row_becomes_an_error_with_its_place(
    columns: dict[str, Any], options: dict[str, Any], problem: str
) -> None:
    failed = root(columns, spec(**options), position=3)
    assert isinstance(failed, records.FailedRecord)
    assert problem in failed.message
    assert (failed.kind, failed.stage) == ("BadInput", "input")
    assert failed.source == records.Source(FILE.uri, 3)
    assert failed.record_id == records.root_id(FILE.uri, 3)


def test_unreadable_row_becomes_an_error_with_what_it_holds() -> None:
    failed = source.to_root(FILE, readers.BadRecord(4, "not a JSON object", "{oops"), spec())
    assert isinstance(failed, records.FailedRecord)
    assert (failed.source.position, failed.raw) == (4, "{oops")


def survey_of(options: InputSpec, seed: int | None = None) -> survey.Survey:
    origin = inputs.open_source(options, Mounts())
    return survey.survey(origin, origin.find(), options, sampling.of(options, seed))


def read(
    options: InputSpec, part: Partition, done: bytes, seed: int | None = None
) -> list[source.RootInput]:
    origin = inputs.open_source(options, Mounts())
    sample = sampling.of(options, seed)
    return list(source.read_partition(part, options, origin, done, sample))


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_duplicates_are_later_records_with_an_id_that_was_there(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"key": "x"}, {"key": 7}, {"key": None}, {"key": "y"}])
    write(tmp_path / "b.jsonl", [{"key": "7"}, {"key": None}, {"key": "x"}, {"key": "x"}, {}])
    options = spec(uri=f"file://{tmp_path}/*.jsonl", idColumn="key", textColumn="key")
    assert survey_of(options).duplicates == (4, 6, 7)


def test_no_duplicates_among_none(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [])
    options = spec(uri=f"file://{tmp_path}/*.jsonl", idColumn="key")
    assert survey_of(options).duplicates == ()


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        pytest.param(["a", None, "b"], "string", id="texts"),
        pytest.param([1, None, 2], "integer", id="integers"),
        pytest.param([1, 2.5], "number", id="numbers"),
        pytest.param([True, False], "boolean", id="booleans"),
        pytest.param([True, 1], "json", id="mixed"),
        pytest.param([1, "a"], "json", id="numbers-and-texts"),
        pytest.param([[1], {"a": 1}], "json", id="nested"),
        pytest.param([2**63], "json", id="too-big-for-64-bits"),
        pytest.param([None, None], "string", id="nothing"),
        pytest.param([1] * 3000 + [2.5], "number", id="late-surprise"),
    ],
)
def test_column_type_holds_every_value(tmp_path: Path, values: list[Any], kind: str) -> None:
    write(tmp_path / "a.jsonl", [{"v": value} for value in values])
    options = spec(uri=f"file://{tmp_path}/*.jsonl", textColumn="v", columns={"mine": "v"})
    assert survey_of(options).column_types == {"mine": kind}


def test_column_types_of_parquet_and_jsonl_are_combined(tmp_path: Path) -> None:
    pq.write_table(pa.table({"v": [1, 2]}), tmp_path / "a.parquet")
    write(tmp_path / "b.jsonl", [{"v": 2.5}])
    options = spec(uri=f"file://{tmp_path}", textColumn="v", columns={"mine": "v"})
    assert survey_of(options).column_types == {"mine": "number"}


def test_partition_leaves_out_what_is_done_and_marks_duplicates(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"text": "t", "key": key} for key in "abacad"])
    options = spec(uri=f"file://{tmp_path}/*.jsonl", idColumn="key")
    seen = survey_of(options)
    (part,) = partition.assign(seen.files, 1, None, seen.duplicates)
    found = read(options, part, bytes([0b000010]))
    assert [item.ordinal for item in found] == [0, 2, 3, 4, 5]
    kinds = [
        item.record.kind if isinstance(item.record, records.FailedRecord) else "" for item in found
    ]
    assert kinds == ["", "DuplicateId", "", "DuplicateId", ""]
    failed = found[1].record
    assert isinstance(failed, records.FailedRecord)
    assert "'a'" in failed.message


def test_files_that_are_done_are_not_even_opened(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"text": "1"}, {"text": "2"}])
    write(tmp_path / "b.jsonl", [{"text": "3"}])
    options = spec(uri=f"file://{tmp_path}/*.jsonl")
    (part,) = partition.assign(survey_of(options).files, 1, None, [])
    (tmp_path / "a.jsonl").unlink()
    found = read(options, part, bytes([0b011]))
    assert [item.ordinal for item in found] == [2]


@pytest.mark.parametrize("seed", range(50))
def test_first_record_that_is_not_done_is_found(seed: int) -> None:
    draw = random.Random(seed)
    total = draw.choice([1, 7, 8, 9, 64, 200])
    bits = [draw.random() < draw.choice([0.5, 0.95, 1.0]) for _ in range(total)]
    done = bytearray((total + 7) // 8)
    for ordinal, is_done in enumerate(bits):
        done[ordinal >> 3] |= is_done << (ordinal & 7)
    for first in range(total + 1):
        for end in (first, total, draw.randrange(first, total + 1)):
            expected = next((n for n in range(first, end) if not bits[n]), end)
            assert source.first_not_done(done, first, end) == expected
