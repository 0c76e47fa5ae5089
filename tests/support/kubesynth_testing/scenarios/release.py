"""The operator, installed with the chart."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kubesynth_testing.cluster import binaries, paths
from kubesynth_testing.cluster.kind import Cluster
from kubesynth_testing.cluster.runners import Kubectl, Runner
from kubesynth_testing.cluster.shell import CommandError

CHART = paths.REPOSITORY / "helm" / "kubesynth"
_SELECTOR = "app.kubernetes.io/name=kubesynth-operator"
_LOG_LINES = "--tail=150"


@dataclasses.dataclass(frozen=True, slots=True)
class Release:
    """One installation of the chart. Its Deployment has the release's name.

    Attributes:
        helm: helm for its namespace.
        kubectl: kubectl for its namespace.
        name: The release.
        image: The image of operator and runners.
        lock: Held by whoever takes the operator away for a while or upgrades it.
    """

    helm: Runner
    kubectl: Kubectl
    name: str
    image: str
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock, compare=False)

    @property
    def namespace(self) -> str:
        """Where the operator runs."""
        return self.helm.namespace

    def install(self, values: Mapping[str, Any] | None = None) -> None:
        """Install the chart, or upgrade to other values, and wait until the operator is ready."""
        repository, _, tag = self.image.rpartition(":")
        given = {"image": {"repository": repository, "tag": tag}, **(values or {})}
        self.helm(
            *("upgrade", "--install", self.name, CHART, "--values", "-"),
            *("--wait", "--timeout", "180s"),
            stdin=json.dumps(given),
            timeout_seconds=400,
        )

    def uninstall(self) -> None:
        """Take the release away; the CRDs stay."""
        self.helm("uninstall", self.name, "--wait")

    def stop(self) -> None:
        """Scale the operator to nothing and wait until it is gone."""
        self._scale(0)
        self.kubectl.wait("delete", "pods", "-l", _SELECTOR, timeout_seconds=200)

    def start(self) -> None:
        """Start it again and wait until it is ready."""
        self._scale(1)
        self.kubectl("rollout", "status", f"deployment/{self.name}", "--timeout=120s")

    @contextmanager
    def away(self) -> Iterator[None]:
        """Have no operator for the length of a `with` block; hold the lock meanwhile."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def _scale(self, replicas: int) -> None:
        self.kubectl("scale", f"deployment/{self.name}", f"--replicas={replicas}")

    def pods(self) -> list[dict[str, Any]]:
        """Return the operator's pods."""
        found: list[dict[str, Any]] = self.kubectl.json("get", "pods", "-l", _SELECTOR)["items"]
        return found

    def logs(self) -> str:
        """Return the end of the operator's log, and of the one before it if it was restarted."""
        parts = []
        for extra in ((), ("--previous",)):
            try:
                parts.append(self.kubectl("logs", "-l", _SELECTOR, _LOG_LINES, *extra))
            except CommandError as error:
                parts.append(error.output)
        return "\n".join(parts)


def release(cluster: Cluster, namespace: str, image: str, name: str = "kubesynth") -> Release:
    """Return a release that is not installed yet."""
    helm = Runner(binaries.ensure(["helm"]) / "helm", cluster.kubeconfig, namespace)
    kubectl = Kubectl(cluster.kubectl_program, cluster.kubeconfig, namespace)
    return Release(helm, kubectl, name, image)
