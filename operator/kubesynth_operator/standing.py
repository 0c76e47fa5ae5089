"""Where a job stands, in conditions. Pure."""

from __future__ import annotations

from kubesynth_api.conditions import ConditionType, Reason
from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_operator import draft, status
from kubesynth_operator.assess import Assessment
from kubesynth_operator.observation import ChildJob, Observation, ObstacleKind
from kubesynth_operator.policies import model_servers, queueing, suspend, waiting
from kubesynth_operator.status import Verdict


def _held(child: ChildJob) -> str:
    return (
        f"The Job {child.name} has no queue, and is held back for that: Kueue seems to manage Jobs "
        "without a queue's name here. To go on, label that Job with kueue.x-k8s.io/queue-name; for "
        "later jobs, label the SyntheticDataJob, and install the operator with jobs.queueAll=true."
    )


def running(observation: Observation, phase: RunnerPhase, assessment: Assessment) -> Verdict:
    """Return whether pods are at work for `phase`, and if not, why."""
    child = observation.children.get(phase)
    if observation.obstacles and child is None:
        return Verdict(False, Reason.NOT_STARTED, observation.obstacles[0].message)
    if child is None and not observation.children and _awaits_servers(observation):
        return Verdict(False, Reason.NOT_STARTED, "The model servers are being set up.")
    if child is not None and child.queued and child.suspended:
        who = "The shards wait" if phase is RunnerPhase.GENERATE else f"The Job {child.name} waits"
        return Verdict(False, Reason.SUSPENDED_BY_QUEUE, f"{who} for the queue.")
    if child is not None and suspend.is_held(child):
        return Verdict(False, Reason.SUSPENDED_BY_QUEUE, _held(child))
    refused = assessment.degraded
    if phase in observation.podless_since and refused and refused.reason is Reason.PODS_NOT_CREATED:
        return Verdict(False, refused.reason, refused.message)
    reason = draft.running_reason(phase)
    stuck = waiting.describe(observation.pods_of(phase))
    if stuck:
        return Verdict(True, reason, f"Pods wait: {stuck}")
    said = observation.live.said_by(phase) if observation.live is not None else ""
    return Verdict(True, reason, draft.running_message(reason, said))


def _awaits_servers(observation: Observation) -> bool:
    return model_servers.resolved(observation.spec, observation.servers) is None


def refused(observation: Observation) -> dict[ConditionType, Verdict]:
    """Return the verdicts of a job that may not go on now, but for the reason.

    That it was suspended is kept until it goes on: its clock stands still as long.
    """
    before = observation.job.status
    verdicts = {
        ConditionType.COMPLETE: Verdict(False, Reason.NOT_COMPLETE, "The job is not accepted."),
        ConditionType.RUNNING: Verdict(False, Reason.NOT_STARTED, "The job is not accepted."),
    }
    if status.suspended_by_user(before):
        verdicts[ConditionType.SUSPENDED] = Verdict(
            True, Reason.SUSPENDED_BY_USER, "It was suspended, and goes on when it is accepted."
        )
    elif observation.children:
        verdicts |= status.stored(before, ConditionType.RUNNING)
        if status.suspended_by_queue(before):
            verdicts |= status.stored(before, ConditionType.SUSPENDED)
    if observation.children:
        verdicts |= status.stored(before, ConditionType.MODELS_READY)
    return verdicts


def suspended() -> dict[ConditionType, Verdict]:
    """Return the verdicts on a job that its user has suspended."""
    return {
        ConditionType.RUNNING: Verdict(
            False, Reason.SUSPENDED_BY_USER, "Nothing is started while spec.suspend is true."
        ),
        ConditionType.SUSPENDED: Verdict(
            True, Reason.SUSPENDED_BY_USER, "spec.suspend is true; what is done is kept."
        ),
    }


def accepted(observation: Observation, assessment: Assessment) -> dict[ConditionType, Verdict]:
    """Return the verdicts of every job that is neither refused nor at its end."""
    verdicts = {
        ConditionType.ACCEPTED: Verdict(True, Reason.VALID, "The spec is valid."),
        ConditionType.MODELS_READY: Verdict(
            *model_servers.readiness(observation.spec, observation.servers)
        ),
        ConditionType.COMPLETE: Verdict(False, Reason.NOT_COMPLETE, "The job has not ended."),
    }
    for obstacle in observation.obstacles:
        if obstacle.kind is ObstacleKind.STRANGER:
            verdicts[ConditionType.DEGRADED] = Verdict(
                True, Reason.CHILD_CONFLICT, obstacle.message
            )
            return verdicts
    if assessment.degraded is not None:
        problem = assessment.degraded
        verdicts[ConditionType.DEGRADED] = Verdict(True, problem.reason, problem.message)
    return verdicts


def queue(observation: Observation) -> dict[ConditionType, Verdict]:
    """Return what the job's queue has decided; nothing without a queue that holds it."""
    job = observation.job
    for child in observation.children.values():
        if suspend.is_held(child):
            message = _held(child)
            return {
                ConditionType.QUOTA_RESERVED: Verdict(False, Reason.QUEUE_NAME_MISSING, message),
                ConditionType.SUSPENDED: Verdict(True, Reason.SUSPENDED_BY_QUEUE, message),
            }
    generate = observation.children.get(RunnerPhase.GENERATE)
    before = status.find(job.status, ConditionType.QUOTA_RESERVED)
    admitted = before is not None and before.reason in (Reason.ADMITTED, Reason.PREEMPTED)
    found = queueing.verdict(generate, job.queue_name, was_admitted=admitted)
    if found is None:
        return {}
    reserved, problem = found
    verdicts = {ConditionType.QUOTA_RESERVED: Verdict(reserved, problem.reason, problem.message)}
    waits = [child for child in observation.children.values() if child.waits_in_queue]
    if waits:
        message = f"The Job {waits[0].name} waits for the queue."
        if waits[0] is generate:
            message = problem.message
        verdicts[ConditionType.SUSPENDED] = Verdict(True, Reason.SUSPENDED_BY_QUEUE, message)
    return verdicts


def resumed(observation: Observation) -> dict[ConditionType, Verdict]:
    """Return Suspended=False for a job that once was suspended."""
    before = status.find(observation.job.status, ConditionType.SUSPENDED)
    if before is None or ConditionType.SUSPENDED in queue(observation):
        return {}
    return {ConditionType.SUSPENDED: Verdict(False, Reason.RESUMED, "The job goes on.")}
