"""Reading what others write, whatever they wrote."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kubesynth_api.conditions import ConditionType, Reason
from kubesynth_api.runner_contract import Failures, RunnerPhase
from kubesynth_operator import wire
from kubesynth_operator.observation import Outcome
from kubesynth_testing.builders import (
    UID,
    ChildState,
    PodState,
    a_child,
    a_job,
    child_object,
    job_object,
    pod_object,
)
from kubesynth_testing.operator_harness import run_message


def stored(**fields: Any) -> dict[str, Any]:
    raw = job_object()
    raw["metadata"] |= {"uid": UID, "resourceVersion": "7"}
    return {**raw, **fields}


def test_a_status_of_a_newer_version_is_read_as_far_as_it_is_understood() -> None:
    condition = {
        "type": "Complete",
        "status": "True",
        "reason": "AllShardsSucceeded",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    job = wire.parse_job(
        stored(status={"conditions": [condition], "unheardOf": {"x": 1}, "shards": {"total": "?"}})
    )
    assert [item.type for item in job.status.conditions] == ["Complete"]
    assert job.status.shards.total == 0


def test_a_spec_that_is_not_understood_names_the_field() -> None:
    raw = stored()
    raw["spec"]["pipeline"] = [{"closedQA": {"questons": 3}}]
    job = wire.parse_job(raw)
    assert job.spec is None
    assert job.spec_problem is not None
    assert job.spec_problem.reason is Reason.INVALID_SPEC
    assert "spec.pipeline.0.closedQA.questons: this version" in job.spec_problem.message


def accepted(generation: int) -> dict[str, Any]:
    condition = {
        "type": "Accepted",
        "status": "True",
        "reason": "Valid",
        "observedGeneration": generation,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    return {"conditions": [condition]}


def test_defaults_of_newer_crds_do_not_stop_what_was_accepted_without_them() -> None:
    raw = stored(status=accepted(1))
    before = wire.parse_job(raw)
    raw["spec"]["unheardOf"] = {"mode": "Auto"}
    raw["spec"]["pipeline"][0]["closedQA"]["alsoNew"] = 3
    assert wire.parse_job(raw) == before
    assert before.spec is not None
    assert raw["spec"]["unheardOf"] == {"mode": "Auto"}, "what was read is left as it is"


@pytest.mark.parametrize(
    ("field", "value", "generation"),
    [
        pytest.param("unheardOf", 1, 0, id="accepted-in-an-earlier-version"),
        pytest.param("seed", "many", 1, id="a-field-that-is-known"),
    ],
)
def test_other_specs_are_refused(field: str, value: object, generation: int) -> None:
    raw = stored(status=accepted(generation))
    raw["spec"] |= {field: value, "unheardOf": 1}
    job = wire.parse_job(raw)
    assert job.spec is None
    assert job.spec_problem is not None
    assert f"spec.{field}" in job.spec_problem.message


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("Traceback (most recent call last):\nKeyError", id="a-log"),
        pytest.param("{not json", id="half-a-line"),
        pytest.param('{"level":"ERROR","message":"x"}', id="a-log-line-in-json"),
        pytest.param('{"phase":"dance"}', id="an-unknown-phase"),
        pytest.param("[1]\n{}", id="no-phase"),
        pytest.param("null", id="null"),
        pytest.param('{"a":' + "[" * 5000, id="a-pit-of-brackets"),
        pytest.param('{"phase":"generate","totals":{"costUSD":1e999}}', id="endless-costs"),
        pytest.param('{"phase":"generate","totals":{"costUSD":1e303}}', id="costs-beyond-micros"),
    ],
)
def test_what_is_no_termination_message_is_none(text: str) -> None:
    assert wire.parse_termination_message(text) is None


def test_the_message_is_found_at_the_end_of_a_log() -> None:
    message = run_message()
    text = 'starting\n{"level":"INFO"}\n' + message.model_dump_json(by_alias=True)
    assert wire.parse_termination_message(text) == message


def test_remarks_of_a_newer_runner_do_not_take_the_totals_with_them() -> None:
    raw = run_message().to_wire() | {"failures": [{"kind": "K", "count": "many"}]}
    assert wire.parse_termination_message(json.dumps(raw)) == run_message()


def test_what_is_new_within_a_termination_message_is_left_out() -> None:
    raw = run_message().to_wire() | {"failures": [{"kind": "K", "count": 1, "share": 0.5}]}
    message = wire.parse_termination_message(json.dumps(raw))
    assert message is not None
    assert message.totals == run_message().totals
    assert message.failures == (Failures(kind="K", count=1),)


def test_an_outcome_survives_its_annotation() -> None:
    outcome = Outcome(ConditionType.FAILED, Reason.DEADLINE_EXCEEDED, 'late: "quoted" ✓')
    child = a_child(a_job(shards=3), RunnerPhase.FINALIZE, verdict=outcome)
    assert child.outcome == outcome


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "[" * 5000,
        '{"condition":"Running","reason":"Valid","message":""}',
        '{"condition":1}',
    ],
)
def test_an_annotation_that_somebody_broke_is_no_outcome(text: str) -> None:
    job = a_job(shards=3)
    raw = child_object(job, RunnerPhase.FINALIZE, ChildState())
    raw["metadata"]["annotations"] = {"kubesynth.io/outcome": text}
    child = wire.parse_child_job(raw)
    assert child is not None
    assert child.outcome is None


def test_objects_without_our_labels_are_not_ours() -> None:
    job = a_job()
    raw = child_object(job, RunnerPhase.GENERATE, ChildState())
    raw["metadata"]["labels"].pop("kubesynth.io/phase")
    assert wire.parse_child_job(raw) is None
    pod = pod_object(job, RunnerPhase.GENERATE, PodState())
    pod["metadata"]["labels"]["kubesynth.io/phase"] = "dance"
    assert wire.parse_pod(pod) is None


@pytest.mark.parametrize("index", ["x", "-1", "1.5", "0x1"])
def test_a_pod_whose_index_is_no_number_is_not_ours(index: str) -> None:
    pod = pod_object(a_job(), RunnerPhase.GENERATE, PodState())
    pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] = index
    assert wire.parse_pod(pod) is None


def test_a_job_is_quiet_only_when_its_last_pod_is_gone() -> None:
    job = a_job()

    def quiet(**state: Any) -> bool:
        return a_child(job, RunnerPhase.GENERATE, **state).quiet

    assert not quiet(active=1)
    assert not quiet(suspended=True, active=1)
    assert not quiet(suspended=True, terminating=1)
    assert not quiet(suspended=True, suspension_seen=False), "it may not have started its pods yet"
    assert not quiet(suspended=False, suspension_seen=True), "it was resumed a moment ago"
    assert quiet(suspended=True)
    assert quiet(complete=True)
