"""Volumes that pods on all nodes can write at once: folders of the host that all nodes mount.

They are there before anybody claims one. A provisioner would start a pod to make each folder and
one to delete it, a fifth of all pods of a run of the tests.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any

from kubesynth_testing.cluster.docker_client import Docker

STORAGE_CLASS = "shared"
"""The StorageClass of these volumes."""

PATH = "/var/kubesynth-shared"
"""Where the nodes have the folder of the host."""

_FEWEST = 32  # more than the tests of a session claim
_STOCK = 64

_CLASS: dict[str, Any] = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": STORAGE_CLASS},
    "provisioner": "kubernetes.io/no-provisioner",
    "volumeBindingMode": "Immediate",
}


def provide(docker: Docker, kubectl: Callable[..., str], node: str) -> None:
    """See to it that there are volumes to claim; what was released is deleted.

    Args:
        docker: The daemon that runs the nodes.
        kubectl: kubectl, as the administrator.
        node: The container of any node.
    """
    phases = _phases(json.loads(kubectl("get", "persistentvolumes", "-o", "json"))["items"])
    if sum(phase == "Available" for phase in phases.values()) >= _FEWEST:
        return
    released = [name for name, phase in phases.items() if phase in ("Released", "Failed")]
    left = [phase for phase in phases.values() if phase == "Available"]
    made = [f"shared-{secrets.token_hex(4)}" for _ in range(_STOCK - len(left))]
    if released:
        kubectl("delete", "persistentvolumes", "--wait=false", *released)
        docker.run("exec", node, "rm", "-rf", *(f"{PATH}/{name}" for name in released))
    docker.run("exec", node, "mkdir", "-m", "0777", *(f"{PATH}/{name}" for name in made))
    listing = {"apiVersion": "v1", "kind": "List", "items": [_CLASS, *map(_volume, made)]}
    kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(listing))


def _phases(volumes: list[dict[str, Any]]) -> dict[str, str]:
    """Return the phase of each of our volumes, by name."""
    return {
        volume["metadata"]["name"]: volume.get("status", {}).get("phase", "Pending")
        for volume in volumes
        if volume["spec"].get("storageClassName") == STORAGE_CLASS
    }


def _volume(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "storageClassName": STORAGE_CLASS,
            "capacity": {"storage": "10Gi"},
            "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": f"{PATH}/{name}", "type": "Directory"},
        },
    }
