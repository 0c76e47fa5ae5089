"""In which form a server is sent a JSON schema. Pure.

Who is asked with `strict` and a schema that is more than its strict mode takes answers 400:

- OpenAI takes objects that close themselves and require all their properties, `anyOf`, references,
  and bounds of numbers and lists, but no `minLength` or `maxLength`, and no `oneOf` or `allOf`.
- Azure OpenAI, models that were fine-tuned there, and several others take no bounds either.

Without `strict`, hosted servers take any schema and do what they can. vLLM, SGLang, TensorRT-LLM
and llama.cpp hold a completion to whatever they are sent; only `strict: false` may mean "do not",
so that it is never sent. Of our own schemas only the embedded model is sent a `minLength`: a
grammar of xgrammar's for a string with a length has no escapes, and a model that comes to a
quotation mark can only end the string.

Sources: OpenAI, "Structured model outputs", supported schemas; Microsoft, "How to use structured
outputs with Azure OpenAI", unsupported type-specific keywords (both 2026); xgrammar issue 800.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

from kubesynth_runner.llm.base import JsonSchemaFormat

BOUNDS = frozenset({"minItems", "maxItems", "minimum", "maximum"})
LENGTHS = frozenset({"minLength"})
_KEYWORDS = frozenset(
    {
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "enum",
        "const",
        "anyOf",
        "$ref",
        "$defs",
        "definitions",
        "title",
        "description",
    }
)
# Keywords whose value is a map of names to schemas.
_MAPS = ("properties", "$defs", "definitions")
# What a schema says its values by; one that says none of it takes anything.
_KINDS = ("type", "anyOf", "$ref")
# The smallest limits of any: Azure's of nesting and properties, OpenAI's first of enumerations.
MOST_LEVELS = 5
MOST_PROPERTIES = 100
MOST_VALUES = 500
MOST_CHARACTERS = 15_000
_NAME_CHARACTERS = 64


def for_server(
    wanted: JsonSchemaFormat, *, bounds: bool, lengths: bool = False
) -> JsonSchemaFormat:
    """Return a format as a server is sent it; `bounds` says that its strict mode takes bounds.

    `lengths` says that texts may have a `minLength`. What a server does not take is left out where
    the prompt tells as much; a schema that cannot do without is sent as it is, without `strict`.
    """
    schema = wanted.schema
    left_out = (frozenset() if bounds else BOUNDS) | (frozenset() if lengths else LENGTHS)
    if left_out and wanted.bounds_are_told:
        schema = without(left_out, schema)
    name = re.sub(r"[^A-Za-z0-9_-]", "_", wanted.name)[:_NAME_CHARACTERS] or "output"
    return dataclasses.replace(
        wanted, name=name, schema=schema, strict=fits_strict_mode(schema, bounds=bounds)
    )


def without(left_out: frozenset[str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema without some of its keywords, in the same order."""
    kept: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword in left_out:
            continue
        if keyword in _MAPS and isinstance(value, Mapping):
            kept[keyword] = {name: _without(left_out, part) for name, part in value.items()}
        elif keyword == "anyOf" and isinstance(value, list | tuple):
            kept[keyword] = [_without(left_out, part) for part in value]
        else:
            kept[keyword] = _without(left_out, value) if keyword == "items" else value
    return kept


def _without(left_out: frozenset[str], part: Any) -> Any:
    return without(left_out, part) if isinstance(part, Mapping) else part


def fits_strict_mode(schema: Mapping[str, Any], *, bounds: bool) -> bool:
    """Tell whether a server's strict mode takes a schema, down to its innermost keyword."""
    if schema.get("type") != "object" or "anyOf" in schema:
        return False
    allowed = _KEYWORDS | BOUNDS if bounds else _KEYWORDS
    properties = values = characters = 0
    for level, part in _walk(schema, 1):
        if level > MOST_LEVELS or not _fits(part, allowed):
            return False
        names = [name for keyword in _MAPS for name in part.get(keyword, ())]
        constants = [*part.get("enum", ()), *([part["const"]] if "const" in part else ())]
        properties += len(part.get("properties", ()))
        values += len(constants)
        characters += sum(len(str(text)) for text in (*names, *constants))
    return properties <= MOST_PROPERTIES and values <= MOST_VALUES and characters <= MOST_CHARACTERS


def _walk(part: Any, level: int) -> Iterator[tuple[int, Any]]:
    """Yield a schema and all schemas in it, with how many objects each is within."""
    yield level, part
    if not isinstance(part, Mapping) or level > MOST_LEVELS:
        return
    for keyword in _MAPS:
        inner = part.get(keyword)
        for value in inner.values() if isinstance(inner, Mapping) else ():
            yield from _walk(value, level + 1)
    if "items" in part:
        yield from _walk(part["items"], level)
    inner = part.get("anyOf")
    for value in inner if isinstance(inner, list | tuple) else ():
        yield from _walk(value, level)


def _fits(part: Any, allowed: frozenset[str]) -> bool:
    """Tell whether a schema fits, whatever the schemas in it."""
    if not isinstance(part, Mapping) or not allowed.issuperset(part):
        return False
    if not any(keyword in part for keyword in _KINDS):
        return False
    if "$ref" in part:
        return len(part) == 1
    if any(not isinstance(part.get(keyword, {}), Mapping) for keyword in _MAPS):
        return False
    if any(not isinstance(part.get(key, []), list | tuple) for key in ("enum", "anyOf")):
        return False
    kinds = part.get("type")
    kinds = kinds if isinstance(kinds, list | tuple) else (kinds,)
    if "array" in kinds and "items" not in part:
        return False
    if "object" not in kinds:
        return "properties" not in part and "additionalProperties" not in part
    required = part.get("required")
    return (
        part.get("additionalProperties") is False
        and isinstance(required, list | tuple)
        and sorted(map(str, required)) == sorted(part.get("properties", ()))
    )
