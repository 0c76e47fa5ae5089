"""The ModelServer: one deployed model, of a class, that jobs share or own."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from kubesynth_api._base import ApiModel, CelRule, ObjectName, exactly_one_of
from kubesynth_api.meta import Condition, NameReference, SecretValue
from kubesynth_api.v1alpha1.protocols import TritonOptions
from kubesynth_api.v1alpha1.runner_pods import (
    EnvVar,
    LabelKey,
    LabelValue,
    Quantity,
    Resources,
    Toleration,
)

KIND = "ModelServer"
PLURAL = "modelservers"
SERVER_NAME_MAX_LENGTH = 50
_SERVER_NAME_PATTERN = "^[a-z]([-a-z0-9]*[a-z0-9])?$"
NODES_MAX = 64
USERS_SHOWN = 20
STEPS_SHOWN = 16

NamespaceName = Annotated[
    str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
]
ServerName = Annotated[
    str, Field(min_length=1, max_length=SERVER_NAME_MAX_LENGTH, pattern=_SERVER_NAME_PATTERN)
]
Argument = Annotated[str, Field(max_length=2048)]
# Into a command line and, with some classes, into the reference of an image.
ModelName = Annotated[
    str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9/][-A-Za-z0-9._/:@+]*$")
]
Revision = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[-A-Za-z0-9._/]+$")]


def is_server_name(name: str) -> bool:
    """Tell whether a server may have this name: pods and hosts are named after it."""
    return len(name) <= SERVER_NAME_MAX_LENGTH and re.search(_SERVER_NAME_PATTERN, name) is not None


class ClassReference(ApiModel):
    """The class that a server is made from."""

    name: ObjectName = Field(description="Name of the class.")
    kind: Literal["ModelServerClass", "ClusterModelServerClass"] | None = Field(
        default=None,
        description=(
            "Its kind. Without it, the ModelServerClass of that name in the server's namespace, "
            "or else the ClusterModelServerClass."
        ),
    )


class SharedCache(ApiModel):
    """A volume claim that all replicas mount, and that outlives them."""

    size: Quantity = Field(description="Size of the volume, such as 200Gi.")
    storage_class_name: ObjectName | None = Field(
        default=None, description="StorageClass; it has to offer ReadWriteMany."
    )
    retention: Literal["Retain", "Delete"] = Field(
        default="Retain",
        description=(
            "Retain: the claim is named after the model, belongs to nobody, and saves the next "
            "server of the same model in the namespace the download; delete it yourself. Delete: "
            "it is the server's own and goes with it."
        ),
    )


class ReplicaCache(ApiModel):
    """A volume claim of each pod's own, that goes with the pod."""

    size: Quantity = Field(description="Size of each volume, such as 200Gi.")
    storage_class_name: ObjectName | None = Field(
        default=None, description="StorageClass; ReadWriteOnce will do."
    )


class ModelCache(ApiModel):
    """Where weights are kept. At most one of claim, shared and perReplica."""

    cel: ClassVar[tuple[CelRule, ...]] = (exactly_one_of("claim", "shared", "perReplica"),)

    claim: NameReference | None = Field(
        default=None, description="A volume claim that is there already; every replica mounts it."
    )
    shared: SharedCache | None = Field(
        default=None, description="One volume claim for all replicas, made by the operator."
    )
    per_replica: ReplicaCache | None = Field(
        default=None, description="A volume claim for each replica, made with its pod."
    )


class ServerSettings(ApiModel):
    """What is said about a server wherever it is declared."""

    class_ref: ClassReference = Field(
        description="The class to make it from: which engine, which image, how to start it."
    )
    model: ModelName = Field(
        description="Model to serve, as the engine names it, such as meta-llama/Llama-3.1-8B."
    )
    revision: Revision | None = Field(
        default=None, description="Revision of the model; without it what the class says."
    )
    image: Annotated[str, Field(min_length=1, max_length=500)] | None = Field(
        default=None, description="Image instead of the class's."
    )
    gpus: int | None = Field(
        default=None,
        ge=0,
        le=64,
        description="GPUs of each pod; without it what the class says.",
    )
    nodes: int = Field(
        default=1,
        ge=1,
        le=NODES_MAX,
        description=(
            "Pods of each replica, for a model that is too large for one node: one leads and "
            "answers, the others join it, and each has gpus. More than one needs LeaderWorkerSet "
            "in the cluster, and a class with multiNode."
        ),
    )
    replicas: int = Field(
        default=1, ge=0, le=256, description="Servers of the model, of so many nodes each."
    )
    args: Annotated[tuple[Argument, ...], Field(max_length=64)] = Field(
        default=(), description="Arguments after those of the class."
    )
    env: Annotated[tuple[EnvVar, ...], Field(max_length=32)] = Field(
        default=(),
        description="Environment variables, by name; they win over the class's.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    resources: Resources | None = Field(
        default=None, description="Resources instead of the class's; GPUs are added from gpus."
    )
    node_selector: Annotated[dict[LabelKey, LabelValue], Field(max_length=16)] = Field(
        default_factory=dict, description="Labels that a node must have, beside the class's."
    )
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=16)] = Field(
        default=(), description="Taints that the pods tolerate, beside the class's."
    )
    token: SecretValue | None = Field(
        default=None,
        description=(
            "Token for the place that weights come from (Hugging Face, NGC), in a Secret of the "
            "server's namespace. The class says which variables it becomes."
        ),
    )
    cache: ModelCache | None = Field(
        default=None,
        description=(
            "Where weights are kept between starts; without it in the pod, so that every start "
            "downloads them."
        ),
    )
    triton: TritonOptions | None = Field(
        default=None,
        description=(
            "How the model is asked, where the class speaks Triton's protocol: chat template, "
            "tensors. Templates of a server are inline."
        ),
    )
    startup_timeout_seconds: int | None = Field(
        default=None,
        ge=1,
        le=604800,
        description=(
            "From the moment that a pod has a node until the server answers; without it what the "
            "class says. Jobs that wait for it fail then. Waiting for a free GPU does not count."
        ),
    )


class Idle(ApiModel):
    """What happens while no job needs the server."""

    ttl_seconds: int = Field(
        ge=0, le=31536000, description="Scale to zero so many seconds after the last job."
    )


class Rollout(ApiModel):
    """How a change of the server reaches its pods."""

    strategy: Literal["Auto", "Recreate"] = Field(
        default="Auto",
        description=(
            "Auto starts a new pod before an old one goes, and where there is no node for it falls "
            "back to Recreate, which stops the old pods first; jobs wait meanwhile."
        ),
    )
    restart_on_secret_change: bool = Field(
        default=False,
        description="Restart the pods when the Secret of token changes. Otherwise nothing does.",
    )


class ModelServerSpec(ServerSettings):
    """A model to serve. A change rolls the pods; a change of replicas only scales.

    A job knows a model by the name that it had when the job began. So change the model only when no
    job uses the server: such jobs would be told that their model does not exist.
    """

    cel: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            "has(self.cache) == has(oldSelf.cache)"
            " && (!has(self.cache) || self.cache == oldSelf.cache)",
            "cache is immutable",
            ".cache",
        ),
        CelRule("self.nodes == oldSelf.nodes", "nodes is immutable", ".nodes"),
    )

    idle: Idle | None = Field(
        default=None,
        description=(
            "What happens while no job needs the server. Without it the server runs all the time; "
            "with it, it starts when the first job needs it."
        ),
    )
    allowed_namespaces: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=63)], ...], Field(max_length=64)
    ] = Field(
        default=(),
        description=(
            'Namespaces whose jobs may use the server, beside its own; "*" stands for every one.'
        ),
    )
    rollout: Rollout = Field(
        default_factory=Rollout, description="How a change of the server reaches its pods."
    )


class ServerUsers(ApiModel):
    """The jobs that need the server now: found out anew each time, never counted up and down."""

    count: int = Field(default=0, ge=0, description="How many.")
    names: Annotated[tuple[Annotated[str, Field(max_length=320)], ...], Field(max_length=20)] = (
        Field(default=(), description=f"The first {USERS_SHOWN} as NAMESPACE/NAME.")
    )


class StartupStep(ApiModel):
    """A step of a start and when it began."""

    reason: Annotated[str, Field(max_length=64)] = Field(description="What went on.")
    start_time: Annotated[str, Field(max_length=40)] = Field(
        description="Since when (RFC 3339, UTC).", json_schema_extra={"format": "date-time"}
    )


class GroupFailure(ApiModel):
    """How pods of a server on several nodes have failed since its start began.

    One failing pod has the whole group made anew, and so takes its last words with it.
    """

    message: Annotated[str, Field(max_length=1024)] = Field(
        description="How a container ended last, and the last line of its log."
    )
    count: int = Field(default=1, ge=1, description="Pods that failed.")
    pod_uid: Annotated[str, Field(max_length=64)] = Field(description="The last one of them.")
    start_time: Annotated[str, Field(max_length=40)] = Field(
        description="When the first of them had a node.",
        json_schema_extra={"format": "date-time"},
    )


class ModelServerStatus(ApiModel):
    """What the operator has seen."""

    observed_generation: int | None = Field(
        default=None, ge=0, description="metadata.generation that this status is about."
    )
    phase: Annotated[str, Field(max_length=32)] = Field(
        default="", description="The conditions in one word, for people; nothing reads it."
    )
    summary: Annotated[str, Field(max_length=64)] = Field(
        default="", description="Replicas that serve of those that are wanted, as 1/2."
    )
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16)] = Field(
        default=(),
        description="Accepted, Ready, Degraded, and kstatus's Reconciling and Stalled.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    replicas: int = Field(default=0, ge=0, description="Replicas that are wanted now.")
    ready_replicas: int = Field(default=0, ge=0, description="Replicas that serve.")
    selector: Annotated[str, Field(max_length=500)] = Field(
        default="", description="Label selector of the pods that answer, for autoscalers."
    )
    endpoint: Annotated[str, Field(max_length=1024)] = Field(
        default="", description="Base URL for jobs; known before anything runs."
    )
    served_model: Annotated[str, Field(max_length=253)] = Field(
        default="", description="Name of the model in requests."
    )
    protocol: Annotated[str, Field(max_length=16)] = Field(
        default="", description="What the endpoint speaks."
    )
    triton: TritonOptions | None = Field(
        default=None, description="How the model is asked, where that is Triton."
    )
    used_class: Annotated[str, Field(max_length=320)] = Field(
        default="", description="The class that it is made from, as KIND/NAME."
    )
    users: ServerUsers = Field(
        default_factory=ServerUsers, description="The jobs that need the server now."
    )
    last_used_time: Annotated[str, Field(max_length=40)] | None = Field(
        default=None,
        description="When the last job let go of it.",
        json_schema_extra={"format": "date-time"},
    )
    start_time: Annotated[str, Field(max_length=40)] | None = Field(
        default=None,
        description="When the start that is under way began.",
        json_schema_extra={"format": "date-time"},
    )
    startup: Annotated[tuple[StartupStep, ...], Field(max_length=STEPS_SHOWN)] = Field(
        default=(), description="The steps of the latest start, each with its time."
    )
    last_failure: GroupFailure | None = Field(
        default=None,
        description="How pods of a server on several nodes have failed since its start began.",
    )


class ModelServer(ApiModel):
    """A model that is served in the cluster for jobs to ask, on its own GPUs if it needs some."""

    cel: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            f"self.metadata.name.size() <= {SERVER_NAME_MAX_LENGTH}"
            f" && self.metadata.name.matches(r'{_SERVER_NAME_PATTERN}')",
            f"metadata.name must be at most {SERVER_NAME_MAX_LENGTH} characters: lower-case"
            " letters, digits and -, a letter first and no - at the end",
            ".metadata.name",
            lambda server: is_server_name(server.metadata.get("name", "")),
        ),
    )

    api_version: Literal["kubesynth.io/v1alpha1"] = "kubesynth.io/v1alpha1"
    kind: Literal["ModelServer"] = "ModelServer"
    metadata: dict[str, Any] = Field(default_factory=dict)
    spec: ModelServerSpec = Field(description="What to serve, and how.")
    status: ModelServerStatus | None = Field(
        default=None, description="What the operator has seen."
    )
