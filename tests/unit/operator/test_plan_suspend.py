"""What the operator does about a job that is suspended, by its user or by a queue."""

from __future__ import annotations

from datetime import timedelta

from kubesynth_api.conditions import ConditionType, Reason
from kubesynth_api.runner_contract import Estimate, RunnerPhase
from kubesynth_operator import wire
from kubesynth_operator.actions import CreateJob, DeleteJob, PatchJob
from kubesynth_operator.observation import ReferenceKind, Referent
from kubesynth_testing.builders import NOW, a_child, a_job, a_pod, a_status, observation
from kubesynth_testing.decisions import CLAIMS, after, conditions, created, decide
from kubesynth_testing.operator_harness import run_message

PLAN, GENERATE = RunnerPhase.PLAN, RunnerPhase.GENERATE
FINALIZE, REPORT = RunnerPhase.FINALIZE, RunnerPhase.REPORT


def test_suspend_stops_every_pod_and_looks_no_more() -> None:
    job = a_job(shards=3, suspend=True)
    children = [
        a_child(job, PLAN, complete=True),
        a_child(job, GENERATE, active=3, ready=3),
    ]
    result = decide(observation(job, children))
    assert result.actions == (PatchJob("qa-generate", children[1].uid, "suspend", True),)
    assert result.requeue_after_seconds is None
    assert conditions(result)["Suspended"] == ("True", "SuspendedByUser")
    assert conditions(result)["Running"] == ("False", "SuspendedByUser")
    assert result.status is not None
    assert result.status.phase == "Suspended"


def test_that_the_last_pod_of_a_suspended_job_is_gone_is_said_at_once() -> None:
    job = a_job(shards=3, suspend=True)
    stopping = observation(job, [a_child(job, GENERATE, suspended=True, active=2, completed="0")])
    before = decide(stopping)
    stopped = a_child(job, GENERATE, suspended=True, completed="0")
    result = decide(after(stopping, before, children={GENERATE: stopped}))
    assert result.status is not None
    assert result.status.shards.active == 0
    assert not result.progress_only


def test_a_job_created_suspended_creates_nothing_and_its_clock_stands_still() -> None:
    result = decide(observation(a_job(suspend=True), referents=CLAIMS))
    assert result.actions == ()
    assert result.status is not None
    assert result.status.start_time is None


def test_resume_starts_the_clock_again_and_lets_the_jobs_run() -> None:
    long_ago = wire.format_time(NOW - timedelta(days=1))
    before = a_status(
        (ConditionType.SUSPENDED, True, Reason.SUSPENDED_BY_USER), start_time=long_ago
    )
    job = a_job(status=before, deadlines={"activeSeconds": 60})
    child = a_child(job, GENERATE, suspended=True)
    result = decide(observation(job, [child]))
    assert result.actions == (PatchJob("qa-generate", child.uid, "suspend", False),)
    assert conditions(result)["Suspended"] == ("False", "Resumed")
    assert "Failed" not in conditions(result), "a suspended job is not late"
    assert result.status is not None
    assert result.status.start_time == wire.format_time(NOW)


MISSING = {**CLAIMS, (ReferenceKind.CLAIM, "corpus"): Referent(exists=False)}


def test_the_time_suspended_does_not_count_for_a_job_that_is_refused_on_resume_either() -> None:
    long_ago = wire.format_time(NOW - timedelta(days=1))
    before = a_status(
        (ConditionType.SUSPENDED, True, Reason.SUSPENDED_BY_USER), start_time=long_ago
    )
    job = a_job(shards=3, status=before, deadlines={"activeSeconds": 60})
    planning = a_child(job, PLAN, suspended=True)
    seen = observation(job, [planning], referents=MISSING)
    parked = decide(seen)
    assert parked.actions == ()
    assert conditions(parked)["Accepted"] == ("False", "ReferenceNotFound")
    assert conditions(parked)["Running"] == ("False", "NotStarted")
    result = decide(after(seen, parked, referents=CLAIMS))
    assert result.actions == (PatchJob("qa-plan", planning.uid, "suspend", False),)
    assert conditions(result)["Suspended"] == ("False", "Resumed")
    assert result.status is not None
    assert result.status.start_time == wire.format_time(NOW)


def test_what_still_runs_of_a_refused_job_is_stopped_when_its_user_suspends_it() -> None:
    job = a_job(shards=3, suspend=True)
    planning = a_child(job, PLAN, active=1, ready=1)
    result = decide(observation(job, [planning], referents=MISSING))
    assert result.actions == (PatchJob("qa-plan", planning.uid, "suspend", True),)
    assert conditions(result)["Accepted"] == ("False", "ReferenceNotFound")
    assert conditions(result)["Suspended"] == ("True", "SuspendedByUser")
    assert conditions(result)["Running"] == ("False", "SuspendedByUser")


def test_a_suspended_job_that_is_done_is_done() -> None:
    job = a_job(suspend=True)
    pods = [
        a_pod(job, GENERATE, status="Succeeded", exit_code=0, message=run_message(RunnerPhase.ALL))
    ]
    result = decide(observation(job, [a_child(job, GENERATE, complete=True)], pods))
    assert conditions(result)["Complete"] == ("True", "AllShardsSucceeded")


def test_a_queued_job_is_created_suspended_and_never_patched() -> None:
    job = a_job(queue="team-a", shards=3, status=a_status(estimate=Estimate()))
    result = decide(observation(job, referents=CLAIMS))
    (action,) = (action for action in result.actions if isinstance(action, CreateJob))
    assert action.manifest["spec"]["suspend"] is True
    assert action.manifest["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    waiting = decide(observation(job, [a_child(job, GENERATE)]))
    assert waiting.actions == ()
    assert conditions(waiting)["Running"] == ("False", "SuspendedByQueue")
    assert waiting.status is not None
    assert waiting.status.phase == "Queued"


def test_a_queued_job_gives_its_quota_back_when_the_user_suspends_it() -> None:
    job = a_job(queue="team-a", suspend=True)
    child = a_child(job, GENERATE, suspended=False, active=1)
    assert decide(observation(job, [child])).actions == (DeleteJob("qa-generate", child.uid),)


def test_a_plan_job_is_never_queued() -> None:
    result = decide(observation(a_job(queue="team-a", shards=3), referents=CLAIMS))
    (action,) = (action for action in result.actions if isinstance(action, CreateJob))
    assert action.manifest["spec"]["suspend"] is False
    assert "kueue.x-k8s.io/queue-name" not in action.manifest["metadata"]["labels"]


def test_a_job_without_a_queue_that_is_held_before_its_first_pod_is_not_fought_over() -> None:
    job = a_job(shards=3)
    seen = observation(job, [a_child(job, PLAN, suspended=True, generation=1)])
    held = decide(seen)
    assert held.actions == ()
    assert conditions(held)["QuotaReserved"] == ("False", "QueueNameMissing")
    assert conditions(held)["Running"] == ("False", "SuspendedByQueue")
    assert held.status is not None
    assert held.status.phase == "Queued"
    messages = [item.message for item in held.status.conditions if item.type == "QuotaReserved"]
    assert messages[0].startswith("The Job qa-plan has no queue")
    assert decide(after(seen, held)).actions == ()
    let_go = decide(after(seen, held, children={PLAN: a_child(job, PLAN, active=1)}))
    assert conditions(let_go)["Suspended"] == ("False", "Resumed")
    assert conditions(let_go)["Running"] == ("True", "Planning")
    assert "QuotaReserved" not in conditions(let_go)


def test_a_job_that_is_held_is_left_alone_whatever_its_user_changes() -> None:
    before = a_status((ConditionType.SUSPENDED, True, Reason.SUSPENDED_BY_USER))
    job = a_job(status=before, shards=3)
    child = a_child(job, GENERATE, suspended=True, generation=1, parallelism=2)
    result = decide(observation(job, [a_child(job, PLAN, complete=True), child]))
    assert result.actions == ()
    assert conditions(result)["Suspended"] == ("True", "SuspendedByQueue")


LATE = wire.format_time(NOW - timedelta(hours=5))
HOUR = {"activeSeconds": 3600}


def test_the_time_in_the_queue_is_not_the_job_s_and_admission_starts_the_clock() -> None:
    job = a_job(queue="team-a", deadlines=HOUR, status=a_status(start_time=LATE))
    seen = observation(job, [a_child(job, GENERATE, suspended=True)])
    waiting = decide(seen)
    assert waiting.actions == ()
    assert "Failed" not in conditions(waiting)
    assert waiting.status is not None
    assert waiting.status.start_time == LATE
    runs = after(seen, waiting, children={GENERATE: a_child(job, GENERATE, suspended=False)})
    admitted = decide(runs)
    assert admitted.actions == ()
    assert admitted.status is not None
    assert admitted.status.start_time == wire.format_time(NOW)
    assert decide(after(runs, admitted)).requeue_after_seconds == 3600


def test_the_clock_of_a_job_that_lost_its_quota_stands_still() -> None:
    before = a_status((ConditionType.QUOTA_RESERVED, True, Reason.ADMITTED), start_time=LATE)
    job = a_job(queue="team-a", deadlines=HOUR, status=before)
    preempted = decide(observation(job, [a_child(job, GENERATE, suspended=True, active=1)]))
    assert conditions(preempted)["QuotaReserved"] == ("False", "Preempted")
    assert preempted.actions == ()


def test_a_job_at_work_is_late_with_a_queue_too() -> None:
    before = a_status((ConditionType.QUOTA_RESERVED, True, Reason.ADMITTED), start_time=LATE)
    job = a_job(queue="team-a", deadlines=HOUR, status=before)
    child = a_child(job, GENERATE, suspended=False, active=1)
    assert decide(observation(job, [child])).actions == (DeleteJob("qa-generate", child.uid),)


def test_a_job_may_have_to_begin_in_time_although_it_is_queued() -> None:
    fields = {"pendingSeconds": 3600}
    job = a_job(queue="team-a", deadlines=fields, status=a_status(start_time=LATE))
    child = a_child(job, GENERATE, suspended=True)
    assert decide(observation(job, [child])).actions == (DeleteJob("qa-generate", child.uid),)


def test_a_job_that_is_late_in_its_queue_gets_no_new_time_for_being_taken_out_of_it() -> None:
    before = a_status((ConditionType.SUSPENDED, True, Reason.SUSPENDED_BY_QUEUE), start_time=LATE)
    job = a_job(queue="team-a", deadlines={"pendingSeconds": 3600}, status=before)
    going = a_child(job, GENERATE, suspended=True, deleting=True, terminating=1)
    seen = observation(job, [going], referents=CLAIMS)
    stopping = decide(seen)
    assert stopping.status is not None
    assert stopping.status.start_time == LATE
    result = decide(after(seen, stopping, children={}))
    assert created(result.actions) == []
    assert conditions(result)["Failed"] == ("True", "DeadlineExceeded")


def test_the_time_in_the_queue_does_not_count_for_a_job_that_is_refused_meanwhile_either() -> None:
    before = a_status((ConditionType.SUSPENDED, True, Reason.SUSPENDED_BY_QUEUE), start_time=LATE)
    job = a_job(shards=3, queue="team-a", deadlines=HOUR, status=before)
    waits = a_child(job, PLAN, suspended=True)
    seen = observation(job, [waits], referents={})
    refused = decide(seen)
    assert conditions(refused)["Accepted"] == ("False", "ReferenceNotFound")
    admitted = a_child(job, PLAN, suspended=False, active=1)
    result = decide(after(seen, refused, children={PLAN: admitted}, referents=CLAIMS))
    assert conditions(result)["Running"] == ("True", "Planning")
    assert result.status is not None
    assert result.status.start_time == wire.format_time(NOW)
