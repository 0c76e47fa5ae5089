"""The generator keeps every promise of a structural, bounded, documented schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import Field

from kubesynth_api._base import ApiModel, CelRule
from kubesynth_api.availability import PENDING_FIELDS
from kubesynth_api.crd import root_schema
from kubesynth_api.field_paths import walk
from kubesynth_api.kinds import KINDS
from kubesynth_api.schema import PRESERVE_UNKNOWN, RULES, Schema, SchemaError, structural_schema
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_testing.manifests import FULL

Text = Annotated[str, Field(max_length=10)]


def below(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Yield a schema and every schema in it, with paths."""
    yield path, schema
    for name, prop in schema.get("properties", {}).items():
        yield from below(prop, f"{path}.{name}")
    if "items" in schema:
        yield from below(schema["items"], f"{path}[*]")
    if "additionalProperties" in schema:
        yield from below(schema["additionalProperties"], f"{path}{{}}")


NODES = [
    (path, node)
    for kind in KINDS
    for part in ("spec", "status")
    if part in root_schema(kind)["properties"]
    for path, node in below(root_schema(kind)["properties"][part], part)
]


def test_every_field_is_described() -> None:
    fields = [(path, node) for path, node in NODES if not path.endswith(("[*]", "{}"))]
    assert [path for path, node in fields if not node.get("description", "").endswith(".")] == []


def test_everything_that_can_grow_is_bounded() -> None:
    assert [path for path, node in NODES if not is_bounded(node)] == []


def is_bounded(node: Schema) -> bool:
    match node.get("type"):
        case "string":
            return "maxLength" in node or "enum" in node
        case "array":
            return "maxItems" in node
        case "object":
            return "properties" in node or "maxProperties" in node
        case None:
            return PRESERVE_UNKNOWN in node or "maxLength" in node
        case other:
            return other in ("integer", "number", "boolean")


def test_nothing_is_referenced_or_nullable() -> None:
    unwanted = {"$ref", "nullable", "title", "const", "allOf", "examples"}
    assert [path for path, node in NODES if unwanted & set(node)] == []


def test_few_fields_take_anything() -> None:
    anything = {path.rpartition(".")[2] for path, node in NODES if PRESERVE_UNKNOWN in node}
    security = {"podSecurityContext{}", "securityContext{}"}
    assert anything == {"extraBody{}", "jsonSchema{}", "parameters{}", "affinity{}"} | security


def test_numbers_have_the_format_that_kubernetes_reads() -> None:
    formats = {"integer": "int64", "number": "double"}
    numbers = [(path, node) for path, node in NODES if node.get("type") in formats]
    assert [path for path, node in numbers if node["format"] != formats[node["type"]]] == []


def test_defaults_are_written_out_in_the_spec_and_absent_from_the_status() -> None:
    for path, node in NODES:
        if path.startswith("status"):
            assert "default" not in node, path
        elif "default" in node and "properties" in node:
            below_it = {n: p["default"] for n, p in node["properties"].items() if "default" in p}
            assert node["default"] == below_it != {}, path


def test_every_list_says_how_it_is_merged() -> None:
    lists = [(path, node["x-kubernetes-list-type"]) for path, node in NODES if "items" in node]
    assert {path for path, kind in lists if kind == "map"} == {
        "spec.models",
        "spec.models[*].server.env",
        "spec.runner.env",
        "spec.env",
        "spec.extraPorts",
        "status.conditions",
        "status.failures",
    }
    assert {kind for _, kind in lists} == {"map", "atomic"}


def test_every_rule_has_a_message_and_points_at_a_field() -> None:
    for path, node in NODES:
        for rule in node.get(RULES, []):
            assert rule["message"], path
            found = node
            for name in rule.get("fieldPath", "").split(".")[1:]:
                found = found["properties"][name]


def test_every_rule_about_a_state_is_said_in_python_too() -> None:
    models = {type(value) for _, value in walk(full_spec(), "spec") if isinstance(value, ApiModel)}
    rules = [rule for model in models for rule in model.cel]
    assert len(rules) > 20
    for rule in rules:
        assert ("oldSelf" in rule.rule) == (rule.holds is None), rule.message


def test_fields_that_are_not_available_say_so_and_no_others() -> None:
    fields = [(path, node) for path, node in NODES if path.startswith("spec")]
    said = {path for path, node in fields if "ot available yet" in node.get("description", "")}
    pending = {path for path, _ in fields for field in PENDING_FIELDS if is_meant(field, path)}
    assert said - {"spec.input.uri", "spec.output.uri"} == pending


def is_meant(pending: str, path: str) -> bool:
    return path.endswith(pending[1:]) if pending.startswith("*") else path == pending


def full_spec() -> SyntheticDataJobSpec:
    return SyntheticDataJobSpec.model_validate(FULL["spec"])


class Undescribed(ApiModel):
    value: int = 1


class UnboundedText(ApiModel):
    value: str = Field(description="Text.")


class UnboundedList(ApiModel):
    value: tuple[Text, ...] = Field(description="Texts.")


class UnboundedMap(ApiModel):
    value: dict[Text, Text] = Field(description="Texts.")


class UnboundedBelow(ApiModel):
    value: Annotated[tuple[UnboundedText, ...], Field(max_length=3)] = Field(description="Texts.")


class Alternatives(ApiModel):
    value: Text | int = Field(description="Either.")


class Inner(ApiModel):
    count: int = Field(default=1, ge=1, description="A count.")


class OtherDefault(ApiModel):
    inner: Inner = Field(default=Inner(count=2), description="Not the default of its fields.")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Undescribed, "Undescribed.value has no description"),
        (UnboundedText, r"UnboundedText.value \(string\) has no maximum"),
        (UnboundedList, r"UnboundedList.value \(array\) has no maximum"),
        (UnboundedMap, r"UnboundedMap.value \(object\) has no maximum"),
        (UnboundedBelow, r"UnboundedBelow.value\[\].value \(string\) has no maximum"),
        (Alternatives, "Alternatives.value has the type None"),
        (OtherDefault, "the default of a Inner must be that of its fields"),
    ],
)
def test_model_without_a_structural_schema_is_refused(model: type[ApiModel], words: str) -> None:
    with pytest.raises(SchemaError, match=words):
        structural_schema(model)


class Sample(ApiModel):
    """A sample."""

    cel: ClassVar[tuple[CelRule, ...]] = (
        CelRule("self.share > 0.5", "too small", ".share", lambda model: model.share > 0.5),
    )

    share: float = Field(gt=0, le=1, description="A share.")
    mode: Literal["A", "B"] = Field(default="A", description="A mode.")
    names: Annotated[
        dict[Annotated[str, Field(max_length=3, pattern="^[a-z]+$")], Text], Field(max_length=2)
    ] = Field(default_factory=dict, description="Names.")
    inner: Inner | None = Field(default=None, description="Optional.")
    anything: Annotated[dict[str, Any], Field(max_length=4)] | None = Field(
        default=None, description="Anything."
    )


def test_schema_of_a_model() -> None:
    assert structural_schema(Sample) == {
        "description": "A sample.",
        "type": "object",
        "required": ["share"],
        "properties": {
            "share": {
                "description": "A share.",
                "type": "number",
                "format": "double",
                "minimum": 0,
                "exclusiveMinimum": True,
                "maximum": 1,
            },
            "mode": {
                "description": 'A mode. Default: "A".',
                "type": "string",
                "enum": ["A", "B"],
                "default": "A",
            },
            "names": {
                "description": "Names.",
                "type": "object",
                "maxProperties": 2,
                "additionalProperties": {"type": "string", "maxLength": 10},
                RULES: [
                    {
                        "rule": "self.all(k, k.size() <= 3 && k.matches(r'^[a-z]+$'))",
                        "message": "keys must match ^[a-z]+$, with at most 3 characters",
                    }
                ],
            },
            "inner": {
                "description": "Optional.",
                "type": "object",
                "properties": {
                    "count": {
                        "description": "A count. Default: 1.",
                        "type": "integer",
                        "format": "int64",
                        "default": 1,
                        "minimum": 1,
                    }
                },
            },
            "anything": {
                "description": "Anything.",
                "type": "object",
                "maxProperties": 4,
                "additionalProperties": {PRESERVE_UNKNOWN: True},
            },
        },
        RULES: [{"rule": "self.share > 0.5", "message": "too small", "fieldPath": ".share"}],
    }


_YAML_1_1_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


def test_no_field_has_a_name_that_yaml_takes_for_something_else() -> None:
    """`kubectl` reads YAML 1.1, to which a bare n, y, on or off is a boolean."""
    names = {path.rpartition(".")[2].rstrip("[]{}") for path, _ in NODES}
    assert {name for name in names if name.lower() in _YAML_1_1_WORDS} == set()
