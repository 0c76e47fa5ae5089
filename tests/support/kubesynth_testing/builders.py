"""Builders of the operator's objects, in the shape that the API server gives them.

A test names only what matters: the rest is what a small, valid job has. Children are built from the
operator's own manifests and read through its own parsers, so that a test of a decision also walks
the way from the wire to the decision.

    job = a_job(shards=3)
    seen = observation(job, children=[a_child(job, PLAN, complete=True)])
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from kubesynth_api import labels
from kubesynth_api.conditions import ConditionType
from kubesynth_api.meta import Condition
from kubesynth_api.runner_contract import RunnerPhase, TerminationMessage
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobStatus
from kubesynth_operator import wire
from kubesynth_operator.observation import (
    ChildJob,
    Job,
    LiveProgress,
    Observation,
    Obstacle,
    Outcome,
    Pod,
    Referents,
    ServerView,
)
from kubesynth_operator.resources import naming, runner_job
from kubesynth_operator.settings import OperatorSettings

NOW = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC)
SETTINGS = OperatorSettings(runner_image="registry.example/kubesynth:1.0")
UID = "11111111-2222-3333-4444-555555555555"
OTHER_UID = "99999999-8888-7777-6666-555555555555"


def job_object(
    name: str = "qa", *, namespace: str = "team", shards: int = 1, **spec: Any
) -> dict[str, Any]:
    """Return a SyntheticDataJob as a user applies it.

    `spec` replaces whole fields of its spec; one that is None is left out.
    """
    fields = {
        "models": [
            {
                "name": "generator",
                "external": {"url": "http://llm.example/v1", "model": "small"},
                "limits": {"concurrency": max(shards, 4)},
            }
        ],
        "input": {"uri": "pvc://corpus/docs"},
        "pipeline": [{"closedQA": {"questions": 2}}, {"answer": {}}],
        "output": {"uri": "pvc://datasets/qa"},
        "shards": {"count": shards},
        **spec,
    }
    return {
        "apiVersion": labels.API_VERSION,
        "kind": "SyntheticDataJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {field: value for field, value in fields.items() if value is not None},
    }


# A field that the API has and no version carries out yet.
UNAVAILABLE: Mapping[str, Any] = {"output": {"uri": "pvc://datasets/qa", "exports": ["alpaca"]}}


def a_job(
    *,
    status: SyntheticDataJobStatus | None = None,
    generation: int = 1,
    deleting: bool = False,
    queue: str | None = None,
    raw: Mapping[str, Any] | None = None,
    **spec: Any,
) -> Job:
    """Return a job as the operator reads it from the API server."""
    found = copy.deepcopy(dict(raw)) if raw is not None else job_object(**spec)
    found["metadata"] |= {"uid": UID, "generation": generation, "resourceVersion": "100"}
    if deleting:
        found["metadata"]["deletionTimestamp"] = wire.format_time(NOW)
    if queue is not None:
        found["metadata"]["labels"] = {labels.QUEUE_NAME_LABEL: queue}
    if status is not None:
        found["status"] = status.to_wire()
    return wire.parse_job(found)


@dataclasses.dataclass(frozen=True, slots=True)
class ChildState:
    """How a child Job stands; the default is one that was just created."""

    complete: bool = False
    failed: str = ""  # reason of the condition Failed
    message: str = ""
    suspended: bool | None = None
    suspension_seen: bool | None = None  # by the Job controller; without a word, as `suspended`
    active: int = 0
    ready: int = 0
    terminating: int = 0
    failed_pods: int = 0
    completed: str = ""
    failed_indexes: str = ""
    deleting: bool = False
    age: timedelta = timedelta(minutes=1)
    owner_uid: str = UID
    verdict: Outcome | None = None
    parallelism: int | None = None
    run_config_name: str | None = None
    generation: int = 2


def child_object(job: Job, phase: RunnerPhase, state: ChildState) -> dict[str, Any]:
    """Return a child Job as the API server gives it."""
    manifest = runner_job.build(
        job,
        phase,
        SETTINGS,
        run_config_name=state.run_config_name or naming.run_config_name(job),
        verdict=state.verdict,
    )
    manifest["metadata"] |= {
        "uid": f"uid-of-{manifest['metadata']['name']}",
        "creationTimestamp": wire.format_time(NOW - state.age),
        "generation": state.generation,
    }
    manifest["metadata"]["ownerReferences"][0]["uid"] = state.owner_uid
    if state.deleting:
        manifest["metadata"]["deletionTimestamp"] = wire.format_time(NOW)
    if state.suspended is not None:
        manifest["spec"]["suspend"] = state.suspended
    if state.parallelism is not None:
        manifest["spec"]["parallelism"] = state.parallelism
    manifest["status"] = {
        "active": state.active,
        "ready": state.ready,
        "terminating": state.terminating,
        "failed": state.failed_pods,
        "completedIndexes": state.completed,
        "failedIndexes": state.failed_indexes,
        "conditions": _job_conditions(state),
    }
    return manifest


def _job_conditions(state: ChildState) -> list[dict[str, str]]:
    if state.complete:
        return [{"type": "Complete", "status": "True", "reason": "CompletionsReached"}]
    if state.failed:
        return [
            {"type": "FailureTarget", "status": "True", "reason": state.failed},
            {
                "type": "Failed",
                "status": "True",
                "reason": state.failed,
                "message": state.message,
            },
        ]
    seen = state.suspended if state.suspension_seen is None else state.suspension_seen
    return [{"type": "Suspended", "status": "True", "reason": "JobSuspended"}] if seen else []


def a_child(job: Job, phase: RunnerPhase, **state: Any) -> ChildJob:
    """Return a child Job as the operator sees it; fields of `ChildState` say how it stands."""
    child = wire.parse_child_job(child_object(job, phase, ChildState(**state)))
    assert child is not None
    return child


@dataclasses.dataclass(frozen=True, slots=True)
class PodState:
    """How a pod stands; the default is one that runs."""

    status: str = "Running"
    index: int = 0
    exit_code: int | None = None
    message: TerminationMessage | str | None = None
    disrupted: bool = False
    waiting: tuple[str, str] | None = None
    unschedulable: str = ""
    ip: str = "10.0.0.7"
    finished: timedelta = timedelta(0)
    job_uid: str = UID
    deleting: bool = False


def pod_object(job: Job, phase: RunnerPhase, state: PodState) -> dict[str, Any]:
    """Return a runner pod as the API server gives it."""
    name = f"{naming.job_name(job.key.name, phase)}-{state.index}-abcde"
    pod_labels = {
        **naming.phase_labels(job, phase),
        labels.JOB_UID_LABEL: state.job_uid,
        "batch.kubernetes.io/job-completion-index": str(state.index),
    }
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": job.key.namespace,
        "uid": f"uid-of-{name}",
        "labels": pod_labels,
    }
    if state.deleting:
        metadata["deletionTimestamp"] = wire.format_time(NOW)
    conditions = []
    if state.disrupted:
        conditions.append({"type": "DisruptionTarget", "status": "True", "reason": "Evicted"})
    if state.unschedulable:
        conditions.append(
            {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": state.unschedulable,
            }
        )
    status: dict[str, Any] = {
        "phase": state.status,
        "podIP": state.ip,
        "conditions": conditions,
        "containerStatuses": [{"name": labels.RUNNER_CONTAINER, "state": _container_state(state)}],
    }
    return {"metadata": metadata, "status": status}


def _container_state(state: PodState) -> dict[str, Any]:
    if state.waiting is not None:
        return {"waiting": {"reason": state.waiting[0], "message": state.waiting[1]}}
    if state.exit_code is None:
        return {"running": {"startedAt": wire.format_time(NOW)}}
    text = state.message
    if isinstance(text, TerminationMessage):
        text = text.model_dump_json(by_alias=True, exclude_none=True)
    return {
        "terminated": {
            "exitCode": state.exit_code,
            "message": text or "",
            "finishedAt": wire.format_time(NOW + state.finished),
        }
    }


def a_pod(job: Job, phase: RunnerPhase, **state: Any) -> Pod:
    """Return a pod as the operator sees it; fields of `PodState` say how it stands."""
    pod = wire.parse_pod(pod_object(job, phase, PodState(**state)))
    assert pod is not None
    return pod


@dataclasses.dataclass(frozen=True, slots=True)
class Surroundings:
    """What an observation has besides the job, its Jobs and its pods."""

    now: datetime = NOW
    live: LiveProgress | None = None
    referents: Referents | None = None
    obstacles: tuple[Obstacle, ...] = ()
    servers: Mapping[str, ServerView] = dataclasses.field(default_factory=dict)
    podless_since: Mapping[RunnerPhase, datetime] = dataclasses.field(default_factory=dict)


def observation(
    job: Job, children: Sequence[ChildJob] = (), pods: Sequence[Pod] = (), **surroundings: Any
) -> Observation:
    """Return one look at a job; fields of `Surroundings` say what else was seen."""
    around = Surroundings(**surroundings)
    return Observation(
        now=around.now,
        job=job,
        children={child.phase: child for child in children if child.owner_uid == job.uid},
        pods=tuple(pods),
        live=around.live,
        referents=around.referents,
        obstacles=around.obstacles,
        servers=around.servers,
        podless_since=around.podless_since,
    )


def a_status(
    *conditions: tuple[ConditionType, bool, str], at: datetime = NOW, **fields: Any
) -> SyntheticDataJobStatus:
    """Return a stored status with these conditions (type, whether it is True, reason)."""
    return SyntheticDataJobStatus(
        observed_generation=1,
        conditions=tuple(
            Condition(
                type=kind.value,
                status="True" if value else "False",
                observed_generation=1,
                last_transition_time=wire.format_time(at),
                reason=reason,
            )
            for kind, value, reason in conditions
        ),
        **fields,
    )
