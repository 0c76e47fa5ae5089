"""Fields whose behaviour is not there yet are refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from kubesynth_api import validation
from kubesynth_api.conditions import Reason
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_testing.manifests import SMALL, edited

PENDING: list[tuple[dict[str, Any], str]] = [
    ({"spec.output.split": {"train": 1}}, "spec.output.split"),
    ({"spec.output.exports": ["alpaca"]}, "spec.output.exports"),
]


@pytest.mark.parametrize(("edits", "path"), PENDING, ids=[row[1] for row in PENDING])
def test_field_without_behaviour_is_found(edits: dict[str, Any], path: str) -> None:
    spec = SyntheticDataJobSpec.model_validate(edited(SMALL, edits)["spec"])
    found = validation.check(spec, "job")
    assert [item.path for item in found] == [path], found
    assert found[0].reason is Reason.NOT_IMPLEMENTED
    assert "not available in this version" in found[0].message
