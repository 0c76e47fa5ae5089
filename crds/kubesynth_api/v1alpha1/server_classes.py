"""Classes of model servers: a template for one engine, in a namespace or for the whole cluster.

A placeholder in braces stands for what a server says. Where a text goes to a shell, use the
environment variables of the same meaning instead (KUBESYNTH_MODEL and so on): a shell would take
what a user wrote for its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from kubesynth_api._base import ApiModel, CelRule, JsonObject, LabelName, ObjectName
from kubesynth_api.meta import NameReference
from kubesynth_api.v1alpha1.model_servers import Argument, Revision
from kubesynth_api.v1alpha1.protocols import Protocol, TritonOptions
from kubesynth_api.v1alpha1.runner_pods import (
    EnvVar,
    LabelKey,
    LabelValue,
    Quantity,
    Resources,
    Toleration,
)

KIND = "ModelServerClass"
PLURAL = "modelserverclasses"
CLUSTER_KIND = "ClusterModelServerClass"
CLUSTER_PLURAL = "clustermodelserverclasses"

PLACEHOLDERS = ("model", "revision", "name", "gpus", "nodes", "port", "cache")
# ${name} is a shell's, "{" in JSON is followed by a quote.
_PLACEHOLDER = re.compile(r"(?<!\$)\{([a-z][a-zA-Z]*)\}")

VariableName = Annotated[
    str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
]
PortNumber = Annotated[int, Field(ge=1, le=65535)]
HttpPath = Annotated[str, Field(max_length=256, pattern=r"^(/[^ ?#]*)?$")]


def fill_in(text: str, values: dict[str, str]) -> str:
    """Replace the placeholders in `text`; what `values` does not have stays as it is."""
    return _PLACEHOLDER.sub(lambda found: values.get(found.group(1), found.group(0)), text)


class ExtraPort(ApiModel):
    """A port beside the endpoint's, such as gRPC or metrics."""

    name: Annotated[LabelName, Field(max_length=15)] = Field(description="Name of the port.")
    port: PortNumber = Field(description="Its number.")


class Probes(ApiModel):
    """How to see that a server answers, over HTTP on its port; an empty path only connects."""

    ready_path: HttpPath = Field(
        default="/health", description="Answers 200 once the model is loaded."
    )
    live_path: HttpPath | None = Field(
        default=None,
        description=(
            "Answers 200 as long as the engine is alive, however busy; without it a container is "
            "restarted only when it exits."
        ),
    )


class Leader(ApiModel):
    """The pod that answers, where a replica has several nodes."""

    command: Annotated[tuple[Argument, ...], Field(max_length=32)] = Field(
        default=(), description="Entry point; without it that of servers on one node."
    )
    args: Annotated[tuple[Argument, ...], Field(max_length=64)] = Field(
        default=(), description="Arguments after those of servers on one node."
    )


class Worker(ApiModel):
    """The pods that join the leader. They have the same image, environment, GPUs and volumes."""

    command: Annotated[tuple[Argument, ...], Field(min_length=1, max_length=32)] = Field(
        description="Entry point."
    )
    args: Annotated[tuple[Argument, ...], Field(max_length=64)] = Field(
        default=(), description="Arguments: these alone, unless inheritArgs is true."
    )
    inherit_args: bool = Field(
        default=False,
        description=(
            "Whether args stand where the leader's do: after those of servers on one node, and "
            "before those that a server adds. For engines that run with the same arguments on "
            "every node."
        ),
    )


class MultiNode(ApiModel):
    """How the engine runs on several nodes: one pod leads and answers, the others join it.

    Each container finds the leader at LWS_LEADER_ADDRESS, and its own number (0 is the leader) in
    LWS_WORKER_INDEX. If one ends, the whole group starts again.
    """

    leader: Leader = Field(default_factory=Leader, description="The pod that answers.")
    worker: Worker = Field(description="The pods that join it.")


class ServerClassSpec(ApiModel):
    """How to run one engine. Servers of a class say which model, how many GPUs, how many pods.

    `image`, `command`, `args`, `revisionArgs`, `servedModel`, `multiNode` and the values of `env`
    may have the placeholders {model}, {revision}, {name} (of the server), {gpus}, {nodes}, {port}
    and {cache} (the folder of `cachePath`). The container also has them as KUBESYNTH_MODEL,
    KUBESYNTH_REVISION, KUBESYNTH_NAME, KUBESYNTH_GPUS, KUBESYNTH_NODES, KUBESYNTH_PORT and
    KUBESYNTH_CACHE, which is how a shell gets at them safely.

    A change of a class rolls the servers that are made from it.
    """

    cel: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            "!has(self.extraPorts) || self.extraPorts.all(p, p.port != self.port)",
            "a port must not occur twice",
            ".extraPorts",
            lambda spec: spec.port not in [extra.port for extra in spec.extra_ports],
        ),
    )

    engine: Annotated[str, Field(min_length=1, max_length=63)] = Field(
        description="The engine, for people: vLLM, NIM, Triton, ..."
    )
    protocol: Protocol = Field(
        default="OpenAI",
        description=(
            "What the endpoint speaks: OpenAI's chat completions below apiPath, or Triton's gRPC."
        ),
    )
    triton: TritonOptions | None = Field(
        default=None,
        description="How a model on Triton is asked, for servers that say nothing of it.",
    )
    image: Annotated[str, Field(min_length=1, max_length=500)] = Field(
        description="Image of the engine, with a tag or digest."
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        default=None, description="When to pull the image, as in a pod spec."
    )
    image_pull_secrets: Annotated[tuple[NameReference, ...], Field(max_length=8)] = Field(
        default=(), description="Secrets for pulling it, in the namespace of each server."
    )
    command: Annotated[tuple[Argument, ...], Field(max_length=16)] = Field(
        default=(), description="Entry point; without it the image's."
    )
    args: Annotated[tuple[Argument, ...], Field(max_length=64)] = Field(
        default=(), description="Arguments. Those of a server come after them."
    )
    revision_args: Annotated[tuple[Argument, ...], Field(max_length=8)] = Field(
        default=(), description="Arguments that are added only when there is a revision."
    )
    default_revision: Revision | None = Field(
        default=None, description="Revision of servers that name none."
    )
    served_model: Annotated[str, Field(min_length=1, max_length=253)] = Field(
        default="{model}", description="Name of the model in requests."
    )
    env: Annotated[tuple[EnvVar, ...], Field(max_length=32)] = Field(
        default=(),
        description="Environment variables, by name.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    token_variables: Annotated[tuple[VariableName, ...], Field(max_length=8)] = Field(
        default=(), description="Environment variables that get a server's token."
    )
    multi_node: MultiNode | None = Field(
        default=None,
        description="How the engine runs on several nodes; without it servers have one.",
    )
    port: PortNumber = Field(default=8000, description="Port of the endpoint.")
    api_path: HttpPath = Field(default="/v1", description="Path below which jobs send requests.")
    extra_ports: Annotated[tuple[ExtraPort, ...], Field(max_length=8)] = Field(
        default=(),
        description="Other ports that the Service gets.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    probes: Probes = Field(
        default_factory=Probes, description="How to see that the server answers."
    )
    gpus: int = Field(default=1, ge=0, le=64, description="GPUs of servers that name no number.")
    gpu_resource: LabelKey = Field(
        default="nvidia.com/gpu", description="Resource that stands for a GPU."
    )
    resources: Resources | None = Field(
        default=None, description="Resources of each pod, beside its GPUs."
    )
    shared_memory: Quantity | None = Field(
        default=None,
        description="Size of /dev/shm, which tensor parallelism needs; it counts as memory.",
    )
    cache_path: Annotated[str, Field(min_length=2, max_length=256, pattern=r"^/[^: ]+$")] = Field(
        default="/cache", description="Where a server's cache is mounted."
    )
    node_selector: Annotated[dict[LabelKey, LabelValue], Field(max_length=16)] = Field(
        default_factory=dict, description="Labels that a node must have."
    )
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=16)] = Field(
        default=(), description="Taints that the pods tolerate."
    )
    affinity: JsonObject | None = Field(default=None, description="Affinity, as in a pod spec.")
    priority_class_name: ObjectName | None = Field(default=None, description="Priority class.")
    runtime_class_name: ObjectName | None = Field(default=None, description="Runtime class.")
    pod_security_context: JsonObject | None = Field(
        default=None, description="Security context of the pod, as in a pod spec."
    )
    security_context: JsonObject | None = Field(
        default=None, description="Security context of the container, as in a pod spec."
    )
    startup_timeout_seconds: int = Field(
        default=3600,
        ge=1,
        le=604800,
        description="From the moment that a pod has a node until the server answers.",
    )
    termination_grace_period_seconds: int = Field(
        default=60, ge=1, le=3600, description="Time for requests under way at the end."
    )


def unknown_placeholders(spec: ServerClassSpec) -> Iterator[tuple[str, str]]:
    """Yield each placeholder that nobody fills in, with the field that has it."""
    texts = [
        ("spec.image", spec.image),
        ("spec.servedModel", spec.served_model),
        *(("spec.command", text) for text in spec.command),
        *(("spec.args", text) for text in spec.args),
        *(("spec.revisionArgs", text) for text in spec.revision_args),
        *(("spec.env", variable.value or "") for variable in spec.env),
        *_texts_of(spec.multi_node),
    ]
    for path, text in texts:
        for found in _PLACEHOLDER.finditer(text):
            if found.group(1) not in PLACEHOLDERS:
                yield path, found.group(0)


def _texts_of(several: MultiNode | None) -> Iterator[tuple[str, str]]:
    if several is None:
        return
    for name, process in (("leader", several.leader), ("worker", several.worker)):
        yield from ((f"spec.multiNode.{name}.command", text) for text in process.command)
        yield from ((f"spec.multiNode.{name}.args", text) for text in process.args)


class ModelServerClass(ApiModel):
    """A template for model servers of its namespace: one engine, and how to run it."""

    api_version: Literal["kubesynth.io/v1alpha1"] = "kubesynth.io/v1alpha1"
    kind: Literal["ModelServerClass"] = "ModelServerClass"
    metadata: dict[str, Any] = Field(default_factory=dict)
    spec: ServerClassSpec = Field(description="How to run the engine.")


class ClusterModelServerClass(ApiModel):
    """A template for model servers of every namespace: one engine, and how to run it.

    The operator makes some of them when it starts, unless they are there. They are yours to change.
    """

    api_version: Literal["kubesynth.io/v1alpha1"] = "kubesynth.io/v1alpha1"
    kind: Literal["ClusterModelServerClass"] = "ClusterModelServerClass"
    metadata: dict[str, Any] = Field(default_factory=dict)
    spec: ServerClassSpec = Field(description="How to run the engine.")
