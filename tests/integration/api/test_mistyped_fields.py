"""What becomes of a mistyped field when the client did not ask the API server to be strict.

The documentation promises what is checked here, for every field of the spec: docs/reference,
"Mistyped fields".
"""

from __future__ import annotations

import functools
import re
from typing import Any

import pytest

from kubesynth_api.crd import root_schema
from kubesynth_api.kinds import SYNTHETIC_DATA_JOB
from kubesynth_api.schema import Schema
from kubesynth_api.v1alpha1.pipeline import STAGE_KINDS
from kubesynth_testing.api_requests import Answer, ApiRequests
from kubesynth_testing.manifests import FULL, REMOVE, Manifest, edited, field_paths, parts_of

_JOBS = "/apis/kubesynth.io/v1alpha1/namespaces/default/syntheticdatajobs"
_INDEX = re.compile(r"\[\d+\]")
_STAGES = "|".join(STAGE_KINDS)

# Optional fields that cannot be missing, with the words of the refusal.
_REFUSED = {
    r"spec\.models\[\]\.(external|embedded|server|serverRef)": "exactly one of external",
    rf"spec\.pipeline\[\]\.({_STAGES})": "is its name mistyped?",
    r".*\.server\.cache\.(claim|shared|perReplica)": "exactly one of claim",
    r".*\.caBundle\.(configMapKeyRef|secretKeyRef)": "exactly one of",
    r".*\.chatTemplate\.(builtIn|jinja|tokenizerConfig|server)": "exactly one of builtIn",
    r".*\.(user|system)\.(inline|configMapKeyRef)": "exactly one of inline",
    r".*\.valueFrom\.(configMapKeyRef|secretKeyRef)": "exactly one of",
    r".*\.output\.jsonSchema": "jsonSchema: Required value",
    r".*\[3\]\.prompt\.output\.type": "type: Unsupported value",
    r".*\[2\]\.prompt\.output\.type": "count is for type List",
    r"spec\.shards\.count": "parallelism must not exceed count",
    r"spec\.runner\.tolerations\[\]\.key": "without a key the operator must be Exists",
    r"spec\.runner\.tolerations\[\]\.effect": "tolerationSeconds is for the effect NoExecute",
}


_SCHEMA = root_schema(SYNTHETIC_DATA_JOB)


@functools.cache
def schema_at(path: str) -> Schema | None:
    """Return the schema of a field of the manifest; None if its name is the user's choice."""
    schema = _SCHEMA
    for part in parts_of(path):
        if isinstance(part, int) and "items" in schema:
            schema = schema["items"]
        elif isinstance(part, str) and "properties" in schema:
            schema = schema["properties"][part]
        else:
            return None
    return schema


def known_fields() -> list[str]:
    """Return every field of the full manifest whose name the API knows."""
    return [
        path
        for path in field_paths(FULL["spec"], "spec")
        if not path.endswith("]") and schema_at(path) is not None
    ]


def create(requests: ApiRequests, manifest: Manifest) -> Answer:
    return requests.send("POST", _JOBS, manifest, fieldValidation="Ignore", dryRun="All")


def mistype(path: str) -> Manifest:
    value = value_at(FULL, path)
    return edited(FULL, {path: REMOVE, f"{path}x": value})


def value_at(manifest: Manifest, path: str) -> Any:
    node: Any = manifest
    for part in parts_of(path):
        node = node[part] if isinstance(part, int) else node.get(part)
    return node


def words_of_refusal(path: str) -> str | None:
    """Return what the refusal has to say; None if the field may be missing."""
    for pattern, words in _REFUSED.items():
        if re.fullmatch(pattern, path) or re.fullmatch(pattern, _INDEX.sub("[]", path)):
            return words
    parent, _, name = path.rpartition(".")
    schema = schema_at(parent)
    assert schema is not None
    return f"{path}: Required value" if name in schema.get("required", []) else None


@pytest.mark.parametrize("path", known_fields())
def test_mistyped_field_is_dropped_or_refused_as_documented(
    requests: ApiRequests, path: str
) -> None:
    answer = create(requests, mistype(path))
    words = words_of_refusal(path)
    if words is not None:
        assert not answer.accepted
        assert words in answer.message
        return
    assert answer.accepted, answer.message
    schema = schema_at(path)
    assert schema is not None
    assert value_at(answer.body, path) == schema.get("default"), "the default applies"
    assert value_at(answer.body, f"{path}x") is None, "what was mistyped is gone"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.models[0].external.headers", "1"),
        ("spec.models[0].external.extraBody", {"any": 1}),
        ("spec.models[0].external.extraBody.nested", {"any": 1}),
        ("spec.input.columns", "1"),
        ("spec.pipeline[3].prompt.output.jsonSchema", {"any": 1}),
        ("spec.pipeline[3].prompt.output.jsonSchema.properties.title", {"any": 1}),
        ("spec.runner.nodeSelector", "1"),
        ("spec.runner.labels", "1"),
        ("spec.runner.annotations", "1"),
        ("spec.runner.affinity", {"any": 1}),
        ("spec.runner.resources.requests", "1"),
    ],
)
def test_key_of_a_map_is_kept(requests: ApiRequests, path: str, value: object) -> None:
    answer = create(requests, edited(FULL, {f"{path}.unheard": value}))
    assert answer.accepted, answer.message
    assert value_at(answer.body, f"{path}.unheard") == value
