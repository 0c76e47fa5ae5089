"""What the operator knows about one job at one moment: values, and nothing that reads or writes.

`observe` builds an `Observation`, `plan.reconcile` turns it into a `Plan`. Everything here is
immutable, so that a decision can be repeated, tested in a table, and asked "what if" questions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Literal, NamedTuple

from kubesynth_api.conditions import ConditionType, Reason
from kubesynth_api.run_spec import RunSpec
from kubesynth_api.runner_contract import (
    Failures,
    InitialShare,
    RunnerPhase,
    TerminationMessage,
    Totals,
)
from kubesynth_api.v1alpha1.protocols import TritonOptions
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec, SyntheticDataJobStatus


class JobKey(NamedTuple):
    """Names one SyntheticDataJob; the key of the work queue."""

    namespace: str
    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """Why a job cannot be accepted."""

    reason: Reason
    message: str


# Why shards are stopped that have not ended by themselves: what only their leases can tell.
ENDS_OF_SHARDS = frozenset({Reason.BUDGET_SPENT, Reason.TARGET_REACHED, Reason.TARGET_MISSED})


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ends, or how it would end: a final condition, its reason and a sentence."""

    condition: Literal[ConditionType.COMPLETE, ConditionType.FAILED]
    reason: Reason
    message: str

    @property
    def failed(self) -> bool:
        """Whether this is a failure."""
        return self.condition is ConditionType.FAILED

    @property
    def early(self) -> bool:
        """Whether the job ends on purpose before its input is used up."""
        return self.reason in (Reason.BUDGET_SPENT, Reason.TARGET_REACHED)

    @property
    def early_reason(self) -> Reason | None:
        """The reason of `Running` by which an end is remembered while shards are stopped for it."""
        return self.reason if self.reason in ENDS_OF_SHARDS else None

    @property
    def partial(self) -> bool:
        """Whether finalize must expect shards to be missing."""
        return self.reason is not Reason.ALL_SHARDS_SUCCEEDED


def failure(reason: Reason, message: str) -> Outcome:
    """Return the outcome of a job that gave up."""
    return Outcome(ConditionType.FAILED, reason, message)


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """A SyntheticDataJob as the API server has it.

    `spec` is None when it could not be parsed; `spec_problem` then says why. `status` keeps of the
    stored status what this version understands.
    """

    key: JobKey
    uid: str
    generation: int
    resource_version: str
    deleting: bool
    managed_by: str
    queue_name: str | None
    spec: SyntheticDataJobSpec | None
    spec_problem: Problem | None
    status: SyntheticDataJobStatus

    def run_spec(self) -> RunSpec:
        """Return what the runners of this job are given.

        Raises:
            ValueError: the spec was not understood, so there is nothing to run.
        """
        if self.spec is None:
            raise ValueError(f"the spec of {self.key.name} was not understood")
        return RunSpec(
            name=self.key.name, namespace=self.key.namespace, uid=self.uid, spec=self.spec
        )


class Progress(StrEnum):
    """How far a child Job is."""

    ACTIVE = "Active"
    COMPLETE = "Complete"
    FAILED = "Failed"


@dataclasses.dataclass(frozen=True, slots=True)
class ChildJob:
    """One `batch/v1` Job of ours, reduced to what decisions need.

    `progress` turns to COMPLETE or FAILED only when no pod of the Job is left running: Kubernetes
    announces a verdict earlier (`FailureTarget`), which is deliberately not looked at. `suspended`
    is what the Job is asked for, `suspension_seen` that its controller knows: until then it may
    still start pods, and its counters may be of the time before. `untouched` is one
    whose spec nobody has changed since it was created.
    """

    phase: RunnerPhase
    name: str
    uid: str
    owner_uid: str
    deleting: bool
    suspended: bool
    suspension_seen: bool
    untouched: bool
    queued: bool
    parallelism: int
    completions: int
    active: int
    ready: int
    terminating: int
    failed_pods: int
    completed_indexes: str
    failed_indexes: str
    progress: Progress
    reason: str
    message: str
    created_at: datetime
    run_config_name: str
    outcome: Outcome | None
    # What its pods begin with; None for a Job of an older operator.
    first_share: InitialShare | None = None

    @property
    def finished(self) -> bool:
        """Whether it has ended, one way or the other."""
        return self.progress is not Progress.ACTIVE

    @property
    def waits_in_queue(self) -> bool:
        """Whether its queue has not admitted it, or has taken its quota back."""
        return self.queued and self.suspended and not self.finished and not self.deleting

    @property
    def quiet(self) -> bool:
        """Whether it has no pods and will start none: finished, or stopped all the way."""
        stopped = self.suspended and self.suspension_seen
        return self.finished or (stopped and self.active == 0 and self.terminating == 0)

    @property
    def succeeded_count(self) -> int:
        """Indexes that are done."""
        return count_indexes(self.completed_indexes)

    @property
    def failed_count(self) -> int:
        """Indexes that gave up."""
        return count_indexes(self.failed_indexes)


@dataclasses.dataclass(frozen=True, slots=True)
class Pod:
    """One runner pod. `message` is its termination message if it could be understood.

    `waiting_reason` and `waiting_message` say why its container does not run, `disrupted` that the
    cluster took the pod away (condition DisruptionTarget).
    """

    name: str
    uid: str
    job_uid: str
    phase: RunnerPhase
    index: int
    status: str
    ip: str
    deleting: bool
    disrupted: bool
    exit_code: int | None
    finished_at: str
    message: TerminationMessage | None
    log_tail: str
    waiting_reason: str
    waiting_message: str

    @property
    def ended(self) -> bool:
        """Whether its container will not run again."""
        return self.status in ("Succeeded", "Failed")


class ReferenceKind(StrEnum):
    """Kinds that a job refers to by name."""

    SECRET = "Secret"
    CONFIG_MAP = "ConfigMap"
    CLAIM = "PersistentVolumeClaim"


@dataclasses.dataclass(frozen=True, slots=True)
class Referent:
    """What is known about an object that a job refers to.

    `data` is filled for ConfigMaps alone: a Secret's values are never kept.
    """

    exists: bool
    denied: bool = False
    keys: frozenset[str] = frozenset()
    access_modes: tuple[str, ...] = ()
    version: str = ""
    data: Mapping[str, str] = dataclasses.field(default_factory=dict)


Referents = Mapping[tuple[ReferenceKind, str], Referent]


@dataclasses.dataclass(frozen=True, slots=True)
class LiveProgress:
    """The sum over shards of what their pods last said: a hint, forgotten on restart.

    `reachable` and `unreachable` count the running shards of the last round of questions, and
    `changed_at` is when a counter last moved. `failures` are the commonest kinds of failed records,
    `left_out` says which files of the input are not read.
    """

    totals: Totals
    records_per_second: float
    reachable: int
    unreachable: int
    changed_at: datetime
    unreachable_since: datetime | None = None
    # What most of the pods that say something say of themselves, such as which model they wait for,
    # and whose pods those are.
    message: str = ""
    speaker: RunnerPhase = RunnerPhase.GENERATE
    failures: tuple[Failures, ...] = ()
    left_out: str = ""

    def said_by(self, phase: RunnerPhase) -> str:
        """Return what the pods of a phase say, if they are the ones that speak."""
        return self.message if self.speaker is phase else ""


@dataclasses.dataclass(frozen=True, slots=True)
class ServerView:
    """The ModelServer behind a role, as the job sees it.

    `problem` is why there is none that the job may use. `endpoint` and `model` are empty until the
    server was accepted, `triton` is None unless it speaks Triton's protocol; `reason` and `since`
    say what it is doing.
    """

    namespace: str
    name: str
    uid: str = ""
    problem: Problem | None = None
    endpoint: str = ""
    model: str = ""
    triton: TritonOptions | None = None
    ready: bool = False
    reason: Reason = Reason.PROVISIONING
    message: str = ""
    since: str | None = None

    @property
    def exists(self) -> bool:
        """Whether there is such a server, and the job may use it."""
        return bool(self.uid) and self.problem is None


@dataclasses.dataclass(frozen=True, slots=True)
class LeaseView:
    """What dividing the job's limits has shown.

    `slots` is how many pods may run at once now, `ended` why the job has come to its end early.
    """

    slots: int
    ended: Reason | None = None


class ObstacleKind(StrEnum):
    """Why the API server would not create a child."""

    PREDECESSOR = "Predecessor"  # the name is held by a child of a deleted job of the same name
    STRANGER = "Stranger"  # the name is held by somebody else's object
    REFUSED = "Refused"  # quota, admission, permissions


@dataclasses.dataclass(frozen=True, slots=True)
class Obstacle:
    """A child that could not be created, and why."""

    kind: ObstacleKind
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class Observation:
    """Everything that a decision about one job may depend on.

    `children` holds only Jobs that this very job owns (by uid), by phase; a one-shard job's only
    Job is under GENERATE. `referents` is None when nothing needed looking up, and claims alone once
    there are shards. `report` is the termination message that holds the run's totals, if there is
    one. `servers` are the model servers behind the roles that have one. `has_lease_secret` says, of
    a job without a Job of shards, that one may have been there: the Secret comes before it and
    stays, with the `first_share` of its shards. `podless_since` says of the Jobs that have no pod
    now, although they may, since when they were seen so: a hint, forgotten on restart.
    """

    now: datetime
    job: Job
    children: Mapping[RunnerPhase, ChildJob]
    pods: tuple[Pod, ...] = ()
    referents: Referents | None = None
    live: LiveProgress | None = None
    leases: LeaseView | None = None
    has_lease_secret: bool = False
    first_share: InitialShare | None = None
    obstacles: tuple[Obstacle, ...] = ()
    servers: Mapping[str, ServerView] = dataclasses.field(default_factory=dict)
    podless_since: Mapping[RunnerPhase, datetime] = dataclasses.field(default_factory=dict)
    progress_written_at: datetime | None = None

    def facing(self, obstacles: tuple[Obstacle, ...]) -> Observation:
        """Return the same observation with what was learnt from trying to act on it."""
        return dataclasses.replace(self, obstacles=self.obstacles + obstacles)

    @property
    def spec(self) -> SyntheticDataJobSpec:
        """The parsed spec; only for code that runs after acceptance has looked at it."""
        if self.job.spec is None:
            raise ValueError(f"the spec of {self.job.key.name} was not understood")
        return self.job.spec

    def pods_of(self, phase: RunnerPhase) -> tuple[Pod, ...]:
        """Return the pods of one phase's Job."""
        return tuple(pod for pod in self.pods if pod.phase is phase)


def indexes(ranges: str) -> frozenset[int]:
    """Return the indexes in the compressed form of Job status, such as `1,3-5,7`."""
    found: set[int] = set()
    for part in filter(None, ranges.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def count_indexes(ranges: str) -> int:
    """Count the indexes in the compressed form of Job status, such as `1,3-5,7`."""
    total = 0
    for part in filter(None, ranges.split(",")):
        first, _, last = part.partition("-")
        total += int(last or first) - int(first) + 1
    return total
