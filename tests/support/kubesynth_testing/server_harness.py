"""Model servers on a control plane without nodes: the test plays scheduler and kubelet."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from typing import Any

from kubesynth_api.labels import API_VERSION, SERVER_CONTAINER, SERVER_NAME_LABEL
from kubesynth_operator.kube import errors
from kubesynth_operator.kube.resources import (
    DEPLOYMENTS,
    LEADER_WORKER_SETS,
    MODEL_SERVERS,
    PODS,
    SERVER_CLASSES,
    Resource,
)
from kubesynth_operator.servers.manifests import groups_name
from kubesynth_testing.operator_harness import Namespace, eventually

CLASS = "stand-in"
_SCHEDULER_SECONDS = 0.2
MULTI_NODE: dict[str, Any] = {
    "leader": {"command": ["lead"], "args": ["--nodes={nodes}"]},
    "worker": {"command": ["join", "$(LWS_LEADER_ADDRESS)"], "args": ["--gpus={gpus}"]},
}
"""How the stand-in would run on several nodes."""


def class_spec(**spec: Any) -> dict[str, Any]:
    """Return a class that fits PodSecurity `restricted`; `spec` replaces fields."""
    return {
        "engine": "stand-in",
        "image": "registry.example/stand-in:1",
        "args": ["--model", "{model}", "--port", "{port}"],
        "gpus": 1,
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "startupTimeoutSeconds": 600,
        "podSecurityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        **spec,
    }


def inline(**server: Any) -> list[dict[str, Any]]:
    """Return `spec.models` with one role whose server is the job's own."""
    wanted = {"classRef": {"name": CLASS}, "model": "small", **server}
    return [{"name": "generator", "server": wanted, "limits": {"concurrency": 4}}]


def shared(name: str, namespace: str | None = None) -> list[dict[str, Any]]:
    """Return `spec.models` with one role behind which is a shared server."""
    reference = {"name": name} | ({"namespace": namespace} if namespace else {})
    return [{"name": "generator", "serverRef": reference, "limits": {"concurrency": 4}}]


@dataclasses.dataclass(frozen=True, slots=True)
class Servers:
    """The model servers of a namespace."""

    namespace: Namespace

    async def create_class(self, name: str = CLASS, **spec: Any) -> None:
        """Create a ModelServerClass."""
        manifest = {
            "apiVersion": API_VERSION,
            "kind": "ModelServerClass",
            "metadata": {"name": name},
            "spec": class_spec(**spec),
        }
        await self.namespace.client.create(SERVER_CLASSES, self.namespace.name, manifest)

    async def create(self, name: str = "llama", **spec: Any) -> None:
        """Create a ModelServer of the class; `spec` replaces fields."""
        manifest = {
            "apiVersion": API_VERSION,
            "kind": "ModelServer",
            "metadata": {"name": name},
            "spec": {"classRef": {"name": CLASS}, "model": "small", **spec},
        }
        await self.namespace.client.create(MODEL_SERVERS, self.namespace.name, manifest)

    async def patch(self, name: str, spec: dict[str, Any]) -> None:
        """Change a server's spec."""
        client, namespace = self.namespace.client, self.namespace.name
        await client.merge_patch(MODEL_SERVERS, namespace, name, {"spec": spec})

    async def get(self, name: str = "llama") -> dict[str, Any] | None:
        """Return a server, or None."""
        try:
            return await self.namespace.client.get(MODEL_SERVERS, self.namespace.name, name)
        except errors.NotFoundError:
            return None

    async def deployment(self, name: str = "llama") -> dict[str, Any] | None:
        """Return a server's Deployment, or None."""
        try:
            return await self.namespace.client.get(DEPLOYMENTS, self.namespace.name, name)
        except errors.NotFoundError:
            return None

    async def groups(self, name: str = "llama") -> dict[str, Any] | None:
        """Return a server's LeaderWorkerSet, or None."""
        try:
            return await self.namespace.client.get(
                LEADER_WORKER_SETS, self.namespace.name, groups_name(name)
            )
        except errors.NotFoundError:
            return None

    async def until_groups(self, count: int, name: str = "llama") -> None:
        """Wait until the LeaderWorkerSet wants so many groups."""

        async def look() -> bool:
            found = await self.groups(name)
            return found is not None and found["spec"]["replicas"] == count

        await eventually(look, f"{name} wants {count} groups")

    async def until_replicas(self, count: int, name: str = "llama") -> None:
        """Wait until the Deployment wants so many pods."""

        async def look() -> bool:
            found = await self.deployment(name)
            return found is not None and found["spec"]["replicas"] == count

        await eventually(look, f"{name} wants {count} pods")

    async def until(self, kind: str, status: str, reason: str, name: str = "llama") -> str:
        """Wait until a condition of a server says this, and return its message."""

        async def look() -> str | None:
            found = await self.get(name)
            conditions = ((found or {}).get("status") or {}).get("conditions") or []
            for each in conditions:
                if (each["type"], each["status"], each["reason"]) == (kind, status, reason):
                    return str(each.get("message") or "-")
            return None

        try:
            return await eventually(look, f"{kind}={status}/{reason}")
        except AssertionError as exc:
            raise AssertionError(f"{exc}; server: {await self.get(name)}") from None

    async def pods(self, name: str = "llama") -> list[dict[str, Any]]:
        """Return the pods of a server that are not being deleted."""
        found = await self.namespace.objects(PODS, f"{SERVER_NAME_LABEL}={name}")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    async def play(self, name: str = "llama", **step: Any) -> str:
        """Bring a server's only pod to a step of its start; see `pod_status`."""

        async def look() -> str | None:
            pods = await self.pods(name)
            return str(pods[0]["metadata"]["name"]) if len(pods) == 1 else None

        pod = await eventually(look, f"one pod of {name}")
        await self.play_pod(pod, **step)
        return pod

    async def play_pod(self, pod: str, **step: Any) -> None:
        """Bring one pod to a step of its start.

        Not the pod of that name which may be made in its place, as a group's are when one fails.
        """
        uid = (await self.namespace.client.get(PODS, self.namespace.name, pod))["metadata"]["uid"]
        await self._until_judged(pod)
        await self._bind(pod)

        async def set_it() -> bool:
            try:
                await self.namespace.set_pod_status(pod, pod_status(**step), uid)
                # The scheduler may be about to write what it found when it looked once more.
                await asyncio.sleep(_SCHEDULER_SECONDS)
                found = await self.namespace.client.get(PODS, self.namespace.name, pod)
            except errors.NotFoundError:
                return True
            return found["metadata"]["uid"] != uid or _is_scheduled(found)

        await eventually(set_it, f"{pod} keeps its status")

    async def until_pods(self, *names: str, server: str = "llama") -> list[dict[str, Any]]:
        """Wait until a server has exactly these pods, and return them in this order."""

        async def look() -> list[dict[str, Any]] | None:
            found = {pod["metadata"]["name"]: pod for pod in await self.pods(server)}
            return [found[name] for name in names] if set(found) == set(names) else None

        return await eventually(look, f"{server} has the pods {', '.join(names)}")

    async def _until_judged(self, pod: str) -> None:
        """Wait until the scheduler has found no node; on a busy host it says so seconds later."""

        async def look() -> bool:
            try:
                found = await self.namespace.client.get(PODS, self.namespace.name, pod)
            except errors.NotFoundError:
                return True
            return "PodScheduled" in {
                each["type"] for each in found["status"].get("conditions", ())
            }

        await eventually(look, f"the scheduler has looked at {pod}")

    async def _bind(self, pod: str) -> None:
        """Give a pod to a node that is not there, so that the scheduler leaves it alone."""
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod},
            "target": {"apiVersion": "v1", "kind": "Node", "name": "nowhere"},
        }
        resource = Resource("", "v1", f"pods/{pod}/binding")
        with contextlib.suppress(errors.ConflictError, errors.AlreadyExistsError):
            await self.namespace.client.create(resource, self.namespace.name, binding)


def _is_scheduled(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", ())
    return ("PodScheduled", "True") in {(each["type"], each["status"]) for each in conditions}


def pod_status(
    *,
    ready: bool = False,
    waiting: tuple[str, str] | None = None,
    restarts: int = 0,
    last_log: str = "",
    last_exit: tuple[int, str] = (1, "Error"),
    unschedulable: str = "",
) -> dict[str, Any]:
    """Return the status of a pod that has a node and runs, unless something else is said.

    `last_exit` is the exit code and the reason of the container that was restarted last.
    """
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if unschedulable:
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": unschedulable,
            "lastTransitionTime": now,
        }
        return {"phase": "Pending", "conditions": [condition]}
    state: dict[str, Any] = {"running": {"startedAt": now}}
    if waiting is not None:
        state = {"waiting": {"reason": waiting[0], "message": waiting[1]}}
    last: dict[str, Any] = {}
    if restarts:
        code, reason = last_exit
        last = {"terminated": {"exitCode": code, "reason": reason, "message": last_log}}
    return {
        "phase": "Pending" if waiting is not None else "Running",
        "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": now},
            {"type": "Ready", "status": str(ready), "lastTransitionTime": now},
        ],
        "containerStatuses": [
            {
                "name": SERVER_CONTAINER,
                "image": "stand-in",
                "imageID": "stand-in",
                "ready": ready,
                "restartCount": restarts,
                "state": state,
                "lastState": last,
            }
        ],
    }
