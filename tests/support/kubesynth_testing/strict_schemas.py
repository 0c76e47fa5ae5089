"""What hosted APIs refuse of a JSON schema that is sent with `strict`. Pure.

Written from what their documents list, not from the runner's own rules, so that the two can differ.
Sources: OpenAI, "Structured model outputs"; Microsoft, "How to use structured outputs with Azure
OpenAI", unsupported type-specific keywords.
"""

from __future__ import annotations

from typing import Any

_ALWAYS_REFUSED = frozenset(
    [
        "allOf",
        "oneOf",
        "not",
        "if",
        "then",
        "else",
        "dependentRequired",
        "dependentSchemas",
        "default",
        "minLength",
        "maxLength",
        "patternProperties",
        "unevaluatedProperties",
        "propertyNames",
        "minProperties",
        "maxProperties",
        "contains",
        "unevaluatedItems",
        "minContains",
        "maxContains",
        "uniqueItems",
        "prefixItems",
        "$schema",
    ]
)
_REFUSED_BY_AZURE = frozenset(
    [
        "pattern",
        "format",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minItems",
        "maxItems",
    ]
)
_REFUSED = {"OpenAI": _ALWAYS_REFUSED, "Azure": _ALWAYS_REFUSED | _REFUSED_BY_AZURE}


def refusal(body: dict[str, Any], api: str) -> str | None:
    """Return why `api` refuses a request's schema, None if it does not: OpenAI, Azure or None.

    "None" is an API that knows no schemas.
    """
    response_format = body.get("response_format") or {}
    if api == "None":
        return "response_format is not supported" if response_format else None
    described = response_format.get("json_schema") or {}
    if not described.get("strict"):
        return None
    problem = _problem(described.get("schema"), (), _REFUSED[api])
    if problem is None and described["schema"].get("type") != "object":
        problem = "context=(), the schema must be of 'type: \"object\"'"
    name = described.get("name")
    return problem and f"Invalid schema for response_format '{name}': In {problem}."


def _problem(schema: Any, where: tuple[str, ...], refused: frozenset[str]) -> str | None:
    if (own := _own_problem(schema, refused)) is not None:
        return f"context={where!r}, {own}"
    inner: list[tuple[tuple[str, ...], Any]] = [
        ((keyword, name), part)
        for keyword in ("properties", "$defs", "definitions")
        for name, part in schema.get(keyword, {}).items()
    ]
    inner += [(("anyOf", str(place)), part) for place, part in enumerate(schema.get("anyOf", ()))]
    if "items" in schema:
        inner.append((("items",), schema["items"]))
    problems = (_problem(part, (*where, *steps), refused) for steps, part in inner)
    return next(filter(None, problems), None)


def _own_problem(schema: Any, refused: frozenset[str]) -> str | None:
    if not isinstance(schema, dict):
        return "a schema must be an object"
    for keyword in schema:
        if keyword in refused:
            return f"'{keyword}' is not permitted"
    if not {"type", "anyOf", "$ref"} & set(schema):
        return "schema must have a 'type' key"
    if schema.get("type") == "array" and "items" not in schema:
        return "array schema has no items"
    if schema.get("type") != "object":
        return None
    if schema.get("additionalProperties") is not False:
        return "'additionalProperties' must be given, and be false"
    if set(schema.get("required", ())) != set(schema.get("properties", {})):
        return "'required' must name every key in properties"
    return None
