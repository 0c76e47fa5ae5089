"""What a decision can ask for: writes as values, carried out by `reconcile` in order.

Every action is safe to repeat, and each carries the uid of what it changes, so that it can never
hit a namesake. Nothing here changes a user's object, except `DeleteCustomResource`, which the user
asked for with `cleanup.ttlSecondsAfterFinished`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobStatus

Manifest = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class CreateConfigMap:
    """POST once; an existing one of ours is as good."""

    manifest: Manifest


@dataclasses.dataclass(frozen=True, slots=True)
class CreateTokenSecret:
    """POST once, with a random token to lease with; an existing one of ours is as good."""

    manifest: Manifest


@dataclasses.dataclass(frozen=True, slots=True)
class CreateJob:
    """POST once; an existing one of ours is as good, and is left as it is."""

    manifest: Manifest


@dataclasses.dataclass(frozen=True, slots=True)
class ApplyNetworkPolicy:
    """Apply server-side under our field manager."""

    manifest: Manifest


@dataclasses.dataclass(frozen=True, slots=True)
class PatchJob:
    """Change `suspend` or `parallelism` of a child Job: nothing else is ever patched."""

    name: str
    uid: str
    field: Literal["suspend", "parallelism"]
    value: bool | int


@dataclasses.dataclass(frozen=True, slots=True)
class DeleteJob:
    """Delete a child Job; it stays visible until its pods are gone (foreground)."""

    name: str
    uid: str


@dataclasses.dataclass(frozen=True, slots=True)
class DeleteCustomResource:
    """Delete the job itself: its time to live is over."""

    uid: str


@dataclasses.dataclass(frozen=True, slots=True)
class CreateModelServer:
    """POST the server that a job owns; an existing one of the job's is left as it is."""

    manifest: Manifest


@dataclasses.dataclass(frozen=True, slots=True)
class DeleteModelServer:
    """Delete the server that a job owns; what it owns follows."""

    name: str
    uid: str


Action = (
    CreateConfigMap
    | CreateTokenSecret
    | CreateJob
    | ApplyNetworkPolicy
    | PatchJob
    | DeleteJob
    | DeleteCustomResource
    | CreateModelServer
    | DeleteModelServer
)


@dataclasses.dataclass(frozen=True, slots=True)
class ApplyWorkload:
    """Apply a server's Deployment or LeaderWorkerSet server-side."""

    manifest: Manifest


@dataclasses.dataclass(frozen=True, slots=True)
class ApplyService:
    """Apply a server's Service server-side."""

    manifest: Manifest


@dataclasses.dataclass(frozen=True, slots=True)
class CreateClaim:
    """POST a volume claim once; one for the same model is as good."""

    manifest: Manifest


@dataclasses.dataclass(frozen=True, slots=True)
class PatchWorkload:
    """Change how many replicas, or how they are replaced, of exactly the version that was seen."""

    kind: Literal["Deployment", "LeaderWorkerSet"]
    name: str
    uid: str
    resource_version: str
    changes: Manifest


ServerAction = ApplyWorkload | ApplyService | CreateClaim | PatchWorkload


@dataclasses.dataclass(frozen=True, slots=True)
class Transition:
    """A change of a condition that people are told about as a Kubernetes Event."""

    type: Literal["Normal", "Warning"]
    condition: str
    reason: str
    message: str
    at: str


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """Everything that one look at a job leads to.

    `status` is None when the stored one is right. `events` are posted after the status was
    written, and only then. `requeue_after_seconds` is None when only a change can make a
    difference.
    """

    actions: tuple[Action, ...] = ()
    status: SyntheticDataJobStatus | None = None
    events: tuple[Transition, ...] = ()
    requeue_after_seconds: float | None = None
    progress_only: bool = False


IDLE = Plan()
