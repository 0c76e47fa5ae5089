"""The columns of the dataset, as an Arrow schema.

id, parent_id, root_id          lineage: this record, the one it was made of, the input record
source                          struct(uri, position, id): where the input record was
<columns>                       the text column, carried input columns, each stage's columns
provenance                      list of struct: the completions that this row is made of

Where a stage asks for log probabilities (`sampling.logprobs`), each completion has them in
`provenance.logprobs`: struct(tokens, logprobs, top), three lists with one entry per token, `top`
that of the most probable tokens at each place.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import msgspec
import pyarrow as pa

from kubesynth_runner import records
from kubesynth_runner.io.plan_file import ColumnType

SCHEMA_VERSION = "1"

RESERVED_COLUMNS = frozenset({"id", "parent_id", "root_id", "source", "provenance"})

_TYPES: Mapping[ColumnType, pa.DataType] = {
    "string": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "json": pa.string(),
}
_SOURCE = pa.struct([("uri", pa.string()), ("position", pa.int64()), ("id", pa.string())])
_PROVENANCE = [
    ("stage", pa.string()),
    ("model", pa.string()),
    ("prompt_hash", pa.string()),
    ("seed", pa.int64()),
    ("prompt_tokens", pa.int64()),
    ("completion_tokens", pa.int64()),
    ("finish_reason", pa.string()),
    ("attempts", pa.int64()),
    ("choice", pa.int64()),
    ("tokens_estimated", pa.bool_()),
]
_TOP_TOKEN = pa.struct([("token", pa.string()), ("logprob", pa.float32())])
_LOGPROBS = pa.struct(
    [
        ("tokens", pa.list_(pa.string())),
        ("logprobs", pa.list_(pa.float32())),
        ("top", pa.list_(pa.list_(_TOP_TOKEN))),
    ]
)


def build(columns: Mapping[str, ColumnType], *, logprobs: bool = False) -> pa.Schema:
    """Return the schema of the dataset with these columns, in this order."""
    fields = [
        pa.field("id", pa.string(), nullable=False),
        pa.field("parent_id", pa.string()),
        pa.field("root_id", pa.string(), nullable=False),
        pa.field("source", _SOURCE),
    ]
    for name, kind in columns.items():
        metadata = {"kubesynth.json": "true"} if kind == "json" else None
        fields.append(pa.field(name, _TYPES[kind], metadata=metadata))
    call = [*_PROVENANCE, ("logprobs", _LOGPROBS)] if logprobs else _PROVENANCE
    fields.append(pa.field("provenance", pa.list_(pa.struct(call))))
    return pa.schema(fields, metadata={"kubesynth.schema_version": SCHEMA_VERSION})


def to_column_value(value: Any, kind: ColumnType) -> Any:
    """Return a value as a column of this type stores it; None stays None.

    Raises:
        ValueError: it cannot be stored.
    """
    if value is None or (kind == "string" and isinstance(value, str)):
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    match kind:
        case "json":
            return _to_json(value)
        case "boolean" if isinstance(value, bool):
            return value
        case "number" if is_number and not _is_beyond(value, sys.float_info.max):
            return float(value)
        # JSON Schema counts 3.0 as an integer, and so do models.
        case "integer" if is_number and -(2**63) <= value < 2**63 and int(value) == value:
            return int(value)
    raise ValueError(f"{value!r:.100} is no {kind}")


def _is_beyond(value: float, limit: float) -> bool:
    return isinstance(value, int) and abs(value) > limit


def _to_json(value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except TypeError as exc:  # Parquet has maps with any keys
        raise ValueError(f"{value!r:.100} cannot be written as JSON: {exc}") from exc


def to_row(
    record: records.Record, columns: Mapping[str, ColumnType], *, logprobs: bool = False
) -> dict[str, Any]:
    """Return the row of a record, without log probabilities that nobody has asked for.

    Raises:
        ValueError: a column's value does not fit its type; the message names the column.
    """
    row: dict[str, Any] = {
        "id": record.record_id,
        "parent_id": record.parent_id,
        "root_id": record.root_id,
        "source": {
            "uri": record.source.uri,
            "position": record.source.position,
            "id": record.source.user_id,
        },
    }
    for name, kind in columns.items():
        try:
            row[name] = to_column_value(record.columns.get(name), kind)
        except ValueError as exc:
            raise ValueError(f"column {name!r}: {exc}") from exc
    row["provenance"] = [_provenance_row(call, logprobs) for call in record.provenance]
    return row


def _provenance_row(call: records.CallProvenance, logprobs: bool) -> dict[str, Any]:
    row = msgspec.structs.asdict(call)
    if call.logprobs is None or not logprobs:
        del row["logprobs"]
    return row


def error_row(failed: records.FailedRecord) -> dict[str, Any]:
    """Return the line of a failed record in errors/."""
    return {
        "id": failed.record_id,
        "parent_id": failed.parent_id,
        "root_id": failed.root_id,
        "source": {
            "uri": failed.source.uri,
            "position": failed.source.position,
            "id": failed.source.user_id,
        },
        "stage": failed.stage,
        "kind": failed.kind,
        "message": failed.message,
        "status_code": failed.status_code,
        "attempts": failed.attempts,
        "raw": failed.raw,
        "columns": failed.columns,
        "path": failed.path,
        "made": failed.made,
        "provenance": [msgspec.structs.asdict(call) for call in failed.provenance],
    }
