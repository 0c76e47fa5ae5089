"""Builders of what the operator sees of model servers, read through its own parsers."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta
from typing import Any

from kubesynth_api import labels
from kubesynth_api.v1alpha1.model_servers import ModelServerStatus
from kubesynth_operator.observation import Obstacle, Referent
from kubesynth_operator.servers import manifests, plan, rollout, wire
from kubesynth_operator.servers.seen import (
    Server,
    ServerClass,
    ServerObservation,
    ServerPlan,
    ServerPod,
    Service,
    Workload,
)
from kubesynth_operator.wire import format_time
from kubesynth_testing.builders import NOW
from kubesynth_testing.server_harness import CLASS, MULTI_NODE, class_spec, pod_status

UID = "22222222-2222-3333-4444-555555555555"


def a_server(
    name: str = "llama",
    *,
    status: ModelServerStatus | None = None,
    deleting: bool = False,
    **spec: Any,
) -> Server:
    """Return a ModelServer as the operator reads it."""
    metadata = {"name": name, "namespace": "team", "uid": UID, "generation": 1}
    if deleting:
        metadata["deletionTimestamp"] = format_time(NOW)
    raw = {
        "metadata": metadata,
        "spec": {"classRef": {"name": CLASS}, "model": "small", **spec},
        "status": status.to_wire() if status else {},
    }
    return wire.parse_server(raw)


def a_class(**spec: Any) -> ServerClass:
    """Return the class of the servers."""
    metadata = {"name": CLASS, "namespace": "team"}
    return wire.parse_class({"metadata": metadata, "spec": class_spec(**spec)})


def a_deployment(
    server: Server,
    template: ServerClass | None = None,
    *,
    replicas: int = 1,
    strategy: str = "RollingUpdate",
    status: dict[str, Any] | None = None,
    inputs: str | None = None,
) -> Workload:
    """Return the Deployment that the operator would have applied, and what became of it."""
    raw = _applied(server, template or a_class(), replicas, strategy, inputs)
    settled = {"observedGeneration": 1, "replicas": replicas, "updatedReplicas": replicas}
    raw["status"] = {**settled, **(status or {})}
    return wire.parse_deployment(raw)


def some_groups(
    server: Server,
    template: ServerClass | None = None,
    *,
    replicas: int = 1,
    strategy: str = rollout.ONE_BY_ONE,
    inputs: str | None = None,
) -> Workload:
    """Return the LeaderWorkerSet that the operator would have applied."""
    chosen = template or a_class(multiNode=MULTI_NODE)
    return wire.parse_groups(_applied(server, chosen, replicas, strategy, inputs))


def _applied(
    server: Server, template: ServerClass, replicas: int, strategy: str, inputs: str | None
) -> dict[str, Any]:
    """Return the workload as the API server has it; `inputs` replaces what it was made from."""
    assert template.spec is not None
    raw = manifests.workload(
        server, template.spec, replicas=replicas, strategy=strategy, secret_version=""
    )
    raw["metadata"] |= {"uid": "uid-of-workload", "resourceVersion": "7", "generation": 1}
    if inputs is not None:
        raw["metadata"]["annotations"] = {labels.INPUTS_ANNOTATION: inputs}
    return raw


def a_server_pod(
    name: str = "llama-1",
    *,
    revision: str = "1",
    scheduled: timedelta = timedelta(minutes=1),
    age: timedelta = timedelta(minutes=1),
    deleting: bool = False,
    member: tuple[int, int] | None = None,
    **step: Any,
) -> ServerPod:
    """Return a pod; `step` says where it stands, see `server_harness.pod_status`.

    `member` has its group and its number in it, where a replica has several nodes.
    """
    status = pod_status(**step)
    for condition in status["conditions"]:
        condition["lastTransitionTime"] = format_time(NOW - scheduled)
    metadata: dict[str, Any] = {
        "name": name,
        "labels": {labels.SERVER_UID_LABEL: UID, "pod-template-hash": revision},
        "creationTimestamp": format_time(NOW - age),
        "uid": f"uid-of-{name}",
    }
    if member is not None:
        group, index = member
        metadata["labels"] |= {
            labels.GROUP_INDEX_LABEL: str(group),
            labels.WORKER_INDEX_LABEL: str(index),
        }
    if deleting:
        metadata["deletionTimestamp"] = format_time(NOW)
    return wire.parse_server_pod({"metadata": metadata, "status": status})


_SERVICE = Service("llama", UID, (("endpoint", 8000),))


@dataclasses.dataclass(frozen=True, slots=True)
class Around:
    """What an observation has besides the server."""

    now: datetime = NOW
    server_class: ServerClass | None = dataclasses.field(default_factory=a_class)
    users: tuple[str, ...] = ()
    workload: Workload | None = None
    service: Service | None = _SERVICE
    pods: tuple[ServerPod, ...] = ()
    secret: Referent | None = None
    class_hint: str = "there is no such class"
    groups_problem: str = ""
    obstacles: tuple[Obstacle, ...] = ()


def look(server: Server, **around: Any) -> ServerObservation:
    """Return one look at a server; fields of `Around` say what else was seen."""
    found = Around(**around)
    fields = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    return ServerObservation(server=server, **fields)


def decide(server: Server, **around: Any) -> ServerPlan:
    """Return the plan for a server."""
    return plan.reconcile(look(server, **around))


def conditions(result: ServerPlan) -> dict[str, tuple[str, str, str]]:
    """Return status, reason and message by type of condition, as the plan would store them."""
    assert result.status is not None, "the status was left as it is"
    return {
        each.type: (each.status, each.reason, each.message) for each in result.status.conditions
    }
