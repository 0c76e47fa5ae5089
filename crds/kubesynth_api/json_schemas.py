"""Whether a JSON schema of a user can be held against completions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kubesynth_api._base import is_column_name

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def problems(schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the schema of an object whose properties become columns."""
    import jsonschema  # only jobs with a schema wait for it

    if schema.get("$schema", DIALECT).rstrip("#") != DIALECT:
        yield f"$schema must be {DIALECT} or absent"
        return
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as exc:
        where = "".join(f"[{part!r}]" for part in exc.absolute_path) or "the top"
        yield f"not a JSON Schema (draft 2020-12): at {where}: {exc.message:.200}"
        return
    except RecursionError:
        yield "nested too deeply"
        return
    if schema.get("type") != "object":
        yield "its type must be object"
    properties = schema.get("properties")
    if not properties:
        yield "it must have properties: they become columns"
        return
    for name in properties:
        if not is_column_name(name):
            yield (
                f"the property {name!r} cannot be a column: letters, digits and _, at most 63 "
                "characters, no digit first"
            )
    yield from _broken_references(schema, schema)


def _broken_references(node: object, root: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(node, Mapping):
        for keyword in ("$ref", "$dynamicRef"):
            reference = node.get(keyword)
            if not isinstance(reference, str):
                continue
            if not reference.startswith("#"):
                yield f"{keyword} {reference!r}: only references into the schema itself (#/...)"
            elif reference.startswith("#/") and not _resolves(reference, root):
                yield f"{keyword} {reference!r} points nowhere"
        for child in node.values():
            yield from _broken_references(child, root)
    elif isinstance(node, list):
        for child in node:
            yield from _broken_references(child, root)


def _resolves(pointer: str, root: Mapping[str, Any]) -> bool:
    """Tell whether a JSON pointer (RFC 6901) into the schema finds something."""
    node: object = root
    for part in pointer[2:].split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, Mapping) and key in node:
            node = node[key]
        elif isinstance(node, list) and key.isdigit() and int(key) < len(node):
            node = node[int(key)]
        else:
            return False
    return True
