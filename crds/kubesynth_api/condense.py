"""Making a schema smaller without changing what it accepts: what is alike is described once.

`kubectl apply` writes the whole object into an annotation, which may hold 256 KiB. Every stage of a
pipeline has prompts and sampling, whose fields would be described dozens of times.
"""

from __future__ import annotations

import json
from typing import Any

Schema = dict[str, Any]

APPLY_MAX_BYTES = 256 * 1024


def condense(schema: Schema) -> Schema:
    """Return a schema whose later objects of equal fields have no descriptions below their own."""
    return _condensed(schema, set())


def _condensed(schema: Schema, seen: set[str]) -> Schema:
    if "properties" in schema:
        content = json.dumps(_bare(schema), sort_keys=True)
        if content in seen:
            return _with_own_description(schema, _bare(schema))
        seen.add(content)
    result = dict(schema)
    if "properties" in schema:
        result["properties"] = {
            name: _condensed(prop, seen) for name, prop in schema["properties"].items()
        }
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), dict):
            result[keyword] = _condensed(schema[keyword], seen)
    return result


def _with_own_description(schema: Schema, bare: Schema) -> Schema:
    own = {"description": schema["description"]} if "description" in schema else {}
    return {**own, **bare}


def _bare(schema: Schema) -> Schema:
    """Return a schema without any descriptions."""
    result = {key: value for key, value in schema.items() if key != "description"}
    if "properties" in schema:
        result["properties"] = {name: _bare(prop) for name, prop in schema["properties"].items()}
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), dict):
            result[keyword] = _bare(schema[keyword])
    return result
