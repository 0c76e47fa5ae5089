"""Models to structural OpenAPI v3 schemas, as a CustomResourceDefinition wants them.

pydantic's own JSON Schema generator does the walking. What differs is decided here: nothing is
referenced ($ref) or alternative (anyOf), optional means not required, defaults are those that the
API server can apply on its own, and everything that can grow has a bound, because the cost of the
CEL rules is estimated from the bounds.

Source of the rules: the Kubernetes documentation, "Extend the Kubernetes API with
CustomResourceDefinitions", sections on structural schemas, defaulting and validation rules.
"""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from kubesynth_api._base import ApiModel

Schema = dict[str, Any]

RULES = "x-kubernetes-validations"
PRESERVE_UNKNOWN = "x-kubernetes-preserve-unknown-fields"
LIST_TYPE = "x-kubernetes-list-type"
INT_OR_STRING = "x-kubernetes-int-or-string"
# A map's keys and values between generator and converter; the keys' constraints become a CEL rule.
_KEYS = "keys"
_VALUES = "values"

# Order of keywords in the output. A keyword that is not here is an error: either it has no place
# in a structural schema or somebody has to decide what it means.
_KEYWORDS = (
    "description",
    "type",
    "format",
    "enum",
    "default",
    "minimum",
    "exclusiveMinimum",
    "maximum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    LIST_TYPE,
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
    INT_OR_STRING,
    "required",
    "properties",
    "items",
    "additionalProperties",
    "anyOf",
    "oneOf",
    RULES,
)
_DROPPED = ("title", "examples", "additionalProperties")


class SchemaError(ValueError):
    """A model has no structural schema; the message names the field."""


def structural_schema(model: type[ApiModel], *, defaults: bool = True) -> Schema:
    """Return the schema of `model`, without references.

    Args:
        model: The model.
        defaults: Keep defaults. A status has none: what is not there was not observed.

    Raises:
        SchemaError: something is unbounded, undescribed, or cannot be expressed.
    """
    raw = model.model_json_schema(by_alias=True, schema_generator=_Generator)
    return _Converter(raw.pop("$defs", {}), defaults).convert(raw, model.__name__)


def validations(model: type[ApiModel]) -> list[Schema]:
    """Return the CEL rules of `model` as the API server wants them."""
    return [
        {
            name: text
            for name, text in (
                ("rule", rule.rule),
                ("message", rule.message),
                ("fieldPath", rule.field_path),
            )
            if text is not None
        }
        for rule in model.cel
    ]


class _Generator(GenerateJsonSchema):
    """pydantic's generator, with what it would leave out or spell differently."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        json_schema = super().model_schema(schema)
        model = schema["cls"]
        if issubclass(model, ApiModel) and model.cel:
            json_schema[RULES] = validations(model)
        return json_schema

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        keys = self.generate_inner(schema["keys_schema"]) if "keys_schema" in schema else {}
        json_schema: Schema = {"type": "object", _KEYS: keys}
        values = schema.get("values_schema", core_schema.any_schema())
        # A map of anything rather than an object of anything: CEL takes two objects that differ
        # only in the names of unknown fields for equal.
        json_schema[_VALUES] = (
            {PRESERVE_UNKNOWN: True} if values["type"] == "any" else self.generate_inner(values)
        )
        self.update_with_validations(json_schema, schema, self.ValidationsMapping.object)
        return json_schema

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        json_schema = self.generate_inner(schema["schema"])
        factory = schema.get("default_factory")
        value: object = schema.get("default")
        if factory is not None:
            value = factory()  # type: ignore[call-arg]
        if value is None or value in ((), {}, ""):
            return json_schema
        if isinstance(value, ApiModel):
            if value != type(value)():
                raise SchemaError(
                    f"the default of a {type(value).__name__} must be that of its fields"
                )
            value = {}
        return {**json_schema, "default": list(value) if isinstance(value, tuple) else value}


class _Converter:
    """Turns what the generator made into a structural schema, from the root down."""

    def __init__(self, definitions: dict[str, Schema], defaults: bool) -> None:
        self._definitions = definitions
        self._defaults = defaults

    def convert(self, raw: Schema, path: str) -> Schema:
        """Return the structural form of `raw`, which is found at `path`."""
        schema = self._resolve(raw)
        _respell(schema)
        match schema.get("type"):
            case "object" if "properties" in schema:
                self._convert_object(schema, path)
            case "object":
                self._convert_map(schema, path)
            case "array":
                schema["items"] = self.convert(schema["items"], f"{path}[]")
                schema.setdefault(LIST_TYPE, "atomic")
        if not self._defaults:
            schema.pop("default", None)
        elif "default" in schema and "properties" not in schema and "description" in schema:
            # kubectl explain shows no default on its own.
            schema["description"] += f" Default: {json.dumps(schema['default'])}."
        _check(schema, path)
        return {keyword: schema[keyword] for keyword in _KEYWORDS if keyword in schema}

    def _resolve(self, raw: Schema) -> Schema:
        schema = dict(raw)
        while "$ref" in schema:
            # The field's own keywords (description, default) win over the model's.
            definition = self._definitions[schema.pop("$ref").rpartition("/")[2]]
            schema = {**definition, **schema}
        return schema

    def _convert_object(self, schema: Schema, path: str) -> None:
        properties = {
            name: self._convert_property(prop, f"{path}.{name}")
            for name, prop in schema["properties"].items()
        }
        schema["properties"] = properties
        if "default" in schema:
            # Written out, because the rules of the object are tried on it as it stands.
            schema["default"] = {
                name: prop["default"] for name, prop in properties.items() if "default" in prop
            }
        if not schema.get("default", True):
            del schema["default"]

    def _convert_property(self, raw: Schema, path: str) -> Schema:
        schema = self.convert(raw, path)
        if "description" not in schema:
            raise SchemaError(f"{path} has no description")
        return schema

    def _convert_map(self, schema: Schema, path: str) -> None:
        keys = self._resolve(schema.pop(_KEYS, {}))
        values = schema.pop(_VALUES)
        schema["additionalProperties"] = (
            values if PRESERVE_UNKNOWN in values else self.convert(values, f"{path}[]")
        )
        conditions = []
        if "maxLength" in keys:
            conditions.append(f"k.size() <= {keys['maxLength']}")
        if "pattern" in keys:
            conditions.append(f"k.matches(r'{keys['pattern']}')")
        if conditions:
            text = (
                f"keys must match {keys['pattern']}" if "pattern" in keys else "keys must be short"
            )
            if "maxLength" in keys:
                text += f", with at most {keys['maxLength']} characters"
            rule = {"rule": f"self.all(k, {' && '.join(conditions)})", "message": text}
            schema[RULES] = [*schema.get(RULES, []), rule]


def _respell(schema: Schema) -> None:
    """Turn keywords of JSON Schema into those of OpenAPI v3.0, and drop what has no place."""
    for keyword in _DROPPED:
        schema.pop(keyword, None)
    if "description" in schema:  # a docstring is broken into lines
        schema["description"] = re.sub(r"(?<!\n)\n(?!\n)", " ", schema["description"])
    if "const" in schema:
        schema["enum"] = [schema.pop("const")]
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if exclusive in schema:  # a number in JSON Schema, a flag in OpenAPI
            schema[bound], schema[exclusive] = schema[exclusive], True
    number_format = {"integer": "int64", "number": "double"}.get(schema.get("type", ""))
    if number_format is not None:
        schema["format"] = number_format


def _check(schema: Schema, path: str) -> None:
    """Refuse what the API server would refuse, and what has no bound."""
    unknown = set(schema) - set(_KEYWORDS)
    if unknown:
        raise SchemaError(f"{path} uses {', '.join(sorted(unknown))}")
    match schema.get("type"):
        case "string":
            bounded = "maxLength" in schema or "enum" in schema
        case "array":
            bounded = "maxItems" in schema
        case "object":
            bounded = "properties" in schema or "maxProperties" in schema
        case "integer" | "number" | "boolean":
            bounded = True
        case None if schema.get(INT_OR_STRING):
            bounded = "maxLength" in schema
        case other:
            raise SchemaError(f"{path} has the type {other!r}")
    if not bounded:
        raise SchemaError(f"{path} ({schema.get('type')}) has no maximum")
