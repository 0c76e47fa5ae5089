"""The children of a server: Deployment or LeaderWorkerSet, Service, volume claim. Pure."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from kubesynth_api import labels
from kubesynth_api.v1alpha1.model_servers import KIND, ModelServerSpec, Revision
from kubesynth_api.v1alpha1.server_classes import ServerClassSpec, fill_in
from kubesynth_operator.servers import pods, rollout
from kubesynth_operator.servers.seen import Server

# Raised only when pods of an earlier operator cannot be left as they are.
_FORMAT = 1
_GROUPS_NAME_MAX_LENGTH = 48
_SCALING_FIELDS = {"replicas", "idle", "allowed_namespaces", "rollout", "triton"}


def inputs(spec: ModelServerSpec, template: ServerClassSpec, secret_version: str) -> str:
    """Return the hash of everything that pods are made from.

    Of what users wrote, and not of the manifest: a newer operator, which may write another one,
    must not restart servers that are at work.
    """
    content = {
        "format": _FORMAT,
        "server": spec.model_dump(
            mode="json", exclude=_SCALING_FIELDS, exclude_defaults=True, exclude_none=True
        ),
        "class": template.model_dump(
            mode="json",
            exclude={"triton"} if spec.nodes > 1 else {"triton", "multi_node"},
            exclude_defaults=True,
            exclude_none=True,
        ),
        "secret": secret_version,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def workload(
    server: Server,
    template: ServerClassSpec,
    *,
    replicas: int,
    strategy: str,
    secret_version: str,
) -> dict[str, Any]:
    """Return the Deployment, or the LeaderWorkerSet where replicas have several nodes.

    Raises:
        ValueError: the spec was not understood, or the class does not say how.
    """
    spec = _spec(server)
    grouped = spec.nodes > 1
    name = groups_name(server.key.name) if grouped else server.key.name
    metadata = _metadata(server, name)
    metadata["annotations"] = {labels.INPUTS_ANNOTATION: inputs(spec, template, secret_version)}
    of_kind = (_groups if grouped else _deployment)(server, template, strategy, secret_version)
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1" if grouped else "apps/v1",
        "kind": "LeaderWorkerSet" if grouped else "Deployment",
        "metadata": metadata,
        "spec": {"replicas": replicas, **of_kind},
    }


def _deployment(
    server: Server, template: ServerClassSpec, strategy: str, secret_version: str
) -> dict[str, Any]:
    timeout = _spec(server).startup_timeout_seconds or template.startup_timeout_seconds
    rolling = {"maxSurge": 1, "maxUnavailable": 0} if strategy == rollout.SURGE else None
    return {
        "revisionHistoryLimit": 2,
        # Its own verdict on a start is not looked at, so it may as well never give one.
        "progressDeadlineSeconds": 2 * timeout + 3600,
        "selector": {"matchLabels": {labels.SERVER_UID_LABEL: server.uid}},
        "strategy": {"type": strategy} | ({"rollingUpdate": rolling} if rolling else {}),
        "template": pods.template(
            server, template, claim=claim_name(server), secret_version=secret_version
        ),
    }


def _groups(
    server: Server, template: ServerClassSpec, strategy: str, secret_version: str
) -> dict[str, Any]:
    made = {
        role: pods.template(
            server, template, claim=claim_name(server), secret_version=secret_version, role=role
        )
        for role in (pods.Role.LEADER, pods.Role.WORKER)
    }
    return {
        # Engines wait for their workers before they answer.
        "startupPolicy": "LeaderCreated",
        "leaderWorkerTemplate": {
            "size": _spec(server).nodes,
            # No engine takes back a worker that was gone.
            "restartPolicy": "RecreateGroupOnPodRestart",
            "leaderTemplate": made[pods.Role.LEADER],
            "workerTemplate": made[pods.Role.WORKER],
        },
        **rollout.of_groups(strategy),
    }


def groups_name(server_name: str) -> str:
    """Return the name of a server's LeaderWorkerSet.

    Not the server's own: its controller makes a headless Service of that name. Short enough for the
    StatefulSet of a group, which has the group's number behind it.
    """
    whole = f"{server_name}-lws"
    if len(whole) <= _GROUPS_NAME_MAX_LENGTH:
        return whole
    tail = f"-{hashlib.sha256(server_name.encode()).hexdigest()[:8]}-lws"
    return server_name[: _GROUPS_NAME_MAX_LENGTH - len(tail)] + tail


def selector(server: Server) -> dict[str, str]:
    """Return the labels of the pods that answer.

    Raises:
        ValueError: the spec was not understood.
    """
    found = {labels.SERVER_UID_LABEL: server.uid}
    return found | {labels.WORKER_INDEX_LABEL: "0"} if _spec(server).nodes > 1 else found


def service(server: Server, template: ServerClassSpec) -> dict[str, Any]:
    """Return the Service: the endpoint's port first, then the others.

    Raises:
        ValueError: the spec was not understood.
    """
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(server, server.key.name),
        "spec": {
            "selector": selector(server),
            "ports": [
                {"name": name, "port": port, "targetPort": name, "protocol": "TCP"}
                for name, port in ports(template)
            ],
        },
    }


def ports(template: ServerClassSpec) -> tuple[tuple[str, int], ...]:
    """Return names and numbers of the Service's ports, that of the endpoint first."""
    extra = tuple((each.name, each.port) for each in template.extra_ports)
    return ((pods.PORT_NAME, template.port), *extra)


def endpoint(server: Server, template: ServerClassSpec) -> str:
    """Return the base URL for jobs of any namespace."""
    host = f"{server.key.name}.{server.key.namespace}.svc"
    if template.protocol == "Triton":
        return f"grpc://{host}:{template.port}"
    return f"http://{host}:{template.port}{template.api_path}"


def served_model(server: Server, template: ServerClassSpec) -> str:
    """Return the model's name in requests.

    Raises:
        ValueError: the spec was not understood.
    """
    return fill_in(template.served_model, pods.placeholders(server, template))


def claim_name(server: Server) -> str | None:
    """Return the name of the volume claim that all replicas mount, if there is one.

    A cache that is kept is named after the model, so that the next server of it finds the weights.

    Raises:
        ValueError: the spec was not understood.
    """
    cache = _spec(server).cache
    if cache is None:
        return None
    if cache.claim is not None:
        return cache.claim.name
    if cache.shared is None:
        return None
    if cache.shared.retention == "Delete":
        return f"{server.key.name}-cache"
    return f"model-cache-{cache_key(server)}"


def cache_key(server: Server) -> str:
    """Return what the weights of a model are known by.

    Raises:
        ValueError: the spec was not understood.
    """
    spec = _spec(server)
    revision: Revision = spec.revision or ""
    content = json.dumps([spec.class_ref.name, spec.model, revision])
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def claim(server: Server) -> dict[str, Any] | None:
    """Return the volume claim that the operator has to make, if any.

    Raises:
        ValueError: the spec was not understood.
    """
    cache = _spec(server).cache
    name = claim_name(server)
    if cache is None or cache.shared is None or name is None:
        return None
    metadata = _metadata(server, name)
    if cache.shared.retention == "Retain":
        del metadata["ownerReferences"]
        metadata["labels"] = {
            labels.MANAGED_BY_LABEL: labels.MANAGED_BY_VALUE,
            labels.CACHE_LABEL: cache_key(server),
        }
    wanted: dict[str, Any] = {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": cache.shared.size}},
    }
    if cache.shared.storage_class_name is not None:
        wanted["storageClassName"] = cache.shared.storage_class_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata,
        "spec": wanted,
    }


def _metadata(server: Server, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": server.key.namespace,
        "labels": pods.own_labels(server),
        "ownerReferences": [
            {
                "apiVersion": labels.API_VERSION,
                "kind": KIND,
                "name": server.key.name,
                "uid": server.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }


def _spec(server: Server) -> ModelServerSpec:
    if server.spec is None:
        raise ValueError(f"the spec of {server.key.name} was not understood")
    return server.spec
