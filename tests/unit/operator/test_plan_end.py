"""What the operator does about a job that ends or has ended."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from kubesynth_api.conditions import ConditionType, Reason
from kubesynth_api.runner_contract import (
    ExitCode,
    RecordCounts,
    RunnerPhase,
    TerminationMessage,
    Totals,
)
from kubesynth_api.v1alpha1.synthetic_data_job import (
    ProgressStatus,
    ShardStatus,
    SyntheticDataJobStatus,
)
from kubesynth_operator import plan, status, wire
from kubesynth_operator.actions import CreateJob, DeleteCustomResource, DeleteJob, PatchJob
from kubesynth_operator.observation import LeaseView, Outcome
from kubesynth_testing.builders import (
    NOW,
    SETTINGS,
    a_child,
    a_job,
    a_pod,
    a_status,
    job_object,
    observation,
)
from kubesynth_testing.decisions import (
    ALL_GOOD,
    CLAIMS,
    after,
    conditions,
    created,
    decide,
    outcome_of,
)
from kubesynth_testing.operator_harness import error_message, run_message

PLAN, GENERATE = RunnerPhase.PLAN, RunnerPhase.GENERATE
FINALIZE, REPORT = RunnerPhase.FINALIZE, RunnerPhase.REPORT
COMPLETE = a_status(
    (ConditionType.COMPLETE, True, Reason.ALL_SHARDS_SUCCEEDED),
    completion_time=wire.format_time(NOW - timedelta(seconds=60)),
)


@pytest.mark.parametrize(
    "ended", [COMPLETE, a_status((ConditionType.FAILED, True, "RunnerFailed"))]
)
def test_a_job_that_has_ended_stays_as_it_ended(ended: SyntheticDataJobStatus) -> None:
    job = a_job(status=ended, shards=3)
    children = [a_child(job, GENERATE, failed="FailedIndexes", failed_indexes="0")]
    result = decide(observation(job, children))
    assert result.actions == ()
    assert result.status is None


def test_a_job_that_has_ended_follows_its_generation() -> None:
    job = a_job(status=COMPLETE, generation=2)
    result = decide(observation(job))
    assert result.status is not None
    assert result.status.observed_generation == 2
    assert {item.observed_generation for item in result.status.conditions} == {2}
    assert result.events == ()


def test_pods_that_a_failed_job_left_running_are_stopped() -> None:
    job = a_job(status=a_status((ConditionType.FAILED, True, "DeadlineExceeded")), shards=3)
    child = a_child(job, FINALIZE, active=1)
    assert decide(observation(job, [child])).actions == (
        PatchJob("qa-finalize", child.uid, "suspend", True),
    )


@pytest.mark.parametrize(
    ("ttl_seconds", "actions", "requeue"),
    [
        pytest.param(None, False, None, id="never"),
        pytest.param(90, False, 30.0, id="not-yet"),
        pytest.param(60, True, None, id="now"),
        pytest.param(0, True, None, id="at-once"),
    ],
)
def test_time_to_live(ttl_seconds: int | None, actions: bool, requeue: float | None) -> None:
    cleanup = {} if ttl_seconds is None else {"ttlSecondsAfterFinished": ttl_seconds}
    job = a_job(status=COMPLETE, cleanup=cleanup)
    result = decide(observation(job))
    assert result.actions == ((DeleteCustomResource(job.uid),) if actions else ())
    assert result.requeue_after_seconds == requeue


def test_shards_that_failed_and_were_deleted_still_fail_the_job() -> None:
    seen = ShardStatus(total=3, succeeded=2, failed=1, failed_indexes="1")
    result = decide(observation(a_job(shards=3, status=a_status(shards=seen)), referents=CLAIMS))
    (action,) = (action for action in result.actions if isinstance(action, CreateJob))
    outcome = action.manifest["metadata"]["annotations"]["kubesynth.io/outcome"]
    assert '"reason": "ShardBackoffExceeded"' in outcome


def test_finalize_of_a_failed_run_is_told_that_shards_are_missing() -> None:
    job = a_job(shards=3)
    message = error_message(GENERATE, "OutputUnwritable", "disk full")
    failed = a_child(job, GENERATE, failed="MaxFailedIndexesExceeded", failed_indexes="1")
    pods = [a_pod(job, GENERATE, index=1, status="Failed", exit_code=75, message=message)]
    result = decide(observation(job, [failed], pods))
    (action,) = (action for action in result.actions if isinstance(action, CreateJob))
    env = action.manifest["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "KUBESYNTH_PARTIAL", "value": "true"} in env
    assert conditions(result)["Running"] == ("True", "Finalizing")
    assert "Failed" not in conditions(result), "not before the report is there"
    child = a_child(job, FINALIZE, failed="FailedIndexes", verdict=outcome_of(action))
    ended = decide(observation(job, [failed, child], pods))
    assert conditions(ended)["Failed"] == ("True", "ShardBackoffExceeded")
    assert ended.status is not None
    told = status.find(ended.status, ConditionType.FAILED)
    assert told is not None
    assert "1 of 3 shards failed (1)" in told.message
    assert "OutputUnwritable: disk full" in told.message


def test_the_end_has_exact_counts_outputs_and_no_rate() -> None:
    job = a_job(
        shards=3,
        status=a_status(
            start_time=wire.format_time(NOW), progress=ProgressStatus(records_per_second=9)
        ),
    )
    children = [
        a_child(job, GENERATE, complete=True, completed="0-2"),
        a_child(job, FINALIZE, complete=True, verdict=ALL_GOOD),
    ]
    pods = [a_pod(job, FINALIZE, status="Succeeded", exit_code=0, message=run_message(done=6))]
    result = decide(observation(job, children, pods))
    found = conditions(result)
    assert found["Complete"] == found["Ready"] == ("True", "AllShardsSucceeded")
    assert found["Running"] == ("False", "Finished")
    assert not found.keys() & {"Reconciling", "Stalled", "Failed", "Degraded"}
    assert result.status is not None
    assert result.status.completion_time == wire.format_time(NOW)
    assert result.status.progress.records == RecordCounts(in_=6, done=6, accepted=12)
    assert result.status.progress.percent == 100
    assert result.status.progress.records_per_second == 0
    assert result.status.outputs is not None
    assert result.status.outputs.report == "pvc://datasets/qa/report.md"
    assert (result.status.summary, result.status.phase) == ("3/3", "Complete")


def test_lost_totals_are_asked_for_again() -> None:
    job = a_job(shards=3)
    children = [a_child(job, FINALIZE, complete=True, verdict=ALL_GOOD)]
    result = decide(observation(job, children))
    assert created(result.actions) == ["qa-report"]
    assert "True" not in conditions(result)["Complete"]


def test_output_conflict_is_a_failure_and_a_refusal() -> None:
    job = a_job()
    message = error_message(RunnerPhase.ALL, "OutputConflict", "holds the run of another job")
    pods = [
        a_pod(job, GENERATE, status="Failed", exit_code=ExitCode.CONFIGURATION, message=message)
    ]
    result = decide(observation(job, [a_child(job, GENERATE, failed="PodFailurePolicy")], pods))
    found = conditions(result)
    assert found["Failed"] == found["Stalled"] == ("True", "OutputConflict")
    assert found["Accepted"] == ("False", "OutputConflict")
    assert found["Complete"] == ("False", "NotComplete")


def test_a_deadline_stops_the_shards_then_reports_then_fails() -> None:
    start = wire.format_time(NOW - timedelta(seconds=100))
    job = a_job(shards=3, deadlines={"activeSeconds": 100}, status=a_status(start_time=start))
    running = a_child(job, GENERATE, active=3, ready=3)
    assert decide(observation(job, [running])).actions == (
        PatchJob("qa-generate", running.uid, "suspend", True),
    )
    stopping = a_child(job, GENERATE, suspended=True, terminating=2)
    assert decide(observation(job, [stopping])).actions == ()
    stopped = a_child(job, GENERATE, suspended=True)
    reporting = decide(observation(job, [stopped]))
    (action,) = (action for action in reporting.actions if isinstance(action, CreateJob))
    assert outcome_of(action).reason is Reason.DEADLINE_EXCEEDED
    at_work = a_child(job, FINALIZE, active=1, verdict=outcome_of(action))
    assert decide(observation(job, [stopped, at_work])).actions == (), "the shards stay stopped"
    done = a_child(job, FINALIZE, complete=True, verdict=outcome_of(action))
    pods = [a_pod(job, FINALIZE, status="Succeeded", exit_code=0, message=run_message())]
    ended = decide(observation(job, [stopped, done], pods))
    assert conditions(ended)["Failed"] == ("True", "DeadlineExceeded")
    assert ended.status is not None
    assert ended.status.progress.records.done == 6, "what was done is counted all the same"


@pytest.mark.parametrize("queue_all", [False, True])
def test_a_finalize_that_takes_too_long_fails_a_job_that_had_enough(queue_all: bool) -> None:
    settings = dataclasses.replace(SETTINGS, queue_all_jobs=queue_all)
    start = wire.format_time(NOW - timedelta(seconds=3600 + 700))
    before = a_status((ConditionType.RUNNING, True, Reason.FINALIZING), start_time=start)
    raw = job_object(shards=3, deadlines={"activeSeconds": 3600}, target={"acceptedRecords": 10})
    job = a_job(queue="team-a" if queue_all else None, status=before, raw=raw)
    enough = Outcome(ConditionType.COMPLETE, Reason.TARGET_REACHED, "Enough.")
    done = a_child(job, GENERATE, complete=True, completed="0-2", suspended=False)
    at_work = a_child(job, FINALIZE, active=1, suspended=False, verdict=enough)
    seen = observation(job, [done, dataclasses.replace(at_work, queued=queue_all)])
    seen = dataclasses.replace(seen, leases=LeaseView(3, Reason.TARGET_REACHED))
    stopping = plan.reconcile(seen, settings)
    assert [type(action) for action in stopping.actions] == [DeleteJob if queue_all else PatchJob]
    stopped = (
        {} if queue_all else {FINALIZE: a_child(job, FINALIZE, suspended=True, verdict=enough)}
    )
    ended = plan.reconcile(after(seen, stopping, children={GENERATE: done, **stopped}), settings)
    assert conditions(ended)["Failed"] == ("True", "DeadlineExceeded")
    assert created(ended.actions) == []


def test_a_job_before_its_deadline_is_looked_at_when_it_comes() -> None:
    start = wire.format_time(NOW - timedelta(seconds=40))
    job = a_job(deadlines={"activeSeconds": 100}, status=a_status(start_time=start))
    result = decide(observation(job, [a_child(job, GENERATE, active=1)]))
    assert result.requeue_after_seconds == 60


def test_pods_that_never_run_fail_the_job_after_a_while() -> None:
    start = wire.format_time(NOW - timedelta(seconds=300))
    job = a_job(deadlines={"pendingSeconds": 300}, status=a_status(start_time=start))
    stopped = a_child(job, GENERATE, suspended=True)
    pods = [a_pod(job, GENERATE, status="Pending")]
    result = decide(observation(job, [stopped], pods))
    assert conditions(result)["Failed"] == ("True", "DeadlineExceeded")
    ran = [a_pod(job, GENERATE, status="Running")]
    assert "Failed" not in conditions(decide(observation(job, [a_child(job, GENERATE)], ran)))


def test_too_many_disruptions_end_a_job_that_gets_nowhere() -> None:
    job = a_job()
    limits = SETTINGS.limits
    allowed = (limits.disruption_base + limits.disruption_per_shard) * 10
    pods = [
        a_pod(job, GENERATE, index=n, status="Failed", exit_code=ExitCode.CHECKPOINTED)
        for n in range(allowed + 1)
    ]
    result = decide(observation(job, [a_child(job, GENERATE, suspended=True)], pods))
    assert conditions(result)["Failed"] == ("True", "DisruptionsHigh")


def test_the_last_words_of_a_retried_pod_count() -> None:
    job = a_job()
    early = error_message(RunnerPhase.ALL, "InputUnreadable", "early")
    late = error_message(RunnerPhase.ALL, "OutputUnwritable", "late")
    pods = [
        a_pod(job, GENERATE, index=1, status="Failed", exit_code=75, message=early),
        a_pod(
            job,
            GENERATE,
            index=2,
            status="Failed",
            exit_code=75,
            message=late,
            finished=timedelta(minutes=1),
        ),
    ]
    result = decide(observation(job, [a_child(job, GENERATE, failed="FailedIndexes")], pods))
    assert conditions(result)["Failed"] == ("True", "OutputUnwritable")


def test_a_pod_without_a_message_leaves_the_end_of_its_log() -> None:
    job = a_job()
    pods = [
        a_pod(job, GENERATE, status="Failed", exit_code=1, message="Traceback\nKeyError: 'text'")
    ]
    child = a_child(job, GENERATE, failed="FailedIndexes", failed_pods=4)
    result = decide(observation(job, [child], pods))
    assert result.status is not None
    told = status.find(result.status, ConditionType.FAILED)
    assert told is not None
    assert told.reason == "ShardBackoffExceeded"
    assert "KeyError: 'text'" in told.message


def test_a_newer_runner_s_message_is_read_as_far_as_it_is_understood() -> None:
    text = '{"phase":"finalize","totals":{"records":{"in":1,"done":1}},"unheardOf":true}'
    message = wire.parse_termination_message(text)
    assert message == TerminationMessage(
        phase=FINALIZE, totals=Totals(records=RecordCounts(in_=1, done=1))
    )


def test_report_is_a_phase_of_its_own() -> None:
    job = a_job(shards=3)
    verdict = [
        a_child(job, FINALIZE, complete=True, verdict=ALL_GOOD),
        a_child(job, REPORT, active=1),
    ]
    result = decide(observation(job, verdict))
    assert result.actions == ()
    assert result.requeue_after_seconds == 540, "ten minutes after it was created"
