"""What the operator does about a job that begins or goes on, decision by decision."""

from __future__ import annotations

from datetime import timedelta

import pytest

from kubesynth_api.conditions import ConditionType, Reason
from kubesynth_api.runner_contract import Estimate, RecordCounts, RunnerPhase, Totals
from kubesynth_api.v1alpha1.synthetic_data_job import ShardStatus, SyntheticDataJobStatus
from kubesynth_operator import status, wire
from kubesynth_operator.actions import (
    IDLE,
    ApplyNetworkPolicy,
    CreateConfigMap,
    CreateJob,
)
from kubesynth_operator.observation import LiveProgress, Obstacle, ObstacleKind
from kubesynth_testing.builders import (
    NOW,
    OTHER_UID,
    UNAVAILABLE,
    a_child,
    a_job,
    a_pod,
    a_status,
    observation,
)
from kubesynth_testing.decisions import CLAIMS, after, conditions, created, decide
from kubesynth_testing.operator_harness import plan_message

PLAN, GENERATE = RunnerPhase.PLAN, RunnerPhase.GENERATE
FINALIZE, REPORT = RunnerPhase.FINALIZE, RunnerPhase.REPORT


def test_a_new_job_gets_its_config_its_policy_and_its_plan_in_that_order() -> None:
    result = decide(observation(a_job(shards=3), referents=CLAIMS))
    kinds = [type(action) for action in result.actions]
    assert kinds == [ApplyNetworkPolicy, CreateConfigMap, CreateJob]
    assert created(result.actions) == ["qa-plan"]
    assert conditions(result)["Accepted"] == ("True", "Valid")
    assert result.status is not None
    assert result.status.start_time == wire.format_time(NOW)
    assert (result.status.phase, result.status.summary) == ("Planning", "0/3")


def test_a_job_of_one_shard_has_one_job() -> None:
    result = decide(observation(a_job(), referents=CLAIMS))
    assert created(result.actions) == ["qa-generate"]
    assert conditions(result)["Running"] == ("True", "ShardsActive")


def test_a_job_that_is_deleted_is_left_alone() -> None:
    job = a_job(deleting=True)
    assert decide(observation(job, [a_child(job, GENERATE, active=1)])) == IDLE


def test_a_job_of_another_controller_is_told_so_once() -> None:
    job = a_job(managedBy="kueue.x-k8s.io/multikueue")
    first = decide(observation(job))
    assert first.actions == ()
    assert conditions(first) == {"Accepted": ("False", "ManagedExternally")}
    assert decide(after(observation(job), first)) == IDLE
    other = a_status((ConditionType.RUNNING, True, "ShardsActive"))
    assert decide(observation(a_job(managedBy="other", status=other))) == IDLE


def test_missing_references_park_the_job_and_are_looked_for_less_and_less_often() -> None:
    seen = observation(a_job(), referents={})
    parked = decide(seen)
    assert parked.actions == ()
    assert conditions(parked)["Stalled"] == ("True", "ReferenceNotFound")
    assert parked.requeue_after_seconds == 15
    for age, requeue in ((timedelta(minutes=2), 30), (timedelta(hours=1), 60)):
        again = decide(after(seen, parked, now=NOW + age))
        assert again.status is None, "nothing new to say"
        assert again.requeue_after_seconds == requeue


def test_a_parked_job_goes_on_by_itself_when_the_reference_appears() -> None:
    seen = observation(a_job(), referents={})
    recovered = decide(after(seen, decide(seen), referents=CLAIMS))
    assert created(recovered.actions) == ["qa-generate"]
    found = conditions(recovered)
    assert found["Accepted"] == ("True", "Valid")
    assert "Stalled" not in found


def test_an_invalid_spec_is_not_looked_at_again() -> None:
    result = decide(observation(a_job(pipeline=[{"mistyped": {}}])))
    assert result.requeue_after_seconds is None
    assert result.status is not None
    accepted = status.find(result.status, ConditionType.ACCEPTED)
    assert accepted is not None
    assert "spec.pipeline.0.mistyped" in accepted.message


def test_a_reference_that_goes_away_stops_nothing_that_runs() -> None:
    job = a_job(shards=3)
    first = decide(observation(job, referents=CLAIMS))
    child = a_child(job, PLAN, active=1)
    seen = after(observation(job, [child]), first, referents={})
    parked = decide(seen)
    assert parked.actions == ()
    assert conditions(parked)["Running"] == ("True", "Planning")
    assert conditions(parked)["Accepted"] == ("False", "ReferenceNotFound")


def test_a_stricter_operator_does_not_stop_a_job_that_runs() -> None:
    job = a_job(**UNAVAILABLE)  # as if an older version had accepted it
    result = decide(observation(job, [a_child(job, GENERATE, active=1)]))
    assert conditions(result)["Accepted"] == ("True", "Valid")


def test_all_jobs_of_a_run_read_the_configuration_of_the_first() -> None:
    job = a_job(shards=3)
    children = [a_child(job, PLAN, complete=True, run_config_name="qa-run-0123456789")]
    result = decide(observation(job, children, referents=CLAIMS))
    assert not any(isinstance(action, CreateConfigMap) for action in result.actions)
    (job_action,) = (action for action in result.actions if isinstance(action, CreateJob))
    volumes = job_action.manifest["spec"]["template"]["spec"]["volumes"]
    assert volumes[0]["configMap"] == {"name": "qa-run-0123456789"}


def test_plan_s_words_become_the_estimate_and_the_number_of_records() -> None:
    job = a_job(shards=3)
    pods = [a_pod(job, PLAN, status="Succeeded", exit_code=0, message=plan_message(records=6))]
    result = decide(observation(job, [a_child(job, PLAN, complete=True)], pods, referents=CLAIMS))
    assert created(result.actions) == ["qa-generate"]
    assert result.status is not None
    assert result.status.estimate == Estimate(calls=12, rows=12)
    assert result.status.progress.records.in_ == 6


@pytest.mark.parametrize(
    ("before", "next_job"),
    [
        pytest.param(a_status(estimate=Estimate(calls=1)), "qa-generate", id="plan-is-done"),
        pytest.param(
            a_status((ConditionType.RUNNING, True, Reason.SHARDS_ACTIVE)),
            "qa-generate",
            id="shards-had-begun",
        ),
        pytest.param(
            a_status(shards=ShardStatus(total=3, succeeded=3)), "qa-finalize", id="shards-are-done"
        ),
    ],
)
def test_a_finished_job_that_was_deleted_is_not_run_again(
    before: SyntheticDataJobStatus, next_job: str
) -> None:
    result = decide(observation(a_job(shards=3, status=before), referents=CLAIMS))
    assert created(result.actions) == [next_job]


@pytest.mark.parametrize(
    ("kind", "requeue", "degraded"),
    [
        pytest.param(ObstacleKind.PREDECESSOR, 2, False, id="garbage-is-collected-soon"),
        pytest.param(ObstacleKind.STRANGER, 30, True, id="somebody-else-s"),
        pytest.param(ObstacleKind.REFUSED, 30, False, id="refused"),
    ],
)
def test_an_obstacle_is_told_and_waited_for(
    kind: ObstacleKind, requeue: float, degraded: bool
) -> None:
    seen = observation(a_job(shards=3), referents=CLAIMS).facing((Obstacle(kind, "in the way"),))
    result = decide(seen)
    assert result.actions == ()
    assert result.requeue_after_seconds == requeue
    assert conditions(result)["Running"] == ("False", "NotStarted")
    assert ("Degraded" in conditions(result)) == degraded


def test_children_of_a_namesake_are_never_taken_for_ours() -> None:
    job = a_job(shards=3)
    old = a_child(job, PLAN, complete=True, owner_uid=OTHER_UID)
    seen = observation(job, [old], referents=CLAIMS)
    assert seen.children == {}
    assert created(decide(seen).actions) == ["qa-plan"]


def test_stuck_pods_are_described_where_people_look() -> None:
    job = a_job()
    pods = [
        a_pod(
            job,
            GENERATE,
            status="Pending",
            waiting=("ImagePullBackOff", "Back-off pulling image"),
        )
    ]
    result = decide(observation(job, [a_child(job, GENERATE, active=1)], pods))
    assert result.status is not None
    running = status.find(result.status, ConditionType.RUNNING)
    assert running is not None
    assert running.message == "Pods wait: ImagePullBackOff: Back-off pulling image"


def test_numbers_alone_are_progress_and_a_condition_is_not() -> None:
    job = a_job()
    child = a_child(job, GENERATE, active=1, ready=1)
    seen = observation(job, [child])
    first = decide(seen)
    assert not first.progress_only
    totals = Totals(records=RecordCounts(in_=4, done=1))
    live = LiveProgress(totals, 0.5, 1, 0, NOW)
    moved = decide(after(seen, first, live=live))
    assert moved.progress_only
    assert moved.events == ()
    assert moved.status is not None
    assert moved.status.progress.percent == 25
    assert moved.status.progress.eta_seconds == 6


def test_running_pods_that_wait_for_a_model_say_so_in_running() -> None:
    job = a_job()
    seen = observation(job, [a_child(job, GENERATE, active=1, ready=1)])
    first = decide(seen)
    live = LiveProgress(Totals(), 0.0, 1, 0, NOW, message="waiting for judge: refused")
    waits = decide(after(seen, first, live=live))
    assert waits.status is not None
    running = status.find(waits.status, ConditionType.RUNNING)
    assert running is not None
    assert running.message == "Shards are at work. They say: waiting for judge: refused"


def test_nothing_is_written_when_nothing_has_changed() -> None:
    job = a_job(shards=3)
    seen = observation(job, [a_child(job, PLAN, active=1)], referents=CLAIMS)
    settled = decide(after(seen, decide(seen), now=NOW + timedelta(hours=1)))
    assert settled.status is None
    assert settled.actions == ()
