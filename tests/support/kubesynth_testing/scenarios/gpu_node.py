"""A node with GPUs that are none, and servers that need them.

The real scheduler places pods by an extended resource, as on a GPU node; the engine in the image is
the embedded model, on the CPU, which speaks the real protocol.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kubesynth_api.labels import API_VERSION
from kubesynth_testing.cluster.kind import Cluster
from kubesynth_testing.scenarios.world import RESTRICTED_CONTAINER, RESTRICTED_POD, Manifest, World

RESOURCE = "nvidia.com/gpu"
# What needs no GPU shall leave the node its room, but may go there: of two workers neither is free.
_TAINT = f"{RESOURCE}=present:PreferNoSchedule"
_PATH = RESOURCE.replace("/", "~1")


@contextmanager
def gpu_node(cluster: Cluster, *, gpus: int) -> Iterator[str]:
    """Turn a worker into a node with GPUs for the length of a `with` block; yield its name."""
    listing = json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"]
    workers = sorted(
        node["metadata"]["name"]
        for node in listing
        if "node-role.kubernetes.io/control-plane" not in node["metadata"]["labels"]
    )
    node = workers[-1]
    _patch(cluster, node, "add", gpus)
    cluster.kubectl("taint", "node", node, "--overwrite", _TAINT)
    try:
        yield node
    finally:
        cluster.kubectl("taint", "node", node, f"{RESOURCE}-")
        _patch(cluster, node, "remove", gpus)


def _patch(cluster: Cluster, node: str, operation: str, gpus: int) -> None:
    changes = [
        {"op": operation, "path": f"/status/{part}/{_PATH}", "value": str(gpus)}
        for part in ("capacity", "allocatable")
    ]
    patch = json.dumps(changes)
    cluster.kubectl("patch", "node", node, "--subresource=status", "--type=json", "-p", patch)


def class_of(world: World, name: str, **spec: Any) -> Manifest:
    """Return a class whose engine is the embedded model."""
    return {
        "apiVersion": API_VERSION,
        "kind": "ModelServerClass",
        "metadata": {"name": name},
        "spec": {
            "engine": "llama.cpp, standing in for an engine on a GPU",
            "image": world.model_image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["kubesynth", "local", "serve"],
            "args": ["--host=0.0.0.0", "--port={port}", "--slots=4"],
            "servedModel": "smollm2-135m-instruct",
            "tolerations": [{"key": RESOURCE, "operator": "Exists"}],
            "resources": {"requests": {"cpu": "200m"}},
            "podSecurityContext": RESTRICTED_POD,
            "securityContext": RESTRICTED_CONTAINER,
            "startupTimeoutSeconds": 600,
            "terminationGracePeriodSeconds": 1,
            **spec,
        },
    }


def shared_server(name: str, class_name: str, **spec: Any) -> Manifest:
    """Return a ModelServer."""
    return {
        "apiVersion": API_VERSION,
        "kind": "ModelServer",
        "metadata": {"name": name},
        "spec": {"classRef": {"name": class_name}, "model": "smollm2", **spec},
    }
