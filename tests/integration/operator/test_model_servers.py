"""Model servers and the jobs that need them, on a real control plane without nodes."""

from __future__ import annotations

import json
from typing import Any

from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_operator.kube.resources import CLAIMS, CONFIG_MAPS, DEPLOYMENTS, SERVICES
from kubesynth_operator.servers import rollout
from kubesynth_testing.operator_harness import Namespace, eventually, run_message
from kubesynth_testing.server_harness import Servers, inline, shared

OWN = "qa-generator"


async def run_spec(namespace: Namespace) -> dict[str, Any]:
    found = await namespace.objects(CONFIG_MAPS, "app.kubernetes.io/managed-by=kubesynth-operator")
    [config] = found
    spec: dict[str, Any] = json.loads(config["data"]["run.json"])["spec"]
    return spec


async def test_a_job_s_own_server_starts_serves_and_is_gone(
    servers: Servers, namespace: Namespace
) -> None:
    await namespace.apply(models=inline())
    await servers.until_replicas(1, OWN)
    # The runner's pod is there before the server is ready, and knows where it will be.
    await namespace.pod("qa-generate")
    url = f"http://{OWN}.{namespace.name}.svc:8000/v1"
    [model] = (await run_spec(namespace))["models"]
    assert model["external"]["url"] == url
    assert model["external"]["model"] == "small"
    await servers.play(OWN, waiting=("ContainerCreating", ""))
    await namespace.until("ModelsReady", "False", "Downloading")
    await servers.play(OWN)
    await namespace.until("ModelsReady", "False", "Loading")
    await servers.play(OWN, ready=True)
    await namespace.until("ModelsReady", "True", "AllReady")
    told = await namespace.events("ModelServer")
    assert {("Normal", "Scaling", "ScalingUp"), ("Normal", "Ready", "AllReady")} <= set(told)
    [shown] = (await namespace.job())["status"]["models"]
    assert shown["endpoint"] == url
    assert (shown["ready"], shown["reason"]) == (True, "AllReady")
    assert shown["server"] == f"{namespace.name}/{OWN}"
    steps = ((await servers.get(OWN)) or {})["status"]["startup"]
    assert [step["reason"] for step in steps][-3:] == ["Downloading", "Loading", "AllReady"]
    await namespace.play("qa-generate", message=run_message(RunnerPhase.ALL))
    await namespace.until("Complete", "True")

    async def gone() -> bool:
        left = [await servers.get(OWN), await servers.deployment(OWN)]
        return not any(left) and not await namespace.objects(SERVICES)

    # The garbage collector learns of new kinds every 30 s.
    await eventually(gone, "server, Deployment and Service are gone", seconds=90)


async def test_jobs_share_a_server_that_sleeps_before_and_after(
    servers: Servers, namespace: Namespace
) -> None:
    await servers.create(idle={"ttlSeconds": 1})
    await servers.until("Ready", "False", "Idle")
    await servers.until_replicas(0)
    await namespace.create_claims("other")
    await namespace.apply("one", models=shared("llama"))
    await namespace.apply("two", models=shared("llama"), output={"uri": "pvc://other/two"})
    await servers.until_replicas(1)
    await servers.play(ready=True)
    await servers.until("Ready", "True", "AllReady")

    async def users() -> dict[str, Any] | None:
        found = ((await servers.get()) or {})["status"]["users"]
        return dict(found) if found["count"] == 2 else None

    names = [f"{namespace.name}/one", f"{namespace.name}/two"]
    assert await eventually(users, "both jobs are users") == {"count": 2, "names": names}
    await namespace.play("one-generate", message=run_message(RunnerPhase.ALL))
    await namespace.until("Complete", "True", name="one")
    await servers.until_replicas(1)
    await namespace.patch("two", {"suspend": True})
    await servers.until_replicas(0)
    await namespace.patch("two", {"suspend": False})
    await servers.until_replicas(1)
    await namespace.delete("two")
    await servers.until_replicas(0)
    assert ((await servers.get()) or {})["spec"].get("replicas") == 1, "the spec is the user's"


async def test_a_missing_class_parks_the_job_until_it_is_there(
    servers: Servers, namespace: Namespace
) -> None:
    await namespace.apply(models=inline(classRef={"name": "later"}))
    found = await namespace.until("Accepted", "False", "ReferenceNotFound")
    assert "spec.models[0].server.classRef" in found["message"]
    await servers.create_class("later")
    await namespace.until("Accepted", "True", "Valid")


async def test_a_server_that_is_deleted_under_a_job_is_said_to_be_gone(
    servers: Servers, namespace: Namespace
) -> None:
    await namespace.apply(models=shared("llama"))
    await namespace.until("Accepted", "False", "ReferenceNotFound")
    await servers.create()
    await namespace.until("Accepted", "True", "Valid")


async def test_a_cache_is_kept_for_the_next_server_of_the_model(
    servers: Servers, namespace: Namespace
) -> None:
    await servers.create(cache={"shared": {"size": "1Gi"}})
    await servers.create("second", cache={"shared": {"size": "1Gi"}})
    await servers.until_replicas(1)
    await servers.until_replicas(1, "second")
    claims = await namespace.objects(CLAIMS, "kubesynth.io/model-cache")
    [claim] = claims
    assert "ownerReferences" not in claim["metadata"]
    for name in ("llama", "second"):
        pod = ((await servers.deployment(name)) or {})["spec"]["template"]["spec"]
        mounted = pod["volumes"][0]["persistentVolumeClaim"]["claimName"]
        assert mounted == claim["metadata"]["name"]


async def test_deleted_children_come_back(servers: Servers, namespace: Namespace) -> None:
    await servers.create()
    await servers.until_replicas(1)
    for resource, name in ((SERVICES, "service"),):
        [found] = await namespace.objects(resource)
        uid = found["metadata"]["uid"]
        await namespace.client.delete(resource, namespace.name, "llama", uid=uid, foreground=False)

        async def back(old: str = uid) -> bool:
            now = await namespace.objects(SERVICES)
            return bool(now) and now[0]["metadata"]["uid"] != old

        await eventually(back, f"the {name} is back")


async def test_a_new_operator_leaves_pods_alone_and_a_new_revision_rolls_them(
    servers: Servers, namespace: Namespace
) -> None:
    await servers.create()
    await servers.until_replicas(1)
    before = (await servers.deployment()) or {}
    await servers.patch("llama", {"replicas": 2})
    await servers.until_replicas(2)
    after = (await servers.deployment()) or {}
    assert after["spec"]["template"] == before["spec"]["template"]
    await servers.patch("llama", {"args": ["--max-model-len", "4096"]})

    async def rolled() -> bool:
        found = (await servers.deployment()) or {}
        [container] = found["spec"]["template"]["spec"]["containers"]
        return "--max-model-len" in container["args"]

    await eventually(rolled, "the new argument is in the template")


async def test_a_server_may_be_recreated_with_another_model_after_a_rollout_without_room(
    servers: Servers, namespace: Namespace
) -> None:
    await servers.create()
    await servers.until_replicas(1)
    for strategy in (rollout.RECREATE, rollout.SURGE):
        changes = {"spec": rollout.patch(strategy)}
        await namespace.client.merge_patch(DEPLOYMENTS, namespace.name, "llama", changes)
    await servers.patch("llama", {"model": "other", "rollout": {"strategy": "Recreate"}})

    async def recreated() -> bool:
        spec = ((await servers.deployment()) or {})["spec"]
        return spec["strategy"] == {"type": "Recreate"} and "other" in json.dumps(spec["template"])

    await eventually(recreated, "the Deployment is of the other model, and recreated")
    conditions = ((await servers.get()) or {})["status"]["conditions"]
    assert "Degraded" not in {each["type"] for each in conditions}
