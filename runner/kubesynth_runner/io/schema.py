"""The columns of the dataset, as an Arrow schema.

id, parent_id, root_id          lineage: this record, the one it was made of, the input record
source                          struct(uri, position, id): where the input record was
<columns>                       the text column, carried input columns, each stage's columns
provenance                      list of struct: the completions that this row is made of
"""

from __future__ import annotations

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
_PROVENANCE = pa.list_(
    pa.struct(
        [
            ("stage", pa.string()),
            ("model", pa.string()),
            ("prompt_hash", pa.string()),
            ("seed", pa.int64()),
            ("prompt_tokens", pa.int64()),
            ("completion_tokens", pa.int64()),
            ("finish_reason", pa.string()),
            ("attempts", pa.int64()),
        ]
    )
)


def build(columns: Mapping[str, ColumnType]) -> pa.Schema:
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
    fields.append(pa.field("provenance", _PROVENANCE))
    return pa.schema(fields, metadata={"kubesynth.schema_version": SCHEMA_VERSION})


def misfit(value: Any, kind: ColumnType) -> bool:
    """Return whether a value cannot be stored in a column of this type."""
    match kind:
        case "json":
            return False
        case "string":
            return not isinstance(value, str)
        case "boolean":
            return not isinstance(value, bool)
        case "integer":
            return isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**63
        case "number":
            return isinstance(value, bool) or not isinstance(value, int | float)


def to_row(record: records.Record, columns: Mapping[str, ColumnType]) -> dict[str, Any]:
    """Return the row of a record.

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
        value = record.columns.get(name)
        if value is not None and misfit(value, kind):
            raise ValueError(f"column {name!r} holds {value!r:.100}, which is no {kind}")
        if kind == "json" and value is not None:
            value = msgspec.json.encode(value).decode()
        row[name] = value
    row["provenance"] = [msgspec.structs.asdict(call) for call in record.provenance]
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
    }
