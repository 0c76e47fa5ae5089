"""Every reason that this version can give is given here, by the decision itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta

import pytest

from kubesynth_api.conditions import ConditionType, Reason
from kubesynth_api.runner_contract import ExitCode, RunnerPhase, TerminationMessage, Totals
from kubesynth_operator import plan, wire
from kubesynth_operator.observation import (
    LeaseView,
    LiveProgress,
    Observation,
    Obstacle,
    ObstacleKind,
    Outcome,
    ReferenceKind,
    Referent,
    ServerView,
)
from kubesynth_testing.builders import (
    NOW,
    SETTINGS,
    UNAVAILABLE,
    a_child,
    a_job,
    a_pod,
    a_status,
    observation,
)
from kubesynth_testing.decisions import OF_EVENTS, OF_SERVERS
from kubesynth_testing.operator_harness import error_message, run_message
from kubesynth_testing.server_harness import inline

PLAN, GENERATE = RunnerPhase.PLAN, RunnerPhase.GENERATE
FINALIZE = RunnerPhase.FINALIZE
LIMITS = SETTINGS.limits
CLAIMS = {
    (ReferenceKind.CLAIM, name): Referent(exists=True, access_modes=("ReadWriteMany",))
    for name in ("corpus", "datasets")
}


def new_job() -> Observation:
    return observation(a_job(shards=3), referents=CLAIMS)


def not_parsable() -> Observation:
    return observation(a_job(pipeline=[{"mistyped": {}}]))


def not_implemented() -> Observation:
    return observation(a_job(**UNAVAILABLE))


def missing_claim() -> Observation:
    return observation(a_job(), referents={})


def denied_secret() -> Observation:
    referents = {
        **CLAIMS,
        (ReferenceKind.SECRET, "pull"): Referent(exists=False, denied=True),
    }
    job = a_job(runner={"imagePullSecrets": [{"name": "pull"}]})
    return observation(job, referents=referents)


def single_node_claim() -> Observation:
    once = Referent(exists=True, access_modes=("ReadWriteOnce",))
    referents = {**CLAIMS, (ReferenceKind.CLAIM, "datasets"): once}
    return observation(a_job(shards=3), referents=referents)


def other_manager() -> Observation:
    return observation(a_job(managedBy="other.example/controller"))


def planning() -> Observation:
    job = a_job(shards=3)
    return observation(job, [a_child(job, PLAN, active=1)])


def podless() -> Observation:
    job = a_job(shards=3)
    since = NOW - timedelta(seconds=LIMITS.podless_seconds)
    return observation(job, [a_child(job, PLAN)], podless_since={PLAN: since})


def generating(*, live: LiveProgress | None = None) -> Observation:
    job = a_job(shards=3)
    children = [a_child(job, PLAN, complete=True), a_child(job, GENERATE, active=3, ready=3)]
    return observation(job, children, live=live)


def finalizing() -> Observation:
    job = a_job(shards=3)
    children = [a_child(job, GENERATE, complete=True), a_child(job, FINALIZE, active=1)]
    return observation(job, children)


def failed_plan(reason: str) -> Observation:
    job = a_job(shards=3)
    message = error_message(PLAN, reason, "because")
    return observation(
        job,
        [a_child(job, PLAN, failed="PodFailurePolicy")],
        [a_pod(job, PLAN, status="Failed", exit_code=ExitCode.CONFIGURATION, message=message)],
    )


def finalized(verdict: Outcome) -> Observation:
    job = a_job(shards=3)
    return observation(
        job,
        [a_child(job, FINALIZE, complete=True, verdict=verdict)],
        [a_pod(job, FINALIZE, status="Succeeded", exit_code=0, message=run_message())],
    )


def ended(condition: ConditionType, reason: Reason) -> Callable[[], Observation]:
    assert condition in (ConditionType.COMPLETE, ConditionType.FAILED)
    if condition is ConditionType.COMPLETE:
        return lambda: finalized(Outcome(ConditionType.COMPLETE, reason, "so"))
    return lambda: finalized(Outcome(ConditionType.FAILED, reason, "so"))


def budget_spent() -> Observation:
    job = a_job(shards=3, budget={"tokens": 1000})
    children = [a_child(job, PLAN, complete=True), a_child(job, GENERATE)]
    seen = observation(job, children)
    return dataclasses.replace(seen, leases=LeaseView(3, Reason.BUDGET_SPENT))


def target_missed() -> Observation:
    job = a_job(shards=1, target={"acceptedRecords": 1000})
    message = run_message(RunnerPhase.ALL).model_copy(update={"ended": "TargetMissed"})
    pod = a_pod(job, GENERATE, status="Succeeded", exit_code=0, message=message)
    return observation(job, [a_child(job, GENERATE, complete=True)], [pod])


def suspended() -> Observation:
    return observation(a_job(suspend=True), referents=CLAIMS)


def held() -> Observation:
    job = a_job(shards=3)
    return observation(job, [a_child(job, PLAN, suspended=True, generation=1)])


def resumed() -> Observation:
    before = a_status((ConditionType.SUSPENDED, True, Reason.SUSPENDED_BY_USER))
    job = a_job(status=before)
    return observation(job, [a_child(job, GENERATE, suspended=True)])


def queued(*, is_suspended: bool, was_admitted: bool = False) -> Observation:
    before = a_status((ConditionType.QUOTA_RESERVED, True, Reason.ADMITTED))
    job = a_job(queue="team-a", status=before if was_admitted else None)
    return observation(job, [a_child(job, GENERATE, suspended=is_suspended)])


def too_late() -> Observation:
    start = wire.format_time(NOW - timedelta(hours=2))
    job = a_job(deadlines={"activeSeconds": 3600}, status=a_status(start_time=start))
    return observation(job, [a_child(job, GENERATE, suspended=True)])


def stalled() -> Observation:
    silent_since = NOW - timedelta(seconds=LIMITS.stall_seconds)
    return generating(live=LiveProgress(Totals(), 0.0, 3, 0, silent_since))


def unreachable() -> Observation:
    since = NOW - timedelta(seconds=LIMITS.unreachable_seconds)
    return generating(live=LiveProgress(Totals(), 0.0, 0, 3, NOW, since))


def disrupted() -> Observation:
    job = a_job()
    pods = [
        a_pod(job, GENERATE, index=number, status="Failed", disrupted=True)
        for number in range(LIMITS.disruption_base + LIMITS.disruption_per_shard + 1)
    ]
    return observation(job, [a_child(job, GENERATE, active=1)], pods)


def served(reason: Reason) -> Observation:
    """A job whose own server is at some step, or ready."""
    view = ServerView(
        "team",
        "qa-generator",
        uid="u",
        endpoint="http://qa-generator.team.svc:8000/v1",
        model="small",
        ready=reason is Reason.ALL_READY,
        reason=reason,
        message="as it is",
    )
    return observation(a_job(models=inline()), referents=CLAIMS, servers={"generator": view})


def stranger() -> Observation:
    obstacle = Obstacle(ObstacleKind.STRANGER, "Job 'qa-plan' belongs to nobody")
    return dataclasses.replace(new_job(), obstacles=(obstacle,))


Emitted = tuple[ConditionType, bool, Callable[[], Observation]]
_ACCEPTED, _COMPLETE, _FAILED = (
    ConditionType.ACCEPTED,
    ConditionType.COMPLETE,
    ConditionType.FAILED,
)
_RUNNING, _SUSPENDED = ConditionType.RUNNING, ConditionType.SUSPENDED

EMITTED: dict[Reason, Emitted] = (
    {
        Reason.VALID: (_ACCEPTED, True, new_job),
        Reason.INVALID_SPEC: (_ACCEPTED, False, not_parsable),
        Reason.NOT_IMPLEMENTED: (_ACCEPTED, False, not_implemented),
        Reason.REFERENCE_NOT_FOUND: (_ACCEPTED, False, missing_claim),
        Reason.REFERENCE_DENIED: (_ACCEPTED, False, denied_secret),
        Reason.OUTPUT_CONFLICT: (_ACCEPTED, False, lambda: failed_plan("OutputConflict")),
        Reason.ACCESS_MODE_CONFLICT: (_ACCEPTED, False, single_node_claim),
        Reason.MANAGED_EXTERNALLY: (_ACCEPTED, False, other_manager),
        Reason.ADMITTED: (ConditionType.QUOTA_RESERVED, True, lambda: queued(is_suspended=False)),
        Reason.QUEUED: (ConditionType.QUOTA_RESERVED, False, lambda: queued(is_suspended=True)),
        Reason.PREEMPTED: (
            ConditionType.QUOTA_RESERVED,
            False,
            lambda: queued(is_suspended=True, was_admitted=True),
        ),
        Reason.QUEUE_NAME_MISSING: (ConditionType.QUOTA_RESERVED, False, held),
        Reason.NOT_REQUIRED: (ConditionType.MODELS_READY, True, new_job),
        Reason.PLANNING: (_RUNNING, True, planning),
        Reason.SHARDS_ACTIVE: (_RUNNING, True, generating),
        Reason.FINALIZING: (_RUNNING, True, finalizing),
        Reason.NOT_STARTED: (_RUNNING, False, stranger),
        Reason.FINISHED: (_RUNNING, False, ended(_COMPLETE, Reason.ALL_SHARDS_SUCCEEDED)),
        Reason.SUSPENDED_BY_USER: (_SUSPENDED, True, suspended),
        Reason.SUSPENDED_BY_QUEUE: (_SUSPENDED, True, lambda: queued(is_suspended=True)),
        Reason.RESUMED: (_SUSPENDED, False, resumed),
        Reason.ALL_SHARDS_SUCCEEDED: (
            _COMPLETE,
            True,
            ended(_COMPLETE, Reason.ALL_SHARDS_SUCCEEDED),
        ),
        Reason.SOME_SHARDS_FAILED: (_COMPLETE, True, ended(_COMPLETE, Reason.SOME_SHARDS_FAILED)),
        Reason.BUDGET_SPENT: (_RUNNING, True, budget_spent),
        Reason.TARGET_REACHED: (_COMPLETE, True, ended(_COMPLETE, Reason.TARGET_REACHED)),
        Reason.TARGET_MISSED: (_COMPLETE, True, target_missed),
        Reason.NOT_COMPLETE: (_COMPLETE, False, new_job),
        Reason.SHARD_BACKOFF_EXCEEDED: (
            _FAILED,
            True,
            ended(_FAILED, Reason.SHARD_BACKOFF_EXCEEDED),
        ),
        Reason.TOO_MANY_FAILED_SHARDS: (
            _FAILED,
            True,
            ended(_FAILED, Reason.TOO_MANY_FAILED_SHARDS),
        ),
        Reason.DEADLINE_EXCEEDED: (_FAILED, True, too_late),
        Reason.RUNNER_FAILED: (_FAILED, True, lambda: failed_plan("NewInANewerRunner")),
        Reason.PROGRESS_STALLED: (ConditionType.DEGRADED, True, stalled),
        Reason.PROGRESS_UNKNOWN: (ConditionType.DEGRADED, True, unreachable),
        Reason.DISRUPTIONS_HIGH: (ConditionType.DEGRADED, True, disrupted),
        Reason.PODS_NOT_CREATED: (ConditionType.DEGRADED, True, podless),
        Reason.CHILD_CONFLICT: (ConditionType.DEGRADED, True, stranger),
        Reason.IN_PROGRESS: (ConditionType.RECONCILING, True, new_job),
    }
    | {
        reason: (
            ConditionType.MODELS_READY,
            reason is Reason.ALL_READY,
            lambda reason=reason: served(reason),
        )
        for reason in (
            Reason.ALL_READY,
            Reason.PROVISIONING,
            Reason.UNSCHEDULABLE,
            Reason.IMAGE_PULL_FAILED,
            Reason.DOWNLOADING,
            Reason.LOADING,
            Reason.STARTUP_TIMEOUT,
            Reason.CRASH_LOOPING,
        )
    }
    | {
        # What only a runner can know; the operator repeats it.
        reason: (_FAILED, True, lambda reason=reason: failed_plan(reason))
        for reason in (
            Reason.TOO_MANY_FAILED_RECORDS,
            Reason.MODEL_STARTUP_FAILED,
            Reason.OUTPUT_UNWRITABLE,
            Reason.INPUT_UNREADABLE,
            Reason.INPUT_CHANGED,
            Reason.REFERENCE_CHANGED,
        )
    }
)


@pytest.mark.parametrize("reason", list(EMITTED), ids=str)
def test_reason_is_given(reason: Reason) -> None:
    kind, value, look = EMITTED[reason]
    status = plan.reconcile(look(), SETTINGS).status
    assert status is not None
    found = {item.type: (item.status == "True", item.reason) for item in status.conditions}
    assert found.get(kind.value) == (value, reason.value)


def test_no_reason_is_without_a_test() -> None:
    assert EMITTED.keys() | OF_SERVERS | OF_EVENTS == set(Reason)


@pytest.mark.parametrize("reason", list(EMITTED), ids=str)
def test_every_condition_says_why_and_for_which_generation(reason: Reason) -> None:
    status = plan.reconcile(EMITTED[reason][2](), SETTINGS).status
    assert status is not None
    for condition in status.conditions:
        assert condition.observed_generation == 1
        assert condition.reason in set(Reason)
        assert condition.message, f"{condition.type} has no message"
    assert status.phase


@pytest.mark.parametrize("reason", list(EMITTED), ids=str)
def test_the_same_observation_gives_the_same_plan(reason: Reason) -> None:
    look = EMITTED[reason][2]
    assert plan.reconcile(look(), SETTINGS) == plan.reconcile(look(), SETTINGS)


def test_a_termination_message_of_the_report_is_the_truth_too() -> None:
    job = a_job(shards=3)
    message: TerminationMessage = run_message(RunnerPhase.REPORT, done=5)
    verdict = Outcome(ConditionType.COMPLETE, Reason.ALL_SHARDS_SUCCEEDED, "all")
    seen = observation(
        job,
        [
            a_child(job, FINALIZE, complete=True, verdict=verdict),
            a_child(job, RunnerPhase.REPORT, complete=True),
        ],
        [a_pod(job, RunnerPhase.REPORT, status="Succeeded", exit_code=0, message=message)],
    )
    status = plan.reconcile(seen, SETTINGS).status
    assert status is not None
    assert status.progress.records.done == 5


@pytest.mark.parametrize(("execution", "expected"), [("Online", True), ("Batch", False)])
def test_waiting_for_a_batch_is_not_a_stall(execution: str, expected: bool) -> None:
    job = a_job(execution=execution)
    silent_since = NOW - timedelta(seconds=LIMITS.stall_seconds)
    live = LiveProgress(Totals(), 0.0, 3, 0, silent_since)
    seen = observation(job, [a_child(job, GENERATE, active=3)], live=live)
    status = plan.reconcile(seen, SETTINGS).status
    assert status is not None
    degraded = [c for c in status.conditions if c.type == ConditionType.DEGRADED]
    assert bool(degraded) is expected
