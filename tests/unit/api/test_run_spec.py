"""Hashes of runs: equal exactly for runs that make the same rows, in this version and the next."""

from __future__ import annotations

from typing import Any

import pytest

from kubesynth_api.run_spec import RunSpec
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_testing.manifests import FULL, REMOVE, SMALL, Manifest, edited


def run(manifest: Manifest, edits: dict[str, Any] | None = None, uid: str = "uid") -> RunSpec:
    spec = SyntheticDataJobSpec.from_wire(edited(manifest, edits or {})["spec"])
    return RunSpec(name="job", namespace="team", uid=uid, spec=spec)


def test_json_of_a_run_reads_back() -> None:
    for manifest in (SMALL, FULL):
        original = run(manifest)
        again = RunSpec.model_validate_json(original.to_json())
        assert again == original
        assert again.to_json() == original.to_json()


def test_hashes_do_not_change_between_versions() -> None:
    # A run that was started by an earlier version goes on under this one. If this fails, jobs that
    # are running during an upgrade lose their ConfigMap, and outputs can no longer be resumed.
    assert run(SMALL).pipeline_hash() == "e22fa2ffe761425741c268f63420ff73"
    assert run(SMALL).immutable_hash() == "975694bebe"
    assert run(FULL).pipeline_hash() == "89e8896fa33c588ceccf7bffc78f6a85"
    # As long as addresses counted.
    assert run(SMALL).former_pipeline_hash() == "60905d1ab0e3c67858bdcd905ee23c3b"
    assert run(FULL).former_pipeline_hash() == "a4b47dbf9f0d945fed271341f2e0415b"


def test_defaults_may_be_written_out() -> None:
    explicit = {
        "spec.input.format": "Auto",
        "spec.input.columns": {},
        "spec.pipeline[0].closedQA": {"questions": 5, "onShortList": "Accept", "prompts": {}},
        "spec.pipeline[1].answer": {"onCutOff": "Fail"},
        "spec.output.rowsPerPart": 50000,
        "spec.execution": "Online",
        "spec.shards": {"count": 1},
        "spec.managedBy": "kubesynth.io/operator",
    }
    assert run(SMALL, explicit).pipeline_hash() == run(SMALL).pipeline_hash()


@pytest.mark.parametrize(
    "edits",
    [
        {"spec.suspend": False},
        {"spec.shards.parallelism": 1},
        {"spec.models[0].limits.concurrency": 5},
        {"spec.models[0].maxAttempts": 9},
        {"spec.models[0].requestTimeoutSeconds": 9},
        {"spec.budget.tokens": 9999},
        {"spec.target.acceptedRecords": 9999},
        {"spec.deadlines": REMOVE},
        {"spec.cleanup": REMOVE},
        {"spec.failurePolicy": REMOVE},
        {"spec.runner": REMOVE},
        {"spec.output.uri": "pvc://datasets/elsewhere"},
        {"spec.models[0].external.url": "https://moved.example.com/v1"},
        {"spec.models[0].external.headers": {"x-team": "other"}},
        {"spec.models[0].external.apiKey": REMOVE},
        {"spec.models[0].external.caBundle": REMOVE},
        {"spec.output.ifExists": "Fail"},
    ],
    ids=lambda edits: next(iter(edits)),
)
def test_what_does_not_touch_the_rows_keeps_the_hash(edits: dict[str, Any]) -> None:
    assert run(FULL, edits).pipeline_hash() == run(FULL).pipeline_hash()


@pytest.mark.parametrize(
    "edits",
    [
        {"spec.seed": 8},
        {"spec.seed": REMOVE},
        {"spec.shards.count": 5},
        {"spec.input.limit": 999},
        {"spec.input.idColumn": REMOVE},
        {"spec.models[0].external.model": "other"},
        {"spec.models[0].sampling.temperature": 0.8},
        {"spec.models[0].external.extraBody.nested.a": [2, 1]},
        {"spec.pipeline[0].closedQA.questions": 4},
        {"spec.pipeline[1].answer.prompts.user.inline": "{{ question }}!"},
        {"spec.pipeline[1].answer.onCutOff": "Keep"},
        {"spec.pipeline[2].prompt.output.itemForm": "Titles"},
        {"spec.pipeline[3]": REMOVE},
        {"spec.output.format": "Parquet"},
    ],
    ids=lambda edits: next(iter(edits)),
)
def test_what_touches_the_rows_changes_the_hash(edits: dict[str, Any]) -> None:
    assert run(FULL, edits).pipeline_hash() != run(FULL).pipeline_hash()


def test_what_cannot_change_during_a_run_names_its_config_map() -> None:
    moved = run(SMALL, {"spec.models[0].external.url": "https://moved.example.com/v1"})
    assert moved.immutable_hash() != run(SMALL).immutable_hash()


def test_what_differs_is_told_by_field() -> None:
    edits = {
        "spec.models[0].external.model": "other",
        "spec.models[0].external.url": "https://moved.example.com/v1",
        "spec.seed": 99,
        "spec.pipeline[0].closedQA.questions": 4,
    }
    before, after = run(FULL).content_hashes(), run(FULL, edits).content_hashes()
    name = FULL["spec"]["models"][0]["name"]
    assert {key for key in before if before[key] != after[key]} == {
        f"models[{name}].external.model",
        "seed",
        "pipeline[0].closedQA.questions",
    }


def test_another_job_has_the_same_pipeline_but_another_run() -> None:
    mine, theirs = run(SMALL), run(SMALL, uid="other")
    assert mine.pipeline_hash() == theirs.pipeline_hash()
    assert mine.immutable_hash() != theirs.immutable_hash()
