"""Verbs and errors of the client, on a real API server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import pytest

from kubesynth_api.conditions import ConditionType
from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_api.v1alpha1.synthetic_data_job import KIND
from kubesynth_operator import wire
from kubesynth_operator.actions import (
    CreateConfigMap,
    DeleteCustomResource,
    DeleteJob,
    PatchJob,
    Plan,
    Transition,
)
from kubesynth_operator.kube import apply, errors
from kubesynth_operator.kube.client import KubeClient
from kubesynth_operator.kube.event_recorder import EventRecorder, Subject
from kubesynth_operator.kube.limiter import RateLimiter
from kubesynth_operator.kube.resources import CONFIG_MAPS, JOBS, SYNTHETIC_DATA_JOBS
from kubesynth_operator.observation import JobKey, ObstacleKind
from kubesynth_operator.reconcile import LiveCluster
from kubesynth_operator.resources import naming, run_config_map, runner_job
from kubesynth_operator.settings import OperatorSettings
from kubesynth_testing.apiserver import ApiServer
from kubesynth_testing.builders import NOW, a_status
from kubesynth_testing.operator_harness import Namespace, eventually

CONFIG = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"k": "v"}}


async def test_refusals_are_errors_by_what_can_be_done(
    client: KubeClient, namespace: Namespace
) -> None:
    name = namespace.name
    with pytest.raises(errors.NotFoundError):
        await client.get(CONFIG_MAPS, name, "absent")
    await client.create(CONFIG_MAPS, name, CONFIG)
    with pytest.raises(errors.AlreadyExistsError):
        await client.create(CONFIG_MAPS, name, CONFIG)
    with pytest.raises(errors.InvalidError, match=r"metadata\.name"):
        await client.create(CONFIG_MAPS, name, {**CONFIG, "metadata": {"name": "NO"}})
    stale = {**CONFIG, "metadata": {"name": "c", "resourceVersion": "1"}}
    with pytest.raises(errors.ConflictError):
        await client.replace(CONFIG_MAPS, name, stale)
    with pytest.raises(errors.ConflictError):
        await client.delete(CONFIG_MAPS, name, "c", uid="not-its-uid", foreground=False)
    with pytest.raises(errors.NotFoundError):
        await client.create(CONFIG_MAPS, "no-such-namespace", CONFIG)


async def test_a_user_without_permissions_is_told_so(
    api_server: ApiServer, namespace: Namespace
) -> None:
    kubeconfig = api_server.service_account_kubeconfig(namespace.name, "default")
    nobody = await KubeClient.connect(str(kubeconfig))
    try:
        with pytest.raises(errors.ForbiddenError) as refused:
            await nobody.get(CONFIG_MAPS, namespace.name, "c")
        assert refused.value.status_code == 403
    finally:
        await nobody.close()


async def test_any_number_of_watches_leaves_room_for_questions(
    client: KubeClient, namespace: Namespace
) -> None:
    """An operator of many namespaces holds some for each, and all of them for good."""
    async with contextlib.AsyncExitStack() as watches:
        for _ in range(150):
            await watches.enter_async_context(client.watch(CONFIG_MAPS, namespace.name, {}, 60))
        async with asyncio.timeout(10):
            await client.create(CONFIG_MAPS, namespace.name, CONFIG)


async def test_a_server_that_is_not_there_is_unavailable(
    api_server: ApiServer, namespace: Namespace
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        text = api_server.kubeconfig.read_text()
        path = api_server.folder / "nowhere.kubeconfig"
        path.write_text(
            text.replace(api_server.url, f"https://127.0.0.1:{unused.getsockname()[1]}")
        )
        nowhere = await KubeClient.connect(str(path))
        try:
            with pytest.raises(errors.UnavailableError) as failed:
                await nowhere.get(CONFIG_MAPS, namespace.name, "c")
            assert failed.value.status_code is None
        finally:
            await nowhere.close()


async def test_a_status_decided_on_an_old_version_is_never_written(
    client: KubeClient, namespace: Namespace
) -> None:
    await namespace.apply()
    old = wire.parse_job(await namespace.job())
    cluster = LiveCluster(
        client,
        lambda key: pytest.fail("not asked"),
        EventRecorder(client, "test"),
        RateLimiter(100, lambda: 0.0),
    )
    newer = a_status((ConditionType.COMPLETE, True, "AllShardsSucceeded"))
    await cluster.write_status(old, Plan(status=newer))
    outdated = a_status((ConditionType.RUNNING, True, "Planning"))
    with pytest.raises(errors.ConflictError):
        await cluster.write_status(old, Plan(status=outdated))
    assert (await namespace.condition("Complete"))["status"] == "True"


async def test_a_status_is_never_written_to_a_namesake(
    client: KubeClient, namespace: Namespace
) -> None:
    await namespace.apply()
    old = wire.parse_job(await namespace.job())
    await namespace.delete()
    await namespace.apply()
    cluster = LiveCluster(
        client,
        lambda key: pytest.fail("not asked"),
        EventRecorder(client, "test"),
        RateLimiter(100, lambda: 0.0),
    )
    with pytest.raises(errors.ConflictError):
        await cluster.write_status(old, Plan(status=a_status((ConditionType.READY, True, "Valid"))))
    assert "status" not in await namespace.job()


async def test_creating_twice_is_creating_once_but_only_for_its_owner(
    client: KubeClient, namespace: Namespace
) -> None:
    await namespace.apply()
    key = JobKey(namespace.name, "qa")
    manifest = run_config_map.build(wire.parse_job(await namespace.job()))
    assert await apply.carry_out(client, key, CreateConfigMap(manifest)) is None
    assert await apply.carry_out(client, key, CreateConfigMap(manifest)) is None
    heir: dict[str, Any] = {**manifest, "metadata": {**manifest["metadata"]}}
    heir["metadata"]["ownerReferences"] = [
        {**manifest["metadata"]["ownerReferences"][0], "uid": "another"}
    ]
    obstacle = await apply.carry_out(client, key, CreateConfigMap(heir))
    assert obstacle is not None
    assert obstacle.kind is ObstacleKind.PREDECESSOR


async def test_the_run_configuration_cannot_be_changed(
    client: KubeClient, namespace: Namespace
) -> None:
    await namespace.apply()
    job = wire.parse_job(await namespace.job())
    await apply.carry_out(client, job.key, CreateConfigMap(run_config_map.build(job)))
    with pytest.raises(errors.InvalidError, match="immutable"):
        await client.merge_patch(
            CONFIG_MAPS, namespace.name, naming.run_config_name(job), {"data": {"run.json": "{}"}}
        )


async def test_patches_and_deletions_never_hit_a_namesake(
    client: KubeClient, namespace: Namespace
) -> None:
    await namespace.apply()
    job = wire.parse_job(await namespace.job())
    manifest = runner_job.build(
        job, RunnerPhase.GENERATE, OperatorSettings(runner_image="x"), run_config_name="c"
    )
    await client.create(JOBS, namespace.name, manifest)
    with pytest.raises(errors.InvalidError, match="uid"):
        await apply.carry_out(client, job.key, PatchJob("qa-generate", "other", "suspend", True))
    await apply.carry_out(client, job.key, DeleteJob("qa-generate", "other"))
    await apply.carry_out(client, job.key, DeleteCustomResource("other"))
    found = await namespace.child("qa-generate")
    assert found is not None
    assert found["spec"]["suspend"] is False
    uid = found["metadata"]["uid"]
    await apply.carry_out(client, job.key, PatchJob("qa-generate", uid, "suspend", True))
    patched = await namespace.child("qa-generate")
    assert patched is not None
    assert patched["spec"]["suspend"] is True
    await apply.carry_out(client, job.key, PatchJob("gone", uid, "suspend", True))
    await apply.carry_out(client, job.key, DeleteJob("gone", uid))
    await apply.carry_out(client, job.key, DeleteCustomResource(job.uid))

    async def gone() -> bool:
        return not await namespace.objects(SYNTHETIC_DATA_JOBS)

    await eventually(gone, "the job is deleted")


async def test_an_event_told_twice_is_one_event(client: KubeClient, namespace: Namespace) -> None:
    await namespace.apply()
    job = wire.parse_job(await namespace.job())
    subject = Subject(KIND, job.key, job.uid, job.resource_version)
    recorder = EventRecorder(client, "operator-1")
    transition = Transition("Warning", "Failed", "RunnerFailed", "why", wire.format_time(NOW))
    await recorder.record(subject, transition, NOW)
    await recorder.record(subject, transition, NOW)
    assert await namespace.events() == [("Warning", "Failed", "RunnerFailed")]


async def test_an_event_that_cannot_be_written_is_no_error(
    api_server: ApiServer, namespace: Namespace
) -> None:
    await namespace.apply()
    job = wire.parse_job(await namespace.job())
    subject = Subject(KIND, job.key, job.uid, job.resource_version)
    kubeconfig = api_server.service_account_kubeconfig(namespace.name, "default")
    nobody = await KubeClient.connect(str(kubeconfig))
    try:
        transition = Transition("Normal", "Running", "Planning", "", wire.format_time(NOW))
        await EventRecorder(nobody, "x").record(subject, transition, NOW)
    finally:
        await nobody.close()
    assert await namespace.events() == []
