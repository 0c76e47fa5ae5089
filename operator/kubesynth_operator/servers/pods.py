"""The pod of a model server: the class's template, filled in with what the server says. Pure."""

from __future__ import annotations

from enum import Enum
from typing import Any

from kubesynth_api import labels
from kubesynth_api.v1alpha1.model_servers import ModelServerSpec
from kubesynth_api.v1alpha1.runner_pods import EnvVar
from kubesynth_api.v1alpha1.server_classes import ServerClassSpec, fill_in
from kubesynth_operator.servers.seen import Server

PORT_NAME = "endpoint"
_STARTUP_PERIOD_SECONDS = 3
# A pod that is going is taken out of the Service before it is told to stop.
_LEAVE_SECONDS = 5


class Role(Enum):
    """What a pod does. Where a replica has one node, each pod is alone."""

    ALONE = "alone"
    LEADER = "leader"
    WORKER = "worker"


def own_labels(server: Server) -> dict[str, str]:
    """Return the labels of every child of a server."""
    return {
        labels.MANAGED_BY_LABEL: labels.MANAGED_BY_VALUE,
        labels.NAME_LABEL: labels.SERVER_NAME_VALUE,
        labels.SERVER_NAME_LABEL: server.key.name,
        labels.SERVER_UID_LABEL: server.uid,
    }


def placeholders(server: Server, template: ServerClassSpec) -> dict[str, str]:
    """Return what each placeholder of a class stands for.

    Raises:
        ValueError: the spec was not understood.
    """
    spec = _spec(server)
    return {
        "model": spec.model,
        "revision": spec.revision or template.default_revision or "",
        "name": server.key.name,
        "gpus": str(template.gpus if spec.gpus is None else spec.gpus),
        "nodes": str(spec.nodes),
        "port": str(template.port),
        "cache": template.cache_path,
    }


def template(
    server: Server,
    template: ServerClassSpec,
    *,
    claim: str | None,
    secret_version: str,
    role: Role = Role.ALONE,
) -> dict[str, Any]:
    """Return the pod template.

    Raises:
        ValueError: the spec was not understood, or the class does not say how several nodes work.
    """
    spec = _spec(server)
    metadata: dict[str, Any] = {"labels": own_labels(server)}
    if secret_version:
        metadata["annotations"] = {labels.SECRET_ANNOTATION: secret_version}
    volumes = _volumes(spec, template, claim)
    return {
        "metadata": metadata,
        "spec": {
            **_placement(spec, template),
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": (
                template.termination_grace_period_seconds + _LEAVE_SECONDS
            ),
            "containers": [
                {
                    **_container(server, template, role),
                    "volumeMounts": [mount for mount, _ in volumes],
                }
            ],
            "volumes": [volume for _, volume in volumes],
        },
    }


def _container(server: Server, template: ServerClassSpec, role: Role) -> dict[str, Any]:
    spec = _spec(server)
    values = placeholders(server, template)
    ports = [(PORT_NAME, template.port)]
    ports += [(extra.name, extra.port) for extra in template.extra_ports]
    container: dict[str, Any] = {
        "name": labels.SERVER_CONTAINER,
        "image": spec.image or fill_in(template.image, values),
        "imagePullPolicy": template.image_pull_policy or "IfNotPresent",
        **_command(spec, template, values, role),
        "env": _env(spec, template, values),
        "resources": _resources(spec, template),
        "securityContext": template.security_context,
        "lifecycle": {"preStop": {"sleep": {"seconds": _LEAVE_SECONDS}}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if role is not Role.WORKER:
        container["ports"] = [
            {"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports
        ]
        container |= _probes(spec, template)
    return {name: value for name, value in container.items() if value not in (None, [], {})}


def _command(
    spec: ModelServerSpec, template: ServerClassSpec, values: dict[str, str], role: Role
) -> dict[str, Any]:
    """Return entry point and arguments. A server's own arguments are taken as they are."""
    command, own = template.command, spec.args
    args = [*template.args, *(template.revision_args if values["revision"] else ())]
    if role is not Role.ALONE:
        several = template.multi_node
        if several is None:
            raise ValueError(f"a class of {template.engine} does not say how several nodes work")
        if role is Role.LEADER:
            command, args = several.leader.command or command, [*args, *several.leader.args]
        else:
            command, worker_args = several.worker.command, several.worker.args
            if several.worker.inherit_args:
                args = [*args, *worker_args]
            else:
                args, own = [*worker_args], ()
    return {
        "command": [fill_in(text, values) for text in command],
        "args": [*(fill_in(text, values) for text in args), *own],
    }


def _env(
    spec: ModelServerSpec, template: ServerClassSpec, values: dict[str, str]
) -> list[dict[str, Any]]:
    env: dict[str, dict[str, Any]] = {
        f"KUBESYNTH_{name.upper()}": {"name": f"KUBESYNTH_{name.upper()}", "value": value}
        for name, value in values.items()
    }
    env |= {variable.name: _variable(variable, values) for variable in template.env}
    if spec.token is not None:
        selector = spec.token.secret_key_ref
        for name in template.token_variables:
            source = {"secretKeyRef": {"name": selector.name, "key": selector.key}}
            env[name] = {"name": name, "valueFrom": source}
    env |= {variable.name: _variable(variable, {}) for variable in spec.env}
    return list(env.values())


def _variable(variable: EnvVar, values: dict[str, str]) -> dict[str, Any]:
    if variable.value_from is not None:
        return {"name": variable.name, "valueFrom": variable.value_from.to_wire()}
    return {"name": variable.name, "value": fill_in(variable.value or "", values)}


def _resources(spec: ModelServerSpec, template: ServerClassSpec) -> dict[str, Any]:
    chosen = spec.resources or template.resources
    found: dict[str, Any] = chosen.to_wire() if chosen else {}
    gpus = template.gpus if spec.gpus is None else spec.gpus
    if gpus:
        # An extended resource cannot be overcommitted: both are equal.
        for part in ("requests", "limits"):
            found[part] = {**found.get(part, {}), template.gpu_resource: str(gpus)}
    return {part: values for part, values in found.items() if values}


def _probes(spec: ModelServerSpec, template: ServerClassSpec) -> dict[str, Any]:
    timeout = spec.startup_timeout_seconds or template.startup_timeout_seconds
    ready = _probe(template.probes.ready_path)
    found = {
        # The kubelet restarts a container that has not started in time; jobs fail then anyway.
        "startupProbe": ready
        | {
            "periodSeconds": _STARTUP_PERIOD_SECONDS,
            "failureThreshold": max(1, -(-timeout // _STARTUP_PERIOD_SECONDS)),
        },
        "readinessProbe": ready | {"periodSeconds": 5, "failureThreshold": 3},
    }
    if template.probes.live_path is not None:
        live = _probe(template.probes.live_path)
        found["livenessProbe"] = live | {"periodSeconds": 20, "failureThreshold": 6}
    return found


def _probe(path: str) -> dict[str, Any]:
    how: dict[str, Any] = (
        {"httpGet": {"path": path, "port": PORT_NAME}}
        if path
        else {"tcpSocket": {"port": PORT_NAME}}
    )
    return {**how, "timeoutSeconds": 5}


def _placement(spec: ModelServerSpec, template: ServerClassSpec) -> dict[str, Any]:
    wanted: dict[str, Any] = {
        "nodeSelector": {**template.node_selector, **spec.node_selector},
        "tolerations": [each.to_wire() for each in (*template.tolerations, *spec.tolerations)],
        "affinity": template.affinity,
        "priorityClassName": template.priority_class_name,
        "runtimeClassName": template.runtime_class_name,
        "imagePullSecrets": [secret.to_wire() for secret in template.image_pull_secrets],
        "securityContext": template.pod_security_context,
    }
    return {name: value for name, value in wanted.items() if value}


def _volumes(
    spec: ModelServerSpec, template: ServerClassSpec, claim: str | None
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return mounts and volumes: the cache, and shared memory where the class wants some."""
    source: dict[str, Any] = {"emptyDir": {}}
    if claim is not None:
        source = {"persistentVolumeClaim": {"claimName": claim}}
    elif spec.cache is not None and spec.cache.per_replica is not None:
        wanted = spec.cache.per_replica
        volume: dict[str, Any] = {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": wanted.size}},
        }
        if wanted.storage_class_name is not None:
            volume["storageClassName"] = wanted.storage_class_name
        source = {"ephemeral": {"volumeClaimTemplate": {"spec": volume}}}
    found = [
        ({"name": "cache", "mountPath": template.cache_path}, {"name": "cache", **source}),
    ]
    if template.shared_memory is not None:
        memory = {"medium": "Memory", "sizeLimit": template.shared_memory}
        mount = {"name": "shm", "mountPath": "/dev/shm"}
        found.append((mount, {"name": "shm", "emptyDir": memory}))
    return found


def _spec(server: Server) -> ModelServerSpec:
    if server.spec is None:
        raise ValueError(f"the spec of {server.key.name} was not understood")
    return server.spec
