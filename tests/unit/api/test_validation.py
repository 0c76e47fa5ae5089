"""What `kubesynth_api.validation` finds."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest

from kubesynth_api import validation
from kubesynth_api.conditions import Reason
from kubesynth_api.findings import Finding
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_testing.manifests import REMOVE, SMALL, Manifest, edited

_SERVER = {"classRef": {"name": "vllm"}, "model": "m"}
_QA = "spec.pipeline[0].closedQA"
_USER = f"{_QA}.prompts.user.inline"
_ANSWER = "spec.pipeline[1].answer"
_LONG_TEXT = "x" * 16384
_PROMPTS = {
    "system": {"inline": _LONG_TEXT},
    "user": {"inline": "{{ document }}" + _LONG_TEXT[14:]},
}


def findings(
    manifest: Manifest, config_maps: Mapping[str, Mapping[str, str]] | None = None
) -> list[Finding]:
    spec = SyntheticDataJobSpec.model_validate(manifest["spec"])
    return validation.check(spec, manifest["metadata"]["name"], config_maps)


def stage(**members: Any) -> dict[str, Any]:
    """Return edits that make the pipeline this one stage."""
    return {"spec.pipeline": [members]}


def custom(user: str = "hi", **prompt: Any) -> dict[str, Any]:
    return stage(prompt={"user": {"inline": user}, **prompt})


def json_output(schema: dict[str, Any]) -> dict[str, Any]:
    return custom(output={"type": "JSON", "jsonSchema": schema})


def columns(**mapping: str) -> dict[str, Any]:
    return {"spec.input.columns": mapping}


_SCHEMA = {"type": "object", "properties": {"title": {"type": "string"}}}
_SCHEMA_PATH = "spec.pipeline[0].prompt.output.jsonSchema"
_INLINE = "spec.pipeline[0].prompt.user.inline"

INVALID: list[tuple[str, dict[str, Any], str, str]] = [
    # options of stores, where there is no store
    (
        "storage-of-a-claim",
        {"spec.output.storage": {"region": "r"}},
        "spec.output.storage",
        "pvc has no such options",
    ),
    (
        "storage-of-a-config-map",
        {"spec.input.uri": "configmap://a/b.jsonl", "spec.input.storage": {"region": "r"}},
        "spec.input.storage",
        "configmap has no such options",
    ),
    # names
    ("job-name", {"metadata.name": "Job"}, "metadata.name", "at most 40 characters"),
    ("job-name-absent", {"metadata.name": ""}, "metadata.name", "at most 40 characters"),
    (
        "server-name",
        {
            "metadata.name": "a" * 36,
            "spec.models[0]": {"name": "r" * 14, "server": _SERVER},
        },
        "spec.models[0].name",
        "longer than 50 characters",
    ),
    (
        "role-twice",
        {"spec.models[1]": {"name": "generator", "embedded": {}}},
        "spec.models",
        "the name 'generator' occurs 2 times",
    ),
    (
        "variable-twice",
        {"spec.runner": {"env": [{"name": "A"}, {"name": "A"}]}},
        "spec.runner.env",
        "the name 'A' occurs 2 times",
    ),
    (
        "embedded-models-differ",
        {"spec.models": [{"name": n, "embedded": {"slots": s}} for n, s in (("a", 2), ("b", 3))]},
        "spec.models[1].embedded",
        "must equal spec.models[0].embedded",
    ),
    # stages
    ("unknown-role", {f"{_QA}.model": "judge"}, f"{_QA}.model", "spec.models has generator"),
    (
        "stage-id-twice",
        {"spec.pipeline[0].id": "a", "spec.pipeline[1].id": "a"},
        "spec.pipeline[1].id",
        "already the id of stage 0",
    ),
    (
        "stage-id-of-an-unnamed-stage",
        {"spec.pipeline[0].id": "answer-1"},
        "spec.pipeline[1].id",
        "'answer-1' is already the id of stage 0",
    ),
    # columns
    (
        "no-question-in-listed-columns",
        {"spec.pipeline[0]": REMOVE, **columns(title="title")},
        "spec.pipeline[0].answer.questionColumn",
        "no column 'question' at this stage, only text, title",
    ),
    (
        "no-question-in-text-files",
        {"spec.pipeline[0]": REMOVE, "spec.input.uri": "pvc://corpus/*.TXT"},
        "spec.pipeline[0].answer.questionColumn",
        "only text",
    ),
    (
        "question-under-another-name",
        {f"{_ANSWER}.questionColumn": "query", **columns(title="title")},
        f"{_ANSWER}.questionColumn",
        "only question, text, title",
    ),
    (
        "id-of-text-files",
        {"spec.input.format": "Text", "spec.input.idColumn": "key"},
        "spec.input.idColumn",
        "text files have no columns",
    ),
    (
        "column-of-text-files",
        {"spec.input.format": "Text", **columns(title="headline")},
        "spec.input.columns.title",
        "no column 'headline'",
    ),
    ("reserved-text-column", {"spec.input.textColumn": "id"}, "spec.input.textColumn", "own"),
    ("reserved-column", columns(source="s"), "spec.input.columns.source", "kubesynth's own"),
    (
        "reserved-answer-column",
        {f"{_ANSWER}.answerColumn": "provenance"},
        f"{_ANSWER}.answerColumn",
        "kubesynth's own",
    ),
    (
        "reserved-output-column",
        custom(output={"column": "parent_id"}),
        "spec.pipeline[0].prompt.output.column",
        "kubesynth's own",
    ),
    (
        "reserved-property",
        json_output({"type": "object", "properties": {"root_id": {}}}),
        f"{_SCHEMA_PATH}.properties.root_id",
        "kubesynth's own",
    ),
    # templates
    ("template-syntax", custom("{% if %}"), _INLINE, "not a Jinja2 template: line 1"),
    ("template-second-line", custom("a\n{{ b"), _INLINE, "line 2"),
    ("template-filter", custom("{{ text | shout }}"), _INLINE, "no filter is named 'shout'"),
    ("template-test", custom("{{ text is loud }}"), _INLINE, "no test is named 'loud'"),
    ("template-include", custom("{% include 'x' %}"), _INLINE, "cannot include"),
    ("template-too-deep", custom("{{ " + "(" * 3000), _INLINE, "nested too deeply"),
    (
        "template-of-the-system-prompt",
        custom(system={"inline": "{{"}),
        "spec.pipeline[0].prompt.system.inline",
        "not a Jinja2 template",
    ),
    (
        "unknown-variable",
        {**custom("{{ titel }}"), **columns(title="title")},
        _INLINE,
        "unknown variable 'titel'; here are text, title",
    ),
    (
        "variable-of-a-later-stage",
        {
            **columns(title="t"),
            f"{_QA}.prompts": {"user": {"inline": "{{ document }}{{ answer }}"}},
        },
        _USER,
        "unknown variable 'answer'; here are document, questions, text, title",
    ),
    (
        "variable-of-another-stage",
        {**columns(title="t"), **custom("{{ document }}")},
        _INLINE,
        "unknown variable 'document'",
    ),
    (
        "document-not-used",
        {f"{_QA}.prompts": {"user": {"inline": "Ask {{ questions }}."}}},
        f"{_QA}.prompts.user",
        "must use {{ document }}",
    ),
    (
        "question-not-used",
        {f"{_ANSWER}.prompts": {"user": {"inline": "Answer: {{ document }}"}}},
        f"{_ANSWER}.prompts.user",
        "must use {{ question }}",
    ),
    # JSON schemas
    ("schema-type", json_output({"type": "array"}), _SCHEMA_PATH, "type must be object"),
    ("schema-without-properties", json_output({"type": "object"}), _SCHEMA_PATH, "have properties"),
    (
        "schema-malformed",
        json_output({**_SCHEMA, "required": "title"}),
        _SCHEMA_PATH,
        "at ['required']",
    ),
    (
        "schema-malformed-below",
        json_output({"type": "object", "properties": {"a": {"type": "text"}}}),
        _SCHEMA_PATH,
        "at ['properties']['a']['type']",
    ),
    (
        "schema-of-an-old-draft",
        json_output({**_SCHEMA, "$schema": "http://json-schema.org/draft-07/schema#"}),
        _SCHEMA_PATH,
        "$schema must be",
    ),
    (
        "schema-property-name",
        json_output({"type": "object", "properties": {"a b": {}}}),
        _SCHEMA_PATH,
        "'a b' cannot be a column",
    ),
    (
        "schema-reference-elsewhere",
        json_output({**_SCHEMA, "items": {"$ref": "https://example.com/s"}}),
        _SCHEMA_PATH,
        "only references into the schema itself",
    ),
    (
        "schema-reference-to-nothing",
        json_output({**_SCHEMA, "allOf": [{"$ref": "#/$defs/a"}]}),
        _SCHEMA_PATH,
        "points nowhere",
    ),
    ("schema-absent", custom(output={"type": "JSON"}), _SCHEMA_PATH, "is required"),
    (
        "schema-of-a-text",
        custom(output={"jsonSchema": _SCHEMA}),
        "spec.pipeline[0].prompt.output.type",
        "must be JSON",
    ),
    # places
    (
        "output-around-input",
        {"spec.input.uri": "pvc://c/a/docs/*.jsonl", "spec.output.uri": "pvc://c/a/"},
        "spec.output.uri",
        "must not hold the input",
    ),
    (
        "output-is-input",
        {"spec.input.uri": "file:///data/a", "spec.output.uri": "/data/a"},
        "spec.output.uri",
        "must not hold the input",
    ),
    (
        "output-in-input",
        {"spec.input.uri": "pvc://c/a", "spec.output.uri": "pvc://c/a/out"},
        "spec.output.uri",
        "must not be inside the input",
    ),
    ("output-pattern", {"spec.output.uri": "pvc://c/out-*"}, "spec.output.uri", "not a pattern"),
    ("claim-name", {"spec.input.uri": f"pvc://{'c' * 254}/a"}, "spec.input.uri", "too long"),
    # the whole
    (
        "too-large",
        {"spec.pipeline": [{"closedQA": {"prompts": _PROMPTS}}] * 16},
        "spec",
        "more than the 524288 that a run may",
    ),
]

FINE: list[tuple[str, dict[str, Any]]] = [
    ("as-it-is", {}),
    ("open-columns", {"spec.pipeline[0]": REMOVE}),
    ("any-variable-of-open-columns", custom("{{ whatever }}")),
    ("listed-column", {**custom("{{ title }} {{ text }}"), **columns(title="t")}),
    ("id-column", {**custom("{{ key }}"), **columns(title="t"), "spec.input.idColumn": "key"}),
    (
        "guarded",
        {**custom("{% if a is defined %}{{ a }}{% endif %}{{ b|default('') }}"), **columns(t="t")},
    ),
    (
        "own-names",
        {
            **custom("{% set a = 1 %}{{ a }}{% for b in [1] %}{{ b }}{{ loop.index }}{% endfor %}"),
            **columns(t="t"),
        },
    ),
    (
        "built-in-functions",
        {**custom("{% for i in range(3) %}{{ i }}{% endfor %}"), **columns(t="t")},
    ),
    (
        "output-of-an-earlier-stage",
        {**columns(t="t"), f"{_ANSWER}.prompts": {"user": {"inline": "{{ question }} {{ t }}"}}},
    ),
    (
        "document-in-the-system-prompt",
        {f"{_QA}.prompts": {"user": {"inline": "Ask."}, "system": {"inline": "{{ document }}"}}},
    ),
    (
        "unknown-prompt-may-hold-the-document",
        {
            f"{_QA}.prompts": {
                "user": {"inline": "Ask."},
                "system": {"configMapKeyRef": {"name": "a", "key": "b"}},
            }
        },
    ),
    ("system-prompt-alone", {f"{_QA}.prompts": {"system": {"inline": "Be kind."}}}),
    ("schema", json_output({**_SCHEMA, "$defs": {"a/b": {}}, "allOf": [{"$ref": "#/$defs/a~1b"}]})),
    (
        "schema-dialect",
        json_output({**_SCHEMA, "$schema": "https://json-schema.org/draft/2020-12/schema"}),
    ),
    (
        "output-beside-input",
        {"spec.input.uri": "pvc://c/docs", "spec.output.uri": "pvc://c/docs-2"},
    ),
    (
        "output-beside-input-files",
        {"spec.input.uri": "pvc://c/*.jsonl", "spec.output.uri": "pvc://c/out"},
    ),
    (
        "relative-files",
        {"spec.input.uri": "file://data/a.jsonl", "spec.output.uri": "file://../out"},
    ),
    (
        "same-embedded-model-twice",
        {"spec.models": [{"name": "a", "embedded": {}}, {"name": "b", "embedded": {}}]},
    ),
    ("text-files-with-their-column", {"spec.input.format": "Text", **columns(body="text")}),
    ("nothing-asked", {"spec.models[0].sampling": {"choices": 1, "logprobs": False}}),
    ("no-exports", {"spec.output.exports": []}),
    ("name-of-full-length", {"metadata.name": "a" * 40}),
]


@pytest.mark.parametrize(
    ("edits", "path", "words"), [pytest.param(*row[1:], id=row[0]) for row in INVALID]
)
def test_invalid_spec_is_found(edits: dict[str, Any], path: str, words: str) -> None:
    found = findings(edited(SMALL, edits))
    assert [item for item in found if item.path == path and words in item.message], found
    assert {item.reason for item in found if item.path == path} == {Reason.INVALID_SPEC}


@pytest.mark.parametrize("edits", [pytest.param(row[1], id=row[0]) for row in FINE])
def test_good_spec_has_no_findings(edits: dict[str, Any]) -> None:
    assert findings(edited(SMALL, edits)) == []


def test_invalid_is_said_before_not_implemented() -> None:
    manifest = edited(SMALL, {"spec.output.exports": ["alpaca"], f"{_QA}.model": "judge"})
    assert [item.reason for item in findings(manifest)] == [
        Reason.INVALID_SPEC,
        Reason.NOT_IMPLEMENTED,
    ]


def test_prompt_in_a_config_map_is_checked_where_it_is_known() -> None:
    reference = {"configMapKeyRef": {"name": "prompts", "key": "ask"}}
    manifest = edited(SMALL, {f"{_QA}.prompts": {"user": reference}})
    path = f"{_QA}.prompts.user"
    assert findings(manifest) == []
    assert findings(manifest, {"prompts": {"other": "{{"}}) == []
    assert findings(manifest, {"prompts": {"ask": "{{ document }}"}}) == []
    broken = findings(manifest, {"prompts": {"ask": "{{ document "}})
    assert [item.path for item in broken] == [f"{path}.configMapKeyRef"]
    idle = findings(manifest, {"prompts": {"ask": "Ask!"}})
    assert [item.path for item in idle] == [path]


def test_constant_expressions_are_not_computed() -> None:
    assert findings(edited(SMALL, custom("{{ 9 ** 9 ** 9 ** 9 }}"))) == []


def test_check_leaves_the_spec_alone() -> None:
    manifest = copy.deepcopy(SMALL)
    findings(manifest)
    assert manifest == SMALL


def test_finding_reads_as_a_sentence() -> None:
    assert str(Finding("spec.seed", Reason.INVALID_SPEC, "is odd")) == "spec.seed: is odd"
