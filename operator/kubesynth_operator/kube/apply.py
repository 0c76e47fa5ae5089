"""Writing children: create once, apply, patch, delete by uid. Every call is safe to repeat."""

from __future__ import annotations

import secrets
from typing import assert_never

from kubesynth_api.labels import CACHE_LABEL
from kubesynth_api.runner_contract import LEASE_TOKEN_KEY
from kubesynth_operator import wire
from kubesynth_operator.actions import (
    Action,
    ApplyNetworkPolicy,
    ApplyService,
    ApplyWorkload,
    CreateClaim,
    CreateConfigMap,
    CreateJob,
    CreateModelServer,
    CreateTokenSecret,
    DeleteCustomResource,
    DeleteJob,
    DeleteModelServer,
    Manifest,
    PatchJob,
    PatchWorkload,
    ServerAction,
)
from kubesynth_operator.kube import errors
from kubesynth_operator.kube.client import KubeClient
from kubesynth_operator.kube.resources import (
    CLAIMS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    JOBS,
    LEADER_WORKER_SETS,
    MODEL_SERVERS,
    NETWORK_POLICIES,
    SECRETS,
    SERVICES,
    SYNTHETIC_DATA_JOBS,
    Resource,
)
from kubesynth_operator.observation import JobKey, Obstacle, ObstacleKind

_TOKEN_BYTES = 32
_WORKLOADS = {"Deployment": DEPLOYMENTS, "LeaderWorkerSet": LEADER_WORKER_SETS}


async def carry_out(client: KubeClient, key: JobKey, action: Action) -> Obstacle | None:
    """Do what `action` says, for the job `key`.

    Returns:
        What stands in the way, if the API server refuses a child for a reason that a person has to
        know. None means that what was wanted is so now.

    Raises:
        KubeError: it may work another time.
    """
    match action:
        case CreateConfigMap(manifest):
            return await _create_once(client, CONFIG_MAPS, key, manifest)
        case CreateTokenSecret(manifest):
            token = {LEASE_TOKEN_KEY: secrets.token_urlsafe(_TOKEN_BYTES)}
            return await _create_once(client, SECRETS, key, {**manifest, "stringData": token})
        case CreateJob(manifest):
            return await _create_once(client, JOBS, key, manifest)
        case ApplyNetworkPolicy(manifest):
            return await _apply(client, NETWORK_POLICIES, key, manifest)
        case PatchJob():
            await _patch_job(client, key, action)
        case DeleteJob(name, uid):
            await _delete(client, JOBS, key.namespace, name, uid=uid, foreground=True)
        case DeleteCustomResource(uid):
            await _delete(
                client, SYNTHETIC_DATA_JOBS, key.namespace, key.name, uid=uid, foreground=False
            )
        case CreateModelServer(manifest):
            return await _create_once(client, MODEL_SERVERS, key, manifest)
        case DeleteModelServer(name, uid):
            await _delete(client, MODEL_SERVERS, key.namespace, name, uid=uid, foreground=False)
        case _ as never:
            assert_never(never)
    return None


async def carry_out_for_server(
    client: KubeClient, key: JobKey, action: ServerAction
) -> Obstacle | None:
    """Do what `action` says, for the ModelServer `key`; otherwise as `carry_out`."""
    match action:
        case ApplyWorkload(manifest):
            return await _apply(client, _WORKLOADS[manifest["kind"]], key, manifest)
        case ApplyService(manifest):
            return await _apply(client, SERVICES, key, manifest)
        case CreateClaim(manifest):
            return await _create_once(client, CLAIMS, key, manifest)
        case PatchWorkload():
            await _patch_workload(client, key, action)
        case _ as never:
            assert_never(never)
    return None


async def _patch_workload(client: KubeClient, key: JobKey, action: PatchWorkload) -> None:
    version = {"uid": action.uid, "resourceVersion": action.resource_version}
    patch = {"metadata": version, "spec": action.changes}
    try:
        await client.merge_patch(_WORKLOADS[action.kind], key.namespace, action.name, patch)
    except errors.NotFoundError:
        return  # deleted a moment ago; the watch will say so


async def _create_once(
    client: KubeClient, resource: Resource, key: JobKey, manifest: Manifest
) -> Obstacle | None:
    """POST; if the name is taken, success depends on whose it is, and nobody's is adopted."""
    try:
        await client.create(resource, key.namespace, manifest)
    except errors.AlreadyExistsError:
        return await _judge(client, resource, key, manifest)
    except (errors.ForbiddenError, errors.InvalidError) as exc:
        return _refused(manifest, exc)
    return None


async def _judge(
    client: KubeClient, resource: Resource, key: JobKey, manifest: Manifest
) -> Obstacle | None:
    name = manifest["metadata"]["name"]
    try:
        existing = await client.get(resource, key.namespace, name)
    except errors.NotFoundError:
        what = f"{manifest['kind']} {name!r} was just deleted; it is created again."
        return Obstacle(ObstacleKind.PREDECESSOR, what)
    if _is_as_good(existing, manifest):
        return None
    return foreign(manifest, existing)


def _is_as_good(existing: wire.Object, manifest: Manifest) -> bool:
    """Tell whether an object with the wanted name is the wanted one: our own, or a shared cache."""
    if wire.controller_uid(existing) != wire.controller_uid(manifest):
        return False
    if wire.controller(manifest) is not None:
        return True
    wanted = (manifest["metadata"].get("labels") or {}).get(CACHE_LABEL)
    found = (existing["metadata"].get("labels") or {}).get(CACHE_LABEL)
    return wanted is not None and wanted == found


def foreign(manifest: Manifest, existing: wire.Object) -> Obstacle:
    """Describe a child's namesake that belongs to somebody else.

    One that belongs to an owner of the same name is a leftover that garbage collection takes away.
    """
    kind, name = manifest["kind"], existing["metadata"]["name"]
    owner, wanted = wire.controller(existing), wire.controller(manifest)
    if owner is not None and wanted is not None:
        same = [(each.get("kind"), each.get("name")) for each in (owner, wanted)]
        if same[0] == same[1]:
            what = "job" if wanted["kind"] == "SyntheticDataJob" else "server"
            return Obstacle(
                ObstacleKind.PREDECESSOR,
                f"{kind} {name!r} of an earlier {what} of this name is still being deleted.",
            )
    whose = f"{owner['kind']} {owner['name']!r}" if owner else "nobody"
    return Obstacle(
        ObstacleKind.STRANGER,
        f"{kind} {name!r} already exists and belongs to {whose}; delete or rename it.",
    )


async def _apply(
    client: KubeClient, resource: Resource, key: JobKey, manifest: Manifest
) -> Obstacle | None:
    """Apply server-side, but only over nothing or over our own: force must not adopt."""
    try:
        existing = await client.get(resource, key.namespace, manifest["metadata"]["name"])
        if wire.controller_uid(existing) != wire.controller_uid(manifest):
            return foreign(manifest, existing)
    except errors.NotFoundError:
        pass
    try:
        await client.apply(resource, key.namespace, manifest)
    except (errors.ForbiddenError, errors.InvalidError) as exc:
        return _refused(manifest, exc)
    return None


def _refused(manifest: Manifest, exc: errors.KubeError) -> Obstacle:
    what = f"{manifest['kind']} {manifest['metadata']['name']!r}"
    return Obstacle(ObstacleKind.REFUSED, f"The API server refuses {what}: {exc.message}")


async def _patch_job(client: KubeClient, key: JobKey, action: PatchJob) -> None:
    patch = {"metadata": {"uid": action.uid}, "spec": {action.field: action.value}}
    try:
        await client.merge_patch(JOBS, key.namespace, action.name, patch)
    except errors.NotFoundError:
        return  # deleted a moment ago: nothing is left to patch, and the watch will say so


async def _delete(
    client: KubeClient, resource: Resource, namespace: str, name: str, *, uid: str, foreground: bool
) -> None:
    try:
        await client.delete(resource, namespace, name, uid=uid, foreground=foreground)
    except (errors.NotFoundError, errors.ConflictError):
        return  # gone, or a namesake by now: either way this one is deleted
