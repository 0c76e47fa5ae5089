"""Schemas small enough for `kubectl apply`, that accept what they did."""

from __future__ import annotations

import json

import pytest

from kubesynth_api.condense import APPLY_MAX_BYTES, condense
from kubesynth_api.crd import crd_manifest
from kubesynth_api.kinds import KINDS, Kind


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_definition_fits_into_the_annotation_of_kubectl_apply(kind: Kind) -> None:
    size_bytes = len(json.dumps(crd_manifest(kind), separators=(",", ":")).encode())
    # A fifth is left for the fields to come.
    assert size_bytes < 0.8 * APPLY_MAX_BYTES


def test_what_is_alike_is_described_where_it_occurs_first() -> None:
    def pair(said: str) -> dict[str, object]:
        return {
            "description": said,
            "type": "object",
            "properties": {
                # A field of this name is no description.
                "description": {"description": "Its text.", "type": "string", "maxLength": 5},
            },
        }

    whole = {
        "type": "object",
        "properties": {
            "first": pair("One."),
            "list": {"description": "Many.", "type": "array", "items": pair("Two.")},
            "map": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    }
    properties = condense(whole)["properties"]
    assert properties["first"] == pair("One.")
    assert properties["list"] == {
        "description": "Many.",
        "type": "array",
        "items": {
            "description": "Two.",
            "type": "object",
            "properties": {"description": {"type": "string", "maxLength": 5}},
        },
    }
    assert properties["map"] == whole["properties"]["map"]  # type: ignore[index]
