"""The columns of a record, stage by stage."""

from __future__ import annotations

from kubesynth_api import columns
from kubesynth_api.columns import Columns
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_runner.io import schema
from kubesynth_testing.manifests import FULL, SMALL


def spec_of(manifest: dict[str, object]) -> SyntheticDataJobSpec:
    return SyntheticDataJobSpec.model_validate(manifest["spec"])


def test_columns_grow_from_stage_to_stage() -> None:
    found = [stage.known for stage in columns.at_each_stage(spec_of(FULL))]
    first = {"body", "key", "title"}
    assert found == [
        first,
        first | {"question"},
        first | {"question", "reply"},
        first | {"question", "reply", "item"},
    ]


def test_columns_are_open_unless_the_manifest_lists_them() -> None:
    assert not columns.of_spec(spec_of(SMALL)).lacks("anything")
    assert columns.of_spec(spec_of(FULL)).lacks("anything")
    assert not Columns(frozenset({"a"}), closed=True).lacks("a")


def test_reserved_columns_are_those_that_the_runner_writes() -> None:
    written = set(schema.build({}).names)
    assert written == columns.RESERVED_COLUMNS
