from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from kubesynth_runner import records
from kubesynth_runner.io import schema
from kubesynth_runner.io.plan_file import ColumnType

CALL = records.CallProvenance("s", "m", "h", 7, 1, 2, "stop", 1)
RECORD = records.Record(
    "id", "parent", "root", (0,), {"text": "t"}, records.Source("file:///a", 3, "u"), (CALL,)
)


@pytest.mark.parametrize(
    ("value", "kind", "stored"),
    [
        pytest.param("a", "string", "a", id="string"),
        pytest.param("", "string", "", id="empty-string"),
        pytest.param(7, "integer", 7, id="integer"),
        pytest.param(7.0, "integer", 7, id="whole-float-as-integer"),
        pytest.param(-(2**63), "integer", -(2**63), id="smallest-integer"),
        pytest.param(2**63 - 1, "integer", 2**63 - 1, id="greatest-integer"),
        pytest.param(1.5, "number", 1.5, id="number"),
        pytest.param(2**60 + 1, "number", float(2**60 + 1), id="integer-that-no-double-holds"),
        pytest.param(math.inf, "number", math.inf, id="infinity"),
        pytest.param(True, "boolean", True, id="boolean"),
        pytest.param({"a": [1]}, "json", '{"a":[1]}', id="json"),
        pytest.param("text", "json", '"text"', id="string-as-json"),
        pytest.param(10**30, "json", str(10**30), id="big-integer-as-json"),
        pytest.param(Decimal("1.10"), "json", '"1.10"', id="decimal-as-json"),
        pytest.param(
            datetime(2026, 1, 2, tzinfo=UTC), "json", '"2026-01-02T00:00:00Z"', id="time-as-json"
        ),
        pytest.param(b"\x00\x01", "json", '"AAE="', id="bytes-as-json"),
        pytest.param(None, "string", None, id="null"),
        pytest.param(None, "json", None, id="null-json"),
    ],
)
def test_value_that_fits_is_stored(value: Any, kind: ColumnType, stored: Any) -> None:
    row = schema.to_row(_with(value), {"v": kind})
    assert row["v"] == stored
    assert type(row["v"]) is type(stored)
    table = pa.Table.from_pylist([row], schema=schema.build({"v": kind}))
    assert table.to_pylist()[0]["v"] == stored


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        pytest.param(1, "string", id="integer-for-string"),
        pytest.param(["a"], "string", id="list-for-string"),
        pytest.param("1", "integer", id="string-for-integer"),
        pytest.param(1.5, "integer", id="fraction-for-integer"),
        pytest.param(math.inf, "integer", id="infinity-for-integer"),
        pytest.param(math.nan, "integer", id="nan-for-integer"),
        pytest.param(2**63, "integer", id="too-big"),
        pytest.param(True, "integer", id="boolean-for-integer"),
        pytest.param("1", "number", id="string-for-number"),
        pytest.param(False, "number", id="boolean-for-number"),
        pytest.param(10**400, "number", id="beyond-every-double"),
        pytest.param(1, "boolean", id="integer-for-boolean"),
        pytest.param({(1, 2): 3}, "json", id="no-json"),
    ],
)
def test_value_that_does_not_fit_is_named_with_its_column(value: Any, kind: ColumnType) -> None:
    with pytest.raises(ValueError, match=r"column 'v': .* (is no|cannot be written)"):
        schema.to_row(_with(value), {"v": kind})


def _with(value: Any) -> records.Record:
    return records.Record("id", None, "id", (), {"v": value}, records.Source("u", 1))


def test_row_has_lineage_and_provenance_around_its_columns() -> None:
    columns: dict[str, ColumnType] = {"text": "string", "missing": "integer"}
    row = schema.to_row(RECORD, columns)
    table = pa.Table.from_pylist([row], schema=schema.build(columns))
    assert table.column_names == [
        "id",
        "parent_id",
        "root_id",
        "source",
        "text",
        "missing",
        "provenance",
    ]
    assert table.to_pylist() == [
        {
            "id": "id",
            "parent_id": "parent",
            "root_id": "root",
            "source": {"uri": "file:///a", "position": 3, "id": "u"},
            "text": "t",
            "missing": None,
            "provenance": [
                {
                    "stage": "s",
                    "model": "m",
                    "prompt_hash": "h",
                    "seed": 7,
                    "prompt_tokens": 1,
                    "completion_tokens": 2,
                    "finish_reason": "stop",
                    "attempts": 1,
                    "choice": 0,
                    "tokens_estimated": False,
                }
            ],
        }
    ]


def test_log_probabilities_are_lists_by_token_where_they_were_asked_for() -> None:
    logprobs = {
        "tokens": ["So", "."],
        "logprobs": [-0.5, 0.0],
        "top": [[{"token": "So", "logprob": -0.5}], []],
    }
    call = msgspec.structs.replace(RECORD.provenance[0], logprobs=logprobs)
    record = msgspec.structs.replace(RECORD, provenance=(call,))
    # A server may send them unasked, as reward models do.
    assert "logprobs" not in schema.to_row(record, {})["provenance"][0]
    row = schema.to_row(record, {}, logprobs=True)
    table = pa.Table.from_pylist([row], schema=schema.build({}, logprobs=True))
    assert table.to_pylist()[0]["provenance"][0]["logprobs"] == logprobs


def test_reserved_columns_are_those_that_the_schema_adds() -> None:
    assert set(schema.build({}).names) == schema.RESERVED_COLUMNS


def test_json_columns_are_marked_in_the_schema() -> None:
    built = schema.build({"j": "json", "s": "string"})
    assert built.field("j").metadata == {b"kubesynth.json": b"true"}
    assert built.field("s").metadata is None
    assert built.metadata == {b"kubesynth.schema_version": b"1"}


def test_error_row_is_json_whatever_the_record_held() -> None:
    failed = records.FailedRecord(
        "id",
        None,
        "root",
        records.Source("u", 1),
        "stage",
        "Timeout",
        "too late",
        "raw",
        504,
        6,
        {"at": datetime(2026, 1, 2, tzinfo=UTC), "big": 10**30, "b": b"\x00"},
    )
    line = json.loads(msgspec.json.encode(schema.error_row(failed)))
    assert line == {
        "id": "id",
        "parent_id": None,
        "root_id": "root",
        "source": {"uri": "u", "position": 1, "id": None},
        "stage": "stage",
        "kind": "Timeout",
        "message": "too late",
        "status_code": 504,
        "attempts": 6,
        "raw": "raw",
        "columns": {"at": "2026-01-02T00:00:00Z", "big": 10**30, "b": "AA=="},
        "path": [],
        "made": 0,
        "provenance": [],
    }
