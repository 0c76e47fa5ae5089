"""What the operator says about Jobs whose pods cannot be made."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kubesynth_api.conditions import ConditionType, Reason
from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_operator.policies import podless
from kubesynth_testing.builders import NOW, SETTINGS, a_child, a_job, a_pod, a_status, observation
from kubesynth_testing.decisions import conditions, decide

PLAN, GENERATE = RunnerPhase.PLAN, RunnerPhase.GENERATE
PATIENCE = SETTINGS.limits.podless_seconds
JOB = a_job(shards=3)


@pytest.mark.parametrize("phase", [PLAN, GENERATE])
def test_a_job_without_pods_is_said_to_be_without(phase: RunnerPhase) -> None:
    since = {phase: NOW - timedelta(seconds=PATIENCE)}
    children = [a_child(JOB, PLAN, complete=phase is GENERATE)]
    children += [a_child(JOB, GENERATE)] if phase is GENERATE else []
    result = decide(observation(JOB, children, podless_since=since))
    found = conditions(result)
    assert found["Running"] == ("False", "PodsNotCreated")
    assert found["Degraded"] == ("True", "PodsNotCreated")
    assert result.status is not None
    assert (result.status.phase, result.status.reason) == ("Pending", "PodsNotCreated")
    [degraded] = [each for each in result.status.conditions if each.type == "Degraded"]
    assert f"`kubectl describe job qa-{phase}`" in degraded.message
    assert result.requeue_after_seconds is None, "a pod wakes it"


def test_pods_may_take_a_while_and_the_job_is_looked_at_again_then() -> None:
    since = {PLAN: NOW - timedelta(seconds=10)}
    result = decide(observation(JOB, [a_child(JOB, PLAN)], podless_since=since))
    assert conditions(result)["Running"] == ("True", "Planning")
    assert "Degraded" not in conditions(result)
    assert result.requeue_after_seconds == PATIENCE - 10


def test_the_next_try_of_a_failed_pod_may_take_as_long_as_kubernetes_waits() -> None:
    pods = [a_pod(JOB, PLAN, status="Failed", exit_code=75)]
    for minutes, said in ((10, False), (11, True)):
        since = {PLAN: NOW - timedelta(minutes=minutes)}
        for child, seen in ((a_child(JOB, PLAN), pods), (a_child(JOB, PLAN, failed_pods=1), [])):
            result = decide(observation(JOB, [child], seen, podless_since=since))
            assert ("Degraded" in conditions(result)) is said


def test_an_operator_that_has_just_begun_repeats_what_was_said() -> None:
    before = a_status((ConditionType.DEGRADED, True, Reason.PODS_NOT_CREATED))
    job = a_job(shards=3, status=before)
    result = decide(observation(job, [a_child(job, PLAN)], podless_since={PLAN: NOW}))
    assert conditions(result)["Degraded"] == ("True", "PodsNotCreated")
    mended = decide(observation(job, [a_child(job, PLAN, active=1)]))
    assert "Degraded" not in conditions(mended)
    assert conditions(mended)["Running"] == ("True", "Planning")


@pytest.mark.parametrize(
    ("child", "pod", "lacks"),
    [
        pytest.param({}, None, True, id="none-was-made"),
        pytest.param({}, {"status": "Succeeded", "exit_code": 0}, True, id="all-have-ended"),
        pytest.param({"active": 1}, None, False, id="made-and-not-seen-yet"),
        pytest.param({"terminating": 1}, None, False, id="one-is-stopping"),
        pytest.param({}, {"status": "Pending"}, False, id="seen-and-not-counted-yet"),
        pytest.param({"suspended": True}, None, False, id="suspended"),
        pytest.param({"complete": True}, None, False, id="done"),
        pytest.param({"deleting": True}, None, False, id="deleted"),
    ],
)
def test_which_jobs_lack_pods(
    child: dict[str, Any], pod: dict[str, Any] | None, lacks: bool
) -> None:
    pods = [] if pod is None else [a_pod(JOB, GENERATE, **pod)]
    assert podless.lacks_pods(a_child(JOB, GENERATE, **child), pods) is lacks
