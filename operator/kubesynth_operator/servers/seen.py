"""What the operator knows about one model server at one moment: values alone."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Literal

from kubesynth_api.v1alpha1.model_servers import ModelServerSpec, ModelServerStatus
from kubesynth_api.v1alpha1.server_classes import ServerClassSpec
from kubesynth_operator.actions import ServerAction, Transition
from kubesynth_operator.observation import JobKey, Obstacle, Problem, Referent


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """A ModelServer as the API server has it.

    `spec` is None when it could not be parsed; `spec_problem` then says why.
    """

    key: JobKey
    uid: str
    generation: int
    resource_version: str
    deleting: bool
    owner_uid: str
    spec: ModelServerSpec | None
    spec_problem: Problem | None
    status: ModelServerStatus


@dataclasses.dataclass(frozen=True, slots=True)
class ServerClass:
    """A ModelServerClass (with a namespace) or ClusterModelServerClass (with an empty one)."""

    kind: str
    namespace: str
    name: str
    spec: ServerClassSpec | None
    problem: str = ""

    @property
    def label(self) -> str:
        """How messages and the status call it."""
        return f"{self.kind}/{self.name}"


WorkloadKind = Literal["Deployment", "LeaderWorkerSet"]


@dataclasses.dataclass(frozen=True, slots=True)
class Workload:
    """A server's Deployment, or its LeaderWorkerSet where replicas have several nodes.

    `current` says that its controller has seen the latest version. `pods`, `updated` and `ready`
    count replicas; `trouble` is why it cannot make any.
    """

    kind: WorkloadKind
    name: str
    uid: str
    resource_version: str
    owner_uid: str
    deleting: bool
    inputs: str
    wanted: int
    strategy: str
    current: bool
    pods: int
    updated: int
    ready: int
    trouble: str

    @property
    def rolling(self) -> bool:
        """Whether replicas of an older version are there, or new ones are missing."""
        return not self.current or self.updated < self.wanted or self.pods > self.updated


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """A server's Service."""

    name: str
    owner_uid: str
    ports: tuple[tuple[str, int], ...]  # names and numbers, that of the endpoint first


@dataclasses.dataclass(frozen=True, slots=True)
class ServerPod:
    """A pod of a server. `scheduled_at` is None until it has a node.

    `group` is the replica that it belongs to, and `leads` whether it is the one that answers: where
    a replica has one node, each pod is a group of its own.

    `last_exit` says how its container ended last ("exit code 1"), `last_line` what it said then;
    both are empty as long as it has not ended.
    """

    name: str
    uid: str
    server_uid: str
    group: str
    leads: bool
    revision: str
    deleting: bool
    ready: bool
    created_at: datetime
    scheduled_at: datetime | None
    unschedulable: str
    running: bool
    waiting_reason: str
    waiting_message: str
    restarts: int
    last_exit: str
    last_line: str


@dataclasses.dataclass(frozen=True, slots=True)
class ServerObservation:
    """Everything that a decision about one server may depend on.

    `users` are the jobs that need it now, as NAMESPACE/NAME. `secret` is None without a token.
    `groups_problem` says why there can be no LeaderWorkerSet; it is empty where there can.
    """

    now: datetime
    server: Server
    server_class: ServerClass | None
    users: tuple[str, ...] = ()
    workload: Workload | None = None
    service: Service | None = None
    pods: tuple[ServerPod, ...] = ()
    secret: Referent | None = None
    class_hint: str = ""
    groups_problem: str = ""
    obstacles: tuple[Obstacle, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class ServerPlan:
    """Everything that one look at a server leads to.

    `status` is None when the stored one is right. `events` are posted after the status was
    written, and only then.
    """

    actions: tuple[ServerAction, ...] = ()
    status: ModelServerStatus | None = None
    events: tuple[Transition, ...] = ()
    requeue_after_seconds: float | None = None


IDLE = ServerPlan()
