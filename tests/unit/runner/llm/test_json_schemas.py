from __future__ import annotations

import copy
from typing import Any

import jsonschema
import pytest

from kubesynth_api.v1alpha1.stages.judgement import DEFAULT_CRITERIA
from kubesynth_runner.llm import json_schemas, probing
from kubesynth_runner.llm.base import JsonSchemaFormat
from kubesynth_runner.pipelines import labels, multilingual_qa, scoring
from kubesynth_runner.pipelines.structured import ListRequest
from kubesynth_testing import strict_schemas

OURS = {
    "list": ListRequest("questions", 5).response_format(),
    "list-of-any-length": ListRequest("items", None).response_format(),
    "label": labels.response_format(["a", "b"]),
    "score": JsonSchemaFormat("output", scoring.schema(DEFAULT_CRITERIA), bounds_are_told=True),
    "pair": JsonSchemaFormat("output", multilingual_qa.SENT, bounds_are_told=True),
}


def closed(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def refused(sent: JsonSchemaFormat, api: str) -> str | None:
    described = {"name": sent.name, "schema": sent.schema, "strict": sent.strict}
    return strict_schemas.refusal({"response_format": {"json_schema": described}}, api)


@pytest.mark.parametrize("name", list(OURS))
def test_our_own_schemas_are_strict_everywhere(name: str) -> None:
    with_bounds = json_schemas.for_server(OURS[name], bounds=True)
    assert with_bounds.strict
    assert with_bounds.schema == json_schemas.without(json_schemas.LENGTHS, OURS[name].schema)
    assert refused(with_bounds, "OpenAI") is None
    without = json_schemas.for_server(OURS[name], bounds=False)
    assert without.strict
    assert refused(without, "Azure") is None


@pytest.mark.parametrize("name", list(OURS))
def test_texts_have_lengths_only_where_grammars_for_them_are_good(name: str) -> None:
    assert "Length" not in str(json_schemas.for_server(OURS[name], bounds=True).schema)
    sent = json_schemas.for_server(OURS[name], bounds=True, lengths=True)
    assert sent.schema == OURS[name].schema


def test_without_bounds_nothing_else_is_missing() -> None:
    schema = closed(
        minimum={"type": "integer", "minimum": 1, "maximum": 2},
        b={"type": "array", "items": closed(maxItems={"type": "string"}), "minItems": 1},
        c={"anyOf": [{"type": "integer", "minimum": 3}, {"type": "null"}]},
    )
    before = copy.deepcopy(schema)
    assert json_schemas.without(json_schemas.BOUNDS, schema) == closed(
        minimum={"type": "integer"},
        b={"type": "array", "items": closed(maxItems={"type": "string"})},
        c={"anyOf": [{"type": "integer"}, {"type": "null"}]},
    )
    assert schema == before
    answer = {"minimum": 7, "b": [], "c": 0}
    jsonschema.validate(answer, json_schemas.without(json_schemas.BOUNDS, schema))


def test_bounds_that_only_the_schema_tells_are_sent_without_strict() -> None:
    schema = closed(age={"type": "integer", "minimum": 0})
    wanted = JsonSchemaFormat("output", schema)
    assert json_schemas.for_server(wanted, bounds=True).strict
    sent = json_schemas.for_server(wanted, bounds=False)
    assert (sent.schema, sent.strict) == (schema, False)


def test_name_is_one_that_hosted_servers_take() -> None:
    assert (
        json_schemas.for_server(JsonSchemaFormat("facts, \u00e0", {}), bounds=True).name
        == "facts___"
    )
    assert len(json_schemas.for_server(JsonSchemaFormat("n" * 90, {}), bounds=True).name) == 64


STRING = {"type": "string"}
FITTING: dict[str, dict[str, Any]] = {
    "closed": closed(a=STRING),
    "empty": closed(),
    "described": {**closed(a={**STRING, "description": "d", "title": "t"}), "title": "T"},
    "keywords-as-names": closed(minLength=STRING, oneOf=STRING, pattern=STRING),
    "nullable": closed(a={"type": ["string", "null"]}),
    "nested": closed(a={"type": "array", "items": closed(b={"type": "array", "items": STRING})}),
    "choice": closed(a={"anyOf": [STRING, closed(b=STRING)]}),
    "reference": {**closed(a={"$ref": "#/$defs/b"}), "$defs": {"b": closed(c=STRING)}},
    "enumeration": closed(a={"type": "string", "enum": ["x", "y"]}),
    "bounds": closed(
        a={"type": "array", "items": {"type": "integer", "minimum": 1}, "maxItems": 2}
    ),
}
OTHERS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "scalar": STRING,
    "list": {"type": "array", "items": STRING},
    "choice-of-objects": {"anyOf": [closed(a=STRING)]},
    "open": {"type": "object", "properties": {"a": STRING}, "required": ["a"]},
    "optional-property": {**closed(a=STRING, b=STRING), "required": ["a"]},
    "optional-property-within": closed(
        a={"type": "array", "items": {**closed(b=STRING), "required": []}}
    ),
    "open-in-a-choice": closed(a={"anyOf": [STRING, {"type": "object"}]}),
    "open-nullable": closed(a={"type": ["object", "null"], "properties": {"b": STRING}}),
    "open-definition": {**closed(a={"$ref": "#/$defs/b"}), "$defs": {"b": {"type": "object"}}},
    "anything": closed(a={}),
    "true": closed(a=True),
    "length": closed(a={"type": "string", "minLength": 1}),
    "length-within": closed(a={"type": "array", "items": {"type": "string", "maxLength": 9}}),
    "pattern": closed(a={"type": "string", "pattern": "x"}),
    "one-of": closed(a={"oneOf": [STRING]}),
    "all-of": closed(a={"allOf": [STRING]}),
    "default": closed(a={"type": "string", "default": ""}),
    "unique": closed(a={"type": "array", "items": STRING, "uniqueItems": True}),
    "no-items": closed(a={"type": "array"}),
    "reference-with-more": closed(a={"$ref": "#/$defs/b", "description": "d"}),
    "dialect": {**closed(a=STRING), "$schema": "https://json-schema.org/draft/2020-12/schema"},
    "deep": closed(a=closed(b=closed(c=closed(d=closed(e=closed(f=STRING)))))),
    "wide": closed(**{f"p{number}": STRING for number in range(101)}),
    "many-values": closed(a={"type": "string", "enum": [str(number) for number in range(501)]}),
    "long-values": closed(a={"type": "string", "enum": ["x" * 15_001]}),
}


@pytest.mark.parametrize("name", list(FITTING))
def test_strict_is_asked_for_what_fits(name: str) -> None:
    sent = json_schemas.for_server(JsonSchemaFormat("f", FITTING[name]), bounds=True)
    assert sent.strict
    assert refused(sent, "OpenAI") is None


@pytest.mark.parametrize("name", list(OTHERS))
def test_strict_is_left_out_for_what_does_not(name: str) -> None:
    assert not json_schemas.for_server(JsonSchemaFormat("f", OTHERS[name]), bounds=True).strict


def test_a_probe_asks_for_what_our_own_schemas_need() -> None:
    full = probing.probe_request(constrained=True).response_format
    plain = probing.probe_request(constrained=True, bounds=False).response_format
    assert full is not None
    assert plain is not None
    assert full.strict
    assert plain.strict
    assert refused(full, "OpenAI") is None
    assert refused(plain, "Azure") is None
    assert "is not permitted" in (refused(full, "Azure") or "")
