"""The decision: one job, one look, one plan. Pure: the same observation gives the same plan.

Reads top to bottom as the life of a job. A job that is being deleted, or that another controller
manages, is left alone. One that has ended is only cleaned up. One that cannot be accepted is parked
until that changes. All others are moved on by one step, unless they are suspended.
"""

from __future__ import annotations

import dataclasses
from typing import assert_never

from kubesynth_api.conditions import ConditionType, Reason
from kubesynth_api.labels import MANAGED_BY
from kubesynth_api.references import references as references_of
from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobStatus
from kubesynth_operator import assess, draft, job_servers, standing, status, wire
from kubesynth_operator.actions import (
    IDLE,
    Action,
    ApplyNetworkPolicy,
    CreateConfigMap,
    CreateJob,
    CreateTokenSecret,
    DeleteCustomResource,
    Plan,
)
from kubesynth_operator.assess import Assessment
from kubesynth_operator.draft import Draft
from kubesynth_operator.observation import Observation, Obstacle, ObstacleKind, Outcome, Problem
from kubesynth_operator.policies import (
    acceptance,
    access_modes,
    model_servers,
    progress,
    references,
    sequence,
    suspend,
    ttl,
)
from kubesynth_operator.resources import (
    lease_secret,
    naming,
    network_policy,
    run_config_map,
    runner_job,
)
from kubesynth_operator.settings import OperatorSettings
from kubesynth_operator.status import Verdict

# How soon to try again to create a child whose name is taken, or that was refused.
_PREDECESSOR_SECONDS = 2.0
_OBSTACLE_SECONDS = 30.0
# Conditions that only looking again can change.
_RECHECKED = frozenset(
    {Reason.REFERENCE_NOT_FOUND, Reason.REFERENCE_DENIED, Reason.ACCESS_MODE_CONFLICT}
)


def reconcile(observation: Observation, settings: OperatorSettings) -> Plan:
    """Decide what to do about one job, and what to say about it."""
    job = observation.job
    if job.deleting:
        return IDLE
    if job.managed_by != MANAGED_BY:
        return _leave_to_others(observation)
    if status.has_ended(job.status):
        return _clean_up(observation)
    problem = _problem_with(observation, settings)
    if problem is not None:
        return _park(observation, settings, problem)
    assessment = assess.assess(observation, settings)
    step = sequence.next_step(assessment.situation)
    if isinstance(step, sequence.Finish):
        return _finish(observation, assessment, step.outcome)
    if observation.spec.suspend:
        return _suspend(observation, assessment)
    return _move_on(observation, settings, assessment, step)


def _problem_with(observation: Observation, settings: OperatorSettings) -> Problem | None:
    """Return why the job must not go on.

    The spec is judged before the first Job is created, and never again: it cannot change in what
    matters, and a newer, stricter operator must not stop what an older one has begun. References
    are judged as long as Jobs that mount them are to be created; whether more pods at once may
    mount them is judged whenever there are to be more.
    """
    job = observation.job
    if job.spec is None or not observation.children:
        problem = acceptance.problem_with(
            job, observation.referents, plugin_files=settings.plugin_files
        )
        if problem is not None:
            return problem
    if observation.referents is None or RunnerPhase.GENERATE in observation.children:
        return None
    found = references_of(observation.spec)
    return (
        references.problem_with(found, observation.referents)
        or access_modes.problem_with(observation.spec, found, observation.referents)
        or model_servers.problem_with(observation.spec, observation.servers)
    )


def _leave_to_others(observation: Observation) -> Plan:
    """Say once that the job is somebody else's, and never touch it again."""
    job = observation.job
    if job.status.conditions:
        return IDLE
    verdict = Verdict(
        False,
        Reason.MANAGED_EXTERNALLY,
        f"spec.managedBy names {job.managed_by!r}; this operator is {MANAGED_BY!r}.",
    )
    conditions = status.merge(
        (), {ConditionType.ACCEPTED: verdict}, generation=job.generation, now=observation.now
    )
    after = status.with_phase(
        job.status.model_copy(
            update={"observed_generation": job.generation, "conditions": conditions}
        )
    )
    return _plan(observation, after)


def _clean_up(observation: Observation) -> Plan:
    """Stop what a failed job left running, and delete the job when its time to live is over."""
    job = observation.job
    actions: tuple[Action, ...] = suspend.stop(observation.children.values())
    ended_at = wire.parse_time(job.status.completion_time)
    remaining = None
    if job.spec is not None and ended_at is not None:
        remaining = ttl.remaining_seconds(job.spec.cleanup, ended_at, observation.now)
    actions += job_servers.give_back(observation)
    if remaining == 0:
        actions += (DeleteCustomResource(job.uid),)
    # The conditions are final, but they are about this generation too.
    conditions = tuple(
        condition.model_copy(update={"observed_generation": job.generation})
        for condition in job.status.conditions
    )
    after = job.status.model_copy(
        update={"observed_generation": job.generation, "conditions": conditions}
    )
    return _plan(observation, after, actions, requeue_after_seconds=remaining or None)


def _park(observation: Observation, settings: OperatorSettings, problem: Problem) -> Plan:
    """Refuse the job for now; nothing new is started. What runs may go on, unless suspended."""
    job = observation.job
    actions: tuple[Action, ...] = ()
    verdicts = standing.refused(observation)
    if job.spec is not None and job.spec.suspend:
        actions = suspend.stop(observation.children.values())
        verdicts |= standing.suspended()
    verdicts[ConditionType.ACCEPTED] = Verdict(False, problem.reason, problem.message)
    recheck = None
    if _may_pass(observation, problem):
        since = status.find(job.status, ConditionType.ACCEPTED)
        parked_at = wire.parse_time(since.last_transition_time) if since else None
        recheck = references.recheck_after(
            observation.now - (parked_at or observation.now),
            first_seconds=settings.limits.reference_recheck_seconds,
            max_seconds=settings.limits.reference_recheck_max_seconds,
        )
    after = draft.compose(observation, Draft(verdicts))
    return _plan(observation, after, actions, requeue_after_seconds=recheck)


def _may_pass(observation: Observation, problem: Problem) -> bool:
    """Tell whether the problem may go away without a change of the job: then look again."""
    if problem.reason is Reason.INVALID_SPEC and observation.job.spec is not None:
        # It may be a prompt in a ConfigMap that is wrong.
        return bool(references_of(observation.spec).config_maps)
    return problem.reason in _RECHECKED


def _suspend(observation: Observation, assessment: Assessment) -> Plan:
    """Stop all pods and wait, for as long as the user likes: nothing is looked at again."""
    verdicts = standing.accepted(observation, assessment) | standing.suspended()
    after = draft.compose(observation, Draft(verdicts, settled=True), assessment)
    return _plan(observation, after, suspend.stop(observation.children.values()))


def _move_on(
    observation: Observation,
    settings: OperatorSettings,
    assessment: Assessment,
    step: sequence.Create | sequence.Await | sequence.Stop,
) -> Plan:
    """Take the next step, and say where the job stands."""
    actions: tuple[Action, ...]
    match step:
        case sequence.Create():
            actions = () if observation.obstacles else _create(observation, settings, step)
            running = standing.running(observation, step.phase, assessment)
        case sequence.Await():
            # No other Job: shards that a deadline has stopped stay so while finalize runs.
            current = observation.children.get(step.phase)
            actions = job_servers.bring_back(observation, step.phase)
            actions += suspend.let_run(current, assess.slots(observation))
            running = standing.running(observation, step.phase, assessment)
        case sequence.Stop():
            child = observation.children[step.phase]
            actions = suspend.stop([child])
            reason = step.because.early_reason or draft.running_reason(step.phase)
            running = Verdict(True, reason, f"Stopping: {step.because.message}")
        case _ as never:
            assert_never(never)
    verdicts = standing.accepted(observation, assessment) | {ConditionType.RUNNING: running}
    verdicts |= standing.queue(observation) | standing.resumed(observation)
    after = draft.compose(
        observation,
        Draft(verdicts, start_time=_start_time(observation, step)),
        assessment,
    )
    blocked = observation.obstacles if isinstance(step, sequence.Create) else ()
    requeue = _requeue(observation, settings, assessment, blocked)
    return _plan(observation, after, actions, requeue_after_seconds=requeue)


def _create(
    observation: Observation, settings: OperatorSettings, step: sequence.Create
) -> tuple[Action, ...]:
    """Return the writes that bring a Job into being, what it needs first.

    All Jobs of a run read the run specification that its first Job was created with, even when a
    newer operator would name or write it differently.
    """
    job, views = observation.job, observation.servers
    servers = job_servers.bring_back(observation, step.phase)
    if servers:
        return servers
    resolved = model_servers.resolved(observation.spec, views)
    own_name = naming.run_config_name(job)
    names = [child.run_config_name for child in observation.children.values()]
    run_config_name = next((name for name in names if name), own_name)
    if not any(names) and resolved is None:
        return ()  # the servers' addresses are not known yet
    actions: list[Action] = []
    if settings.network_policy:
        actions.append(ApplyNetworkPolicy(network_policy.build(job, settings)))
    if run_config_name == own_name and resolved is not None:
        actions.append(CreateConfigMap(run_config_map.build(job, resolved)))
    if step.phase is RunnerPhase.GENERATE:
        actions.append(CreateTokenSecret(lease_secret.build(job)))
    manifest = runner_job.build(
        job,
        step.phase,
        settings,
        run_config_name=run_config_name,
        verdict=step.verdict,
        first_share=observation.first_share,
    )
    return (*actions, CreateJob(manifest))


def _start_time(observation: Observation, step: sequence.Step) -> str | None:
    """Return a new start time on acceptance and on resume, as Kubernetes does for its Jobs.

    A resume is also that the queue admits the shards, for the first time or again. A Job that has
    left its queue because it is stopped is no such thing: its time is up.
    """
    before = observation.job.status
    admitted = (
        status.suspended_by_queue(before)
        and not isinstance(step, sequence.Stop)
        and ConditionType.SUSPENDED not in standing.queue(observation)
    )
    if before.start_time is None or status.suspended_by_user(before) or admitted:
        return wire.format_time(observation.now)
    return None


def _finish(observation: Observation, assessment: Assessment, outcome: Outcome) -> Plan:
    """Write down how the job ended, and stop what is left of it."""
    outcome = assess.with_target(outcome, assessment, observation.spec)
    final: dict[ConditionType, Verdict] = standing.accepted(observation, assessment)
    final.pop(ConditionType.DEGRADED, None)
    verdict = Verdict(True, outcome.reason, outcome.message)
    if outcome.failed:
        final[ConditionType.FAILED] = verdict
        final[ConditionType.COMPLETE] = Verdict(False, Reason.NOT_COMPLETE, "The job has failed.")
        if outcome.reason in (Reason.OUTPUT_CONFLICT, Reason.ACCESS_MODE_CONFLICT):
            final[ConditionType.ACCEPTED] = Verdict(False, outcome.reason, outcome.message)
    else:
        final[ConditionType.COMPLETE] = _with_failed_records(verdict, observation, assessment)
    final[ConditionType.RUNNING] = Verdict(False, Reason.FINISHED, "The job has ended.")
    final |= standing.resumed(observation)
    after = draft.compose(
        observation,
        Draft(final, completion_time=wire.format_time(observation.now), settled=True),
        assessment,
    )
    cleanup_after = observation.spec.cleanup.ttl_seconds_after_finished
    return _plan(
        observation,
        after,
        suspend.stop(observation.children.values()),
        requeue_after_seconds=None if cleanup_after is None else max(float(cleanup_after), 1.0),
    )


def _with_failed_records(
    verdict: Verdict, observation: Observation, assessment: Assessment
) -> Verdict:
    """Say of a complete job what its failed records, if any, failed of."""
    totals = assessment.totals.totals if assessment.totals is not None else None
    known = totals.records if totals is not None else observation.job.status.progress.records
    kinds = draft.failures(observation, assessment)
    said = progress.failed_records(known.failed, kinds)
    return dataclasses.replace(verdict, message=f"{verdict.message} {said}".rstrip())


def _requeue(
    observation: Observation,
    settings: OperatorSettings,
    assessment: Assessment,
    obstacles: tuple[Obstacle, ...],
) -> float | None:
    """Return when the clock alone can change the decision."""
    waits: list[float] = []
    if obstacles:
        soon = all(obstacle.kind is ObstacleKind.PREDECESSOR for obstacle in obstacles)
        waits.append(_PREDECESSOR_SECONDS if soon else _OBSTACLE_SECONDS)
    if assessment.deadline.next_at is not None:
        waits.append(max((assessment.deadline.next_at - observation.now).total_seconds(), 1.0))
    for due in (
        assess.report_due_seconds(observation, settings),
        assess.podless_due_seconds(observation, settings),
    ):
        if due is not None:
            waits.append(due)
    return min(waits, default=None)


def _plan(
    observation: Observation,
    after: SyntheticDataJobStatus,
    actions: tuple[Action, ...] = (),
    *,
    requeue_after_seconds: float | None = None,
) -> Plan:
    """Compare with what is stored: the status is written only if it changed."""
    before = observation.job.status
    if after == before:
        return Plan(actions=actions, requeue_after_seconds=requeue_after_seconds)
    return Plan(
        actions=actions,
        status=after,
        events=status.transitions(before, after, observation.now),
        requeue_after_seconds=requeue_after_seconds,
        progress_only=draft.is_progress_only(before, after),
    )
