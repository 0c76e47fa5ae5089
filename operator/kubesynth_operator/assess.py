"""From an observation to the situation that the sequence of Jobs is decided by. Pure.

Combines the policies that look at single things (how a Job ended, whether time is up, how often
pods were taken away), and decides from the status what can no longer be seen in the cluster: a Job
that finished and was deleted since is not run again.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta

from kubesynth_api.conditions import ConditionType, Reason
from kubesynth_api.references import references
from kubesynth_api.runner_contract import RunnerPhase, TerminationMessage
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_operator import status, wire
from kubesynth_operator.observation import (
    ENDS_OF_SHARDS,
    ChildJob,
    Observation,
    Outcome,
    Pod,
    Problem,
    Progress,
)
from kubesynth_operator.policies import (
    access_modes,
    deadlines,
    disruptions,
    model_servers,
    outcome,
    podless,
    progress,
)
from kubesynth_operator.policies.sequence import Situation, State
from kubesynth_operator.settings import OperatorSettings

_TOTALS_PHASES = frozenset({RunnerPhase.FINALIZE, RunnerPhase.ALL, RunnerPhase.REPORT})
_SAID_OF_SHARDS = frozenset({Reason.SHARDS_ACTIVE, Reason.FINALIZING}) | ENDS_OF_SHARDS


@dataclasses.dataclass(frozen=True, slots=True)
class Assessment:
    """What the policies say about an observation, before anything is decided."""

    situation: Situation
    deadline: deadlines.Verdict
    totals: TerminationMessage | None
    plan_message: TerminationMessage | None
    degraded: Problem | None


def assess(observation: Observation, settings: OperatorSettings) -> Assessment:
    """Look at a job whose spec is valid."""
    spec, children = observation.spec, observation.children
    disrupted = disruptions.count(observation.pods)
    deadline = deadlines.check(
        spec.deadlines,
        _clock_started_at(observation),
        observation.now,
        pods_have_run=_pods_have_run(observation),
        in_queue=_in_queue(observation),
        grace_seconds=settings.limits.finalize_grace_seconds,
    )
    totals = run_totals(observation)
    finalize = children.get(RunnerPhase.FINALIZE)
    situation = Situation(
        sharded=spec.shards.count > 1,
        plan=_plan_state(observation),
        generate=_generate_state(observation),
        generate_was_there=_generate_was_there(observation),
        finalize=_state(observation, finalize),
        report=_state(observation, children.get(RunnerPhase.REPORT)),
        verdict=finalize.outcome if finalize else None,
        totals_known=totals is not None,
        interruption=_early_end(observation)
        or deadline.exceeded
        or disruptions.exceeded(disrupted, settings.limits, spec.shards.count)
        # Whoever has suspended the job may be mending the server.
        or (None if spec.suspend else model_servers.failed(spec, observation.servers)),
        finalize_overdue=deadline.exceeded if deadline.out_of_patience else None,
        report_overdue=deadline.out_of_patience or _report_overdue(observation, settings),
    )
    return Assessment(
        situation=situation,
        deadline=deadline,
        totals=totals,
        plan_message=_message_of(observation.pods_of(RunnerPhase.PLAN)),
        degraded=_degraded(observation, settings, disrupted),
    )


def _early_end(observation: Observation) -> Outcome | None:
    """Return how the job ends because its budget is spent, or its target reached or out of reach.

    Once that was decided it stays so, whoever has forgotten why: shards have been stopped for it.
    A job of one shard is a single pod, which ends by itself at a cap: to stop it then would take
    its report away.
    """
    running = status.find(observation.job.status, ConditionType.RUNNING)
    if running is not None and running.reason in ENDS_OF_SHARDS:
        return outcome.early(Reason(running.reason), observation.spec)
    leases = observation.leases
    if leases is None or leases.ended is None or observation.spec.shards.count == 1:
        return None
    return outcome.early(leases.ended, observation.spec)


def with_target(end: Outcome, assessment: Assessment, spec: SyntheticDataJobSpec) -> Outcome:
    """Return how a job ends that has used up its input: with its target reached or missed."""
    ended = ended_by(assessment.totals)
    if ended is None or end.reason is not Reason.ALL_SHARDS_SUCCEEDED:
        return end
    return outcome.early(ended, spec)


def slots(observation: Observation) -> int:
    """Return how many shards may be at work at once: no more than there are shares for."""
    wanted = mountable_parallelism(observation)
    generate = observation.children.get(RunnerPhase.GENERATE)
    if generate is None or wanted <= generate.parallelism or generate.first_share is None:
        return wanted
    # Until the shares are known nothing may start beyond what has been reckoned with.
    known = observation.leases
    return generate.parallelism if known is None else min(wanted, known.slots)


def wants_more_shards(observation: Observation) -> bool:
    """Tell whether more shards are wanted at work at once than their Job allows."""
    generate = observation.children.get(RunnerPhase.GENERATE)
    if generate is None or generate.finished:
        return False
    return min(observation.spec.parallelism, generate.completions) > generate.parallelism


def mountable_parallelism(observation: Observation) -> int:
    """Return the parallelism that is wanted; the present one if volumes do not allow more."""
    generate = observation.children.get(RunnerPhase.GENERATE)
    if generate is None or _unmountable(observation) is None:
        return observation.spec.parallelism
    return generate.parallelism


def _unmountable(observation: Observation) -> Problem | None:
    """Return which volume more shards at once could not mount, if more are wanted."""
    if observation.referents is None or not wants_more_shards(observation):
        return None
    spec = observation.spec
    return access_modes.problem_with(spec, references(spec), observation.referents)


def _clock_started_at(observation: Observation) -> datetime | None:
    """Return when the deadlines' clock started; it stands still while the job is suspended."""
    before = observation.job.status
    if observation.spec.suspend or status.suspended_by_user(before):
        return None
    return wire.parse_time(before.start_time)


def _in_queue(observation: Observation) -> bool:
    """Tell whether a Job waits for its queue, or did until this moment."""
    return status.suspended_by_queue(observation.job.status) or any(
        child.waits_in_queue for child in observation.children.values()
    )


def run_totals(observation: Observation) -> TerminationMessage | None:
    """Return the message with the run's totals: the truth, from finalize, all or report."""
    speaking = [
        pod
        for pod in observation.pods
        if pod.status == "Succeeded"
        and pod.message is not None
        and pod.message.totals is not None
        and pod.message.phase in _TOTALS_PHASES
    ]
    return _message_of(speaking)


def ended_by(message: TerminationMessage | None) -> Reason | None:
    """Return what the run says of its budget and target, if there is anything to say."""
    known = {Reason.BUDGET_SPENT, Reason.TARGET_REACHED, Reason.TARGET_MISSED}
    if message is None or message.ended not in known:
        return None
    return Reason(message.ended)


def _message_of(pods: list[Pod] | tuple[Pod, ...]) -> TerminationMessage | None:
    """Return the newest message of pods that succeeded."""
    spoke = [pod for pod in pods if pod.status == "Succeeded" and pod.message is not None]
    return max(spoke, key=lambda pod: (pod.finished_at, pod.name)).message if spoke else None


def _state(observation: Observation, child: ChildJob | None) -> State | Outcome:
    if child is None:
        return State.ABSENT
    if child.deleting:
        return State.RUNNING
    spec = observation.spec
    if spec.shards.count == 1 and child.progress is Progress.COMPLETE:
        why = ended_by(run_totals(observation))
        if why is not None:
            return outcome.early(why, spec)
    ended = outcome.of_job(
        child,
        observation.pods_of(child.phase),
        max_failed_shards=spec.failure_policy.max_failed_shards,
        shard_count=spec.shards.count,
    )
    # One that waits in a queue is started by the queue, at any moment.
    stopped = child.quiet and not child.queued
    return ended or (State.STOPPED if stopped else State.RUNNING)


def _plan_state(observation: Observation) -> State | Outcome:
    child = observation.children.get(RunnerPhase.PLAN)
    before = observation.job.status
    if child is None and (before.estimate is not None or _generate_was_there(observation)):
        return outcome.all_succeeded(1)
    return _state(observation, child)


def _generate_state(observation: Observation) -> State | Outcome:
    child = observation.children.get(RunnerPhase.GENERATE)
    spec, seen = observation.spec, observation.job.status.shards
    if child is None and seen.total and seen.succeeded + seen.failed >= seen.total:
        return outcome.of_shards_seen(
            seen.failed_indexes, spec.failure_policy.max_failed_shards, spec.shards.count
        )
    return _state(observation, child)


def _generate_was_there(observation: Observation) -> bool:
    """Tell whether shards were started, by what was said when they were last seen or stopped.

    Or by their leases: a user's suspension leaves nothing of that in the status.
    """
    if observation.leases is not None:
        return True
    before = observation.job.status
    running = status.find(before, ConditionType.RUNNING)
    started = running is not None and running.reason in _SAID_OF_SHARDS
    return started or before.shards.succeeded + before.shards.failed + before.shards.active > 0


def _pods_have_run(observation: Observation) -> bool:
    return any(
        child.finished or child.ready or child.failed_pods or child.completed_indexes
        for child in observation.children.values()
    ) or any(pod.status != "Pending" for pod in observation.pods)


def _report_overdue(observation: Observation, settings: OperatorSettings) -> bool:
    """Tell whether report has had its time: it must not keep a job from ending."""
    report = observation.children.get(RunnerPhase.REPORT)
    if report is None or report.finished:
        return False
    patience = timedelta(seconds=settings.limits.finalize_grace_seconds)
    return observation.now - report.created_at >= patience


def report_due_seconds(observation: Observation, settings: OperatorSettings) -> float | None:
    """Return when to look at a running report Job again, or None."""
    report = observation.children.get(RunnerPhase.REPORT)
    if report is None or report.finished:
        return None
    patience = timedelta(seconds=settings.limits.finalize_grace_seconds)
    return max((report.created_at + patience - observation.now).total_seconds(), 1.0)


def _refused_pods(observation: Observation, settings: OperatorSettings) -> Problem | None:
    """Return what to say about a Job whose pods cannot be made."""
    said = status.find(observation.job.status, ConditionType.DEGRADED)
    for phase, seconds in _podless_due(observation, settings).items():
        # What was said once holds until there is a pod, also for an operator that has just begun.
        if seconds <= 0 or (said is not None and said.reason == Reason.PODS_NOT_CREATED):
            return podless.problem_of(observation.children[phase])
    return None


def podless_due_seconds(observation: Observation, settings: OperatorSettings) -> float | None:
    """Return when to look again at Jobs that have no pods yet, or None."""
    waits = [each for each in _podless_due(observation, settings).values() if each > 0]
    return min(waits, default=None)


def _podless_due(observation: Observation, settings: OperatorSettings) -> dict[RunnerPhase, float]:
    return {
        phase: podless.due_in_seconds(
            observation.children[phase],
            observation.pods_of(phase),
            (observation.now - since).total_seconds(),
            patience_seconds=settings.limits.podless_seconds,
        )
        for phase, since in observation.podless_since.items()
    }


def _degraded(
    observation: Observation, settings: OperatorSettings, disrupted: int
) -> Problem | None:
    limits, live = settings.limits, observation.live
    warning = (
        _refused_pods(observation, settings)
        or disruptions.degraded(disrupted, limits, observation.spec.shards.count)
        or _unmountable(observation)
    )
    if warning is not None or live is None:
        return warning
    since = live.unreachable_since
    # An endpoint may take a day for a batch, in which no counter moves.
    in_batches = observation.spec.execution == "Batch"
    return progress.degraded(
        live,
        (observation.now - live.changed_at).total_seconds(),
        (observation.now - since).total_seconds() if since else 0.0,
        stall_seconds=limits.batch_stall_seconds if in_batches else limits.stall_seconds,
        unreachable_seconds=limits.unreachable_seconds,
    )
