"""Writing children: create once, patch two fields, delete by uid. Every call is safe to repeat."""

from __future__ import annotations

from typing import assert_never

from kubesynth_api.v1alpha1.synthetic_data_job import KIND
from kubesynth_operator import wire
from kubesynth_operator.actions import (
    Action,
    ApplyNetworkPolicy,
    CreateConfigMap,
    CreateJob,
    DeleteCustomResource,
    DeleteJob,
    Manifest,
    PatchJob,
)
from kubesynth_operator.kube import errors
from kubesynth_operator.kube.client import KubeClient
from kubesynth_operator.kube.resources import (
    CONFIG_MAPS,
    JOBS,
    NETWORK_POLICIES,
    SYNTHETIC_DATA_JOBS,
    Resource,
)
from kubesynth_operator.observation import JobKey, Obstacle, ObstacleKind


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
        case _ as never:
            assert_never(never)
    return None


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
    if wire.controller_uid(existing) == wire.controller_uid(manifest):
        return None
    return foreign(key, manifest["kind"], existing)


def foreign(key: JobKey, kind: str, existing: wire.Object) -> Obstacle:
    """Describe a child's namesake that is not this job's.

    One that belongs to a job of the same name is a leftover that garbage collection takes away.
    """
    name = existing["metadata"]["name"]
    owner = wire.controller(existing)
    if owner is not None and owner.get("kind") == KIND and owner.get("name") == key.name:
        return Obstacle(
            ObstacleKind.PREDECESSOR,
            f"{kind} {name!r} of an earlier job of this name is still being deleted.",
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
            return foreign(key, manifest["kind"], existing)
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
