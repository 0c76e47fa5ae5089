"""From objects as the API server sends them to the values of `seen`. Pure, and never fails."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from kubesynth_api import labels
from kubesynth_api.conditions import Reason
from kubesynth_api.v1alpha1.model_servers import ModelServerSpec, ModelServerStatus
from kubesynth_api.v1alpha1.server_classes import CLUSTER_KIND, KIND, ServerClassSpec
from kubesynth_operator import specs, wire
from kubesynth_operator.observation import JobKey, Problem
from kubesynth_operator.servers import rollout
from kubesynth_operator.servers.seen import (
    Server,
    ServerClass,
    ServerPod,
    Service,
    Workload,
    WorkloadKind,
)

Object = Mapping[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KILLED = 137  # 128 + SIGKILL
_LINE_CHARACTERS = 300
_PROCESS = re.compile(r"^\(\w+ pid=\d+\) ?")
_LINK = "For further information visit "


def parse_server(raw: Object) -> Server:
    """Read a ModelServer."""
    metadata = raw["metadata"]
    spec, complaint = specs.parse(ModelServerSpec, raw)
    try:
        status = ModelServerStatus.model_validate(raw.get("status") or {})
    except ValidationError:
        status = ModelServerStatus()
    return Server(
        key=JobKey(metadata["namespace"], metadata["name"]),
        uid=metadata["uid"],
        generation=int(metadata.get("generation", 1)),
        resource_version=str(metadata.get("resourceVersion", "")),
        deleting="deletionTimestamp" in metadata,
        owner_uid=wire.controller_uid(raw) or "",
        spec=spec,
        spec_problem=Problem(Reason.INVALID_SPEC, complaint) if complaint else None,
        status=status,
    )


def parse_class(raw: Object) -> ServerClass:
    """Read a class of either kind; the one of the cluster has no namespace."""
    metadata = raw["metadata"]
    namespace = str(metadata.get("namespace") or "")
    spec, problem = specs.parse(ServerClassSpec, raw)
    kind = KIND if namespace else CLUSTER_KIND
    return ServerClass(kind, namespace, metadata["name"], spec, problem)


def parse_deployment(raw: Object) -> Workload:
    """Read a server's Deployment."""
    metadata, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    seen = int(status.get("observedGeneration") or 0)
    return _workload(
        raw,
        "Deployment",
        strategy=str((spec.get("strategy") or {}).get("type", "RollingUpdate")),
        current=seen >= int(metadata.get("generation", 1)),
        trouble=str(_condition(status, "ReplicaFailure", "True").get("message", "")),
    )


def parse_groups(raw: Object) -> Workload:
    """Read a server's LeaderWorkerSet."""
    strategy = (raw.get("spec") or {}).get("rolloutStrategy") or {}
    how = strategy.get("rollingUpdateConfiguration") or {}
    return _workload(
        raw,
        "LeaderWorkerSet",
        strategy=rollout.strategy_of_groups(how.get("maxUnavailable")),
        # Its status says neither which version it is about nor why pods cannot be made.
        current=True,
        trouble="",
    )


def _workload(
    raw: Object, kind: WorkloadKind, *, strategy: str, current: bool, trouble: str
) -> Workload:
    metadata, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    return Workload(
        kind=kind,
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=str(metadata.get("resourceVersion", "")),
        owner_uid=wire.controller_uid(raw) or "",
        deleting="deletionTimestamp" in metadata,
        inputs=str((metadata.get("annotations") or {}).get(labels.INPUTS_ANNOTATION, "")),
        wanted=int(spec.get("replicas", 1)),
        strategy=strategy,
        current=current,
        pods=int(status.get("replicas") or 0),
        updated=int(status.get("updatedReplicas") or 0),
        ready=int(status.get("readyReplicas") or 0),
        trouble=trouble,
    )


def parse_service(raw: Object) -> Service:
    """Read a server's Service."""
    ports: list[Object] = (raw.get("spec") or {}).get("ports") or []
    name = raw["metadata"]["name"]
    found = tuple((str(each.get("name", "")), int(each.get("port") or 0)) for each in ports)
    return Service(name, wire.controller_uid(raw) or "", found)


def parse_server_pod(raw: Object) -> ServerPod:
    """Read a server's pod."""
    metadata, status = raw["metadata"], raw.get("status") or {}
    pod_labels = metadata.get("labels") or {}
    scheduled = _condition(status, "PodScheduled", "True")
    unscheduled = _condition(status, "PodScheduled", "False")
    container = _container(status)
    state = container.get("state") or {}
    waiting = state.get("waiting") or {}
    ends = [state.get("terminated"), (container.get("lastState") or {}).get("terminated")]
    if "deletionTimestamp" in metadata:
        ends.reverse()  # the last end is the deletion's, and tells nothing
    ended = ends[0] or ends[1] or {}
    revision = pod_labels.get("pod-template-hash") or pod_labels.get(labels.GROUP_REVISION_LABEL)
    return ServerPod(
        name=metadata["name"],
        uid=str(metadata.get("uid", "")),
        server_uid=str(pod_labels.get(labels.SERVER_UID_LABEL, "")),
        group=str(pod_labels.get(labels.GROUP_INDEX_LABEL, metadata["name"])),
        leads=pod_labels.get(labels.WORKER_INDEX_LABEL, "0") == "0",
        revision=str(revision or ""),
        deleting="deletionTimestamp" in metadata,
        ready=bool(_condition(status, "Ready", "True")),
        created_at=wire.parse_time(metadata.get("creationTimestamp")) or _EPOCH,
        scheduled_at=wire.parse_time(scheduled.get("lastTransitionTime")) if scheduled else None,
        unschedulable=str(unscheduled.get("message") or unscheduled.get("reason") or ""),
        running="running" in state,
        waiting_reason=str(waiting.get("reason") or ""),
        waiting_message=str(waiting.get("message") or ""),
        restarts=int(container.get("restartCount") or 0),
        last_exit=_exit(ended),
        last_line=_last_line(str(ended.get("message") or "")),
    )


def _container(status: Object) -> Object:
    for container in status.get("containerStatuses") or ():
        if container.get("name") == labels.SERVER_CONTAINER:
            return dict(container)
    return {}


def _exit(ended: Object) -> str:
    if not ended:
        return ""
    code, reason = ended.get("exitCode"), ended.get("reason")
    text = f"exit code {code}"
    if code == _KILLED and reason == "Error":
        # Runtimes may lose the kernel's word about memory when the container ends at that moment.
        return f"{text}, killed (by the kernel, if memory ran out)"
    return f"{text}, {reason}" if reason not in (None, "Error", "Completed") else text


def _last_line(text: str) -> str:
    """Return the last line of the end of a log that says anything.

    vLLM puts the process before each line, and pydantic, which reads its arguments, a link behind
    each problem.
    """
    lines = [_PROCESS.sub("", line).strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith(_LINK)]
    return lines[-1][:_LINE_CHARACTERS] if lines else ""


def _condition(status: Object, kind: str, wanted: str) -> Object:
    for condition in status.get("conditions") or ():
        if condition.get("type") == kind and condition.get("status") == wanted:
            return dict(condition)
    return {}
