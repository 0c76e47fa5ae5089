"""What `execution: Batch` cannot do is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from kubesynth_api import execution
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_testing.manifests import SMALL, edited


@pytest.mark.parametrize(
    ("edits", "paths"),
    [
        ({}, []),
        ({"spec.models[0]": {"name": "a", "embedded": {}}}, ["spec.models[0]"]),
        (
            {"spec.models[0].external.azure": {"apiVersion": "2024-10-21"}},
            ["spec.models[0].external.azure"],
        ),
        (
            {"spec.budget": {"tokens": 1}, "spec.target": {"acceptedRecords": 1}},
            ["spec.budget", "spec.target"],
        ),
    ],
)
def test_batches_need_an_external_model_and_no_caps(
    edits: dict[str, Any], paths: list[str]
) -> None:
    wire = edited(SMALL, {**edits, "spec.execution": "Batch"})["spec"]
    spec = SyntheticDataJobSpec.model_validate(wire)
    assert [finding.path for finding in execution.check(spec)] == paths
    online = SyntheticDataJobSpec.model_validate({**wire, "execution": "Online"})
    assert list(execution.check(online)) == []
