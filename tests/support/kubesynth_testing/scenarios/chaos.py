"""Kills containers at random moments, the way nothing but a kernel does.

A privileged pod on every node finds the processes of a pod by its uid in their cgroup and sends
them SIGKILL: no signal handler, no grace period, no API object changes first.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal, Self

from kubesynth_api.labels import JOB_NAME_LABEL
from kubesynth_testing.cluster.progress import say
from kubesynth_testing.cluster.runners import Kubectl
from kubesynth_testing.cluster.shell import CommandError
from kubesynth_testing.scenarios.world import Manifest, World

_PAUSE_SECONDS = (0.3, 3.0)
_RAGE_SECONDS = 180.0
_KILL = """
import os, signal, sys
uids = {sys.argv[1], sys.argv[1].replace('-', '_')}
killed = 0
for pid in filter(str.isdigit, os.listdir('/proc')):
    try:
        cgroup = open(f'/proc/{pid}/cgroup').read()
        name = open(f'/proc/{pid}/comm').read().strip()
        if name != 'pause' and any(uid in cgroup for uid in uids):
            os.kill(int(pid), signal.SIGKILL)
            killed += 1
    except (FileNotFoundError, ProcessLookupError):
        pass
print(killed)
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Blow:
    """What was done to a pod: SIGKILL to its processes, or deletion without a grace period."""

    target: Literal["operator", "runner"]
    pod: str
    means: Literal["SIGKILL", "deleted"]


class Killers:
    """Privileged pods, one on each node that runs pods of the tests."""

    def __init__(self, world: World, name: str) -> None:
        self._api = world.api
        self._kubectl = world.kubectl(name)
        self._image = world.image

    def __enter__(self) -> Self:
        namespace: Manifest = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": self._kubectl.namespace,
                "labels": {"pod-security.kubernetes.io/enforce": "privileged"},
            },
        }
        self._kubectl.apply(namespace, self._daemon_set())
        self._kubectl(
            "rollout", "status", "daemonset/killer", "--timeout=240s", timeout_seconds=250
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._kubectl("delete", "namespace", self._kubectl.namespace, "--wait=false")

    def _daemon_set(self) -> Manifest:
        pod: Manifest = {
            "hostPID": True,
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": "main",
                    "image": self._image,
                    "command": ["sleep", "3600"],
                    "securityContext": {"privileged": True, "runAsUser": 0},
                }
            ],
        }
        return {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": "killer"},
            "spec": {
                "selector": {"matchLabels": {"app": "killer"}},
                "template": {"metadata": {"labels": {"app": "killer"}}, "spec": pod},
            },
        }

    def kill(self, pod: dict[str, Any]) -> bool:
        """Send SIGKILL to every process of a pod; tell whether there was one."""
        node = f"spec.nodeName={pod['spec']['nodeName']}"
        killer, *_ = self._api.list(
            self._kubectl.namespace, "pods", labels="app=killer", fields=node
        )
        command = ("python", "-c", _KILL, pod["metadata"]["uid"])
        return int(self._kubectl("exec", _name(killer), "--", *command)) > 0


class Storm:
    """Strikes the pods of one job and of the operator, at random, until it has struck enough."""

    def __init__(self, world: World, killers: Killers, kubectl: Kubectl, job: str) -> None:
        self._world = world
        self._killers = killers
        self._kubectl = kubectl
        self._job = job
        self.blows: list[Blow] = []

    def rage(self, draw: random.Random, count: int, *, look: Callable[[], None]) -> None:
        """Strike `count` times at random moments, and look after each blow.

        Raises:
            TimeoutError: there was nothing to strike for too long.
        """
        deadline = time.monotonic() + _RAGE_SECONDS
        while len(self.blows) < count:
            time.sleep(draw.uniform(*_PAUSE_SECONDS))
            blow = self._strike(draw)
            if blow is not None:
                self.blows.append(blow)
                say(f"blow {len(self.blows)}: {blow.target} {blow.pod} {blow.means}")
                look()
            if time.monotonic() > deadline:
                raise TimeoutError(f"only {len(self.blows)} of {count} blows: {self.blows}")

    def _strike(self, draw: random.Random) -> Blow | None:
        """Strike one running pod, or nothing if none runs."""
        runners = self._running(self._kubectl.namespace, f"{JOB_NAME_LABEL}={self._job}")
        operators = self._running(self._world.operator.namespace, "")
        # Runners are many and come and go; the operator gets its share of three in ten.
        target: Literal["operator", "runner"] = "operator" if draw.random() < 0.3 else "runner"
        victims = operators if target == "operator" else runners
        if not victims:
            return None
        victim = draw.choice(victims)
        name: str = victim["metadata"]["name"]
        # A container that was killed before is restarted later and later; a new pod is not.
        again = victim["status"]["containerStatuses"][0]["restartCount"] > 0
        if again or draw.random() < 0.3:
            kubectl = self._world.operator.kubectl if target == "operator" else self._kubectl
            return Blow(target, name, "deleted") if _delete(kubectl, name) else None
        return Blow(target, name, "SIGKILL") if self._killers.kill(victim) else None

    def _running(self, namespace: str, selector: str) -> list[dict[str, Any]]:
        pods = self._world.api.list(namespace, "pods", labels=selector)
        return sorted((pod for pod in pods if _runs(pod)), key=_name)


def _name(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["name"])


def _runs(pod: dict[str, Any]) -> bool:
    states = [item.get("state", {}) for item in pod["status"].get("containerStatuses", ())]
    deleting = "deletionTimestamp" in pod["metadata"]
    return bool(states) and "running" in states[0] and not deleting


def _delete(kubectl: Kubectl, name: str) -> bool:
    try:
        kubectl("delete", "pod", name, "--force", "--grace-period=0", "--wait=false")
    except CommandError:
        return False
    return True
