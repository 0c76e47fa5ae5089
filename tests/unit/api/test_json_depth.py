"""How deep the JSON may be nested that users give."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_testing.manifests import SMALL, edited


def nested(levels: int) -> dict[str, Any]:
    value: Any = "x"
    for number in range(levels):
        value = [value] if number % 2 else {"a": value}
    return {"a": value}


def test_json_of_users_is_nested_as_deep_as_parsers_read() -> None:
    edits = {"spec.models[0].external.extraBody": nested(99)}
    SyntheticDataJobSpec.model_validate(edited(SMALL, edits)["spec"])
    edits = {"spec.models[0].external.extraBody": nested(3000)}
    with pytest.raises(ValidationError, match="nested too deeply: at most 100") as refusal:
        SyntheticDataJobSpec.model_validate(edited(SMALL, edits)["spec"])
    assert refusal.value.errors()[0]["loc"] == ("models", 0, "external", "extraBody")
