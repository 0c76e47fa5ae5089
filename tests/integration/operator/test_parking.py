"""Jobs that cannot go on, and how they recover by themselves."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_operator.app import Application
from kubesynth_operator.kube.resources import CONFIG_MAPS, JOBS, NETWORK_POLICIES, SECRETS
from kubesynth_operator.settings import OperatorSettings
from kubesynth_testing.apiserver import ApiServer
from kubesynth_testing.builders import UNAVAILABLE
from kubesynth_testing.operator_harness import (
    Kubelet,
    Namespace,
    eventually,
    plan_message,
    run_message,
    running_operator,
)

KEYED_MODEL = {
    "name": "generator",
    "external": {
        "url": "http://llm.example/v1",
        "model": "small",
        "apiKey": {"secretKeyRef": {"name": "llm", "key": "token"}},
    },
    "limits": {"concurrency": 4},
}


def a_secret(**data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "llm"},
        "stringData": data,
    }


async def jobs_of(namespace: Namespace) -> list[str]:
    return [job["metadata"]["name"] for job in await namespace.objects(JOBS)]


async def test_a_missing_secret_parks_the_job_until_it_has_the_key(
    operator: Application, namespace: Namespace
) -> None:
    await namespace.apply(models=[KEYED_MODEL])
    parked = await namespace.until("Accepted", "False", "ReferenceNotFound")
    assert "spec.models[0].external.apiKey.secretKeyRef: Secret 'llm'" in parked["message"]
    assert (await namespace.condition("Stalled"))["status"] == "True"
    assert await jobs_of(namespace) == []
    await namespace.client.create(SECRETS, namespace.name, a_secret(other="x"))

    async def names_the_key() -> bool:
        return "has no key 'token'" in (await namespace.condition("Accepted"))["message"]

    await eventually(names_the_key, "the missing key is named")
    patch = {"stringData": {"token": "t0p"}}
    await namespace.client.merge_patch(SECRETS, namespace.name, "llm", patch)
    await namespace.until("Accepted", "True", "Valid")
    assert await namespace.condition("Stalled") == {}
    await namespace.play("qa-generate", message=run_message(RunnerPhase.ALL))
    await namespace.until("Complete", "True")


async def test_a_parked_job_that_is_suspended_has_no_pods_and_begins_anew_on_resume(
    operator: Application, namespace: Namespace
) -> None:
    async def no_pods() -> bool:
        return not await namespace.pods("qa-plan")

    await namespace.client.create(SECRETS, namespace.name, a_secret(token="t0p"))
    await namespace.apply(shards=2, models=[KEYED_MODEL])
    await namespace.pod("qa-plan")
    uid = (await namespace.client.get(SECRETS, namespace.name, "llm"))["metadata"]["uid"]
    await namespace.client.delete(SECRETS, namespace.name, "llm", uid=uid, foreground=False)
    await namespace.until("Accepted", "False", "ReferenceNotFound", seconds=20)
    assert not await no_pods(), "what runs is left to run"
    await namespace.patch("qa", {"suspend": True})
    await namespace.until("Suspended", "True", "SuspendedByUser")
    await eventually(no_pods, "the plan pod is gone")
    started_at = (await namespace.job())["status"]["startTime"]
    await asyncio.sleep(1)  # times are in seconds
    await namespace.patch("qa", {"suspend": False})
    await namespace.client.create(SECRETS, namespace.name, a_secret(token="t0p"))
    await namespace.until("Suspended", "False", "Resumed")
    assert (await namespace.job())["status"]["startTime"] > started_at
    await namespace.pod("qa-plan")


async def test_a_missing_claim_and_config_map_are_named_and_waited_for(
    operator: Application, namespace: Namespace
) -> None:
    prompt = {"configMapKeyRef": {"name": "prompts", "key": "ask"}}
    await namespace.apply(
        input={"uri": "pvc://later/docs"}, pipeline=[{"prompt": {"user": prompt}}]
    )
    parked = await namespace.until("Accepted", "False", "ReferenceNotFound")
    assert "ConfigMap 'prompts'" in parked["message"]
    assert "PersistentVolumeClaim 'later'" in parked["message"]
    await namespace.create_claims("later")
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "prompts"},
        "data": {"ask": "Summarise {{ text }"},
    }
    await namespace.client.create(CONFIG_MAPS, namespace.name, config_map)
    broken = await namespace.until("Accepted", "False", "InvalidSpec")
    assert "spec.pipeline[0].prompt.user" in broken["message"]
    fixed = {"data": {"ask": "Summarise {{ text }}"}}
    await namespace.client.merge_patch(CONFIG_MAPS, namespace.name, "prompts", fixed)
    await namespace.until("Accepted", "True", "Valid", seconds=60)


async def test_a_volume_of_one_node_does_not_fit_many_pods(
    operator: Application, namespace: Namespace
) -> None:
    await namespace.create_claims("single", mode="ReadWriteOnce")
    await namespace.apply(shards=3, output={"uri": "pvc://single/qa"})
    parked = await namespace.until("Accepted", "False", "AccessModeConflict")
    assert "shards.parallelism: 1" in parked["message"]
    await namespace.patch("qa", {"shards": {"parallelism": 1}})
    await namespace.until("Accepted", "True", "Valid")


async def test_more_pods_at_once_than_a_volume_of_one_node_allows_are_not_started(
    operator: Application, namespace: Namespace
) -> None:
    async def parallelism() -> int:
        child = await namespace.child("qa-generate")
        assert child is not None
        return int(child["spec"]["parallelism"])

    await namespace.create_claims("single", mode="ReadWriteOnce")
    await namespace.apply(shards=3, suspend=True, output={"uri": "pvc://single/qa"})
    await namespace.patch("qa", {"suspend": False, "shards": {"parallelism": 1}})
    await namespace.play("qa-plan", message=plan_message())
    await namespace.pod("qa-generate")
    await namespace.patch("qa", {"shards": {"parallelism": 3}})
    said = await namespace.until("Degraded", "True", "AccessModeConflict")
    assert "3 pods at once may run on several nodes" in said["message"]
    assert await parallelism() == 1
    await namespace.patch("qa", {"shards": {"parallelism": 1}})

    async def is_well() -> bool:
        return await namespace.condition("Degraded") == {}

    await eventually(is_well, "it is not told any more")


async def test_what_is_not_there_yet_is_refused_and_not_ignored(
    operator: Application, namespace: Namespace
) -> None:
    await namespace.apply(**UNAVAILABLE)
    refused = await namespace.until("Accepted", "False", "NotImplemented")
    assert "spec.output.exports" in refused["message"]
    assert await jobs_of(namespace) == []


async def test_an_output_in_the_pod_is_refused(operator: Application, namespace: Namespace) -> None:
    await namespace.apply(output={"uri": "file:///tmp/out"})
    refused = await namespace.until("Accepted", "False", "InvalidSpec")
    assert "spec.output.uri: a folder of the pod is gone with the pod" in refused["message"]
    assert await jobs_of(namespace) == []


async def test_another_controller_s_job_is_left_alone(
    operator: Application, namespace: Namespace
) -> None:
    await namespace.apply(managedBy="other.example/controller")
    await namespace.until("Accepted", "False", "ManagedExternally")
    version = (await namespace.job())["metadata"]["resourceVersion"]
    await asyncio.sleep(1.5)
    assert (await namespace.job())["metadata"]["resourceVersion"] == version
    assert await jobs_of(namespace) == []


async def test_a_stranger_with_a_child_s_name_is_never_adopted(
    namespace: Namespace, operator: Application
) -> None:
    stranger = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "qa-generate"},
        "spec": {
            "suspend": True,
            "template": {
                "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}
            },
        },
    }
    await namespace.client.create(JOBS, namespace.name, stranger)
    await namespace.apply()
    degraded = await namespace.until("Degraded", "True", "ChildConflict")
    assert "Job 'qa-generate' already exists and belongs to nobody" in degraded["message"]
    found = await namespace.child("qa-generate")
    assert found is not None
    assert "ownerReferences" not in found["metadata"]


async def test_a_stranger_s_network_policy_is_never_taken_over(
    namespace: Namespace, operator: Application
) -> None:
    stranger = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "qa-runner"},
        "spec": {"podSelector": {}},
    }
    await namespace.client.create(NETWORK_POLICIES, namespace.name, stranger)
    await namespace.apply()
    await namespace.until("Degraded", "True", "ChildConflict")
    found = await namespace.client.get(NETWORK_POLICIES, namespace.name, "qa-runner")
    assert found["spec"]["podSelector"] == {}


async def test_a_quota_that_refuses_a_job_is_said_in_the_status(
    namespace: Namespace, operator: Application, api_server: ApiServer
) -> None:
    arguments = ("create", "quota", "none", "--hard=count/jobs.batch=0", "-n", namespace.name)
    api_server.kubectl(*arguments)

    async def quota_is_known() -> bool:
        found = api_server.kubectl("get", "quota", "none", "-n", namespace.name, "-o", "json")
        return bool(json.loads(found).get("status", {}).get("hard"))

    await eventually(quota_is_known, "the quota is in force")
    await namespace.apply()

    async def told() -> bool:
        return "exceeded quota" in (await namespace.condition("Running")).get("message", "")

    await eventually(told, "the refusal is in the status")


async def test_a_quota_that_refuses_pods_is_said_until_it_is_lifted(
    namespace: Namespace, operator: Application, api_server: ApiServer
) -> None:
    quota = ("quota", "no-limits", "-n", namespace.name)
    api_server.kubectl("create", *quota, "--hard=limits.cpu=4")

    async def quota_is_known() -> bool:
        found = api_server.kubectl("get", *quota, "-o", "json")
        return bool(json.loads(found).get("status", {}).get("hard"))

    await eventually(quota_is_known, "the quota is in force")
    await namespace.apply(shards=2)
    said = await namespace.until("Degraded", "True", "PodsNotCreated")
    assert "`kubectl describe job qa-plan`" in said["message"]
    await namespace.until("Running", "False", "PodsNotCreated")
    assert "must specify limits.cpu" in api_server.kubectl(
        "describe", "job", "qa-plan", "-n", namespace.name
    )
    api_server.kubectl("delete", *quota)
    await namespace.until("Running", "True", "Planning")
    assert await namespace.condition("Degraded") == {}


async def test_a_job_applied_again_at_once_waits_for_the_old_one_s_children(
    api_server: ApiServer, namespace: Namespace, settings: OperatorSettings
) -> None:
    kubelet = Kubelet(namespace, records=6)
    async with running_operator(str(api_server.kubeconfig), settings):
        await namespace.apply(shards=2)
        await namespace.until("Running", "True", "Planning")
        await namespace.delete()
        uid = await namespace.apply(shards=2)
        playing = asyncio.create_task(kubelet.run())
        try:
            await namespace.until("Complete", "True", seconds=60)
        finally:
            playing.cancel()
    owners = {job["metadata"]["ownerReferences"][0]["uid"] for job in await namespace.objects(JOBS)}
    assert owners == {uid}


async def test_a_job_applied_again_says_that_what_the_old_one_has_orphaned_is_in_its_way(
    api_server: ApiServer, namespace: Namespace, operator: Application
) -> None:
    await namespace.apply(shards=2)
    await namespace.pod("qa-plan")
    api_server.kubectl("delete", "sdj", "qa", "-n", namespace.name, "--cascade=orphan")
    uid = await namespace.apply(shards=2)
    said = await namespace.until("Degraded", "True", "ChildConflict", seconds=30)
    assert "Job 'qa-plan' of an earlier job" in said["message"]
    orphans = ("configmap,secret,networkpolicy", "-l", "kubesynth.io/job-name=qa")
    api_server.kubectl("delete", *orphans, "-n", namespace.name)
    api_server.kubectl("delete", "job", "qa-plan", "-n", namespace.name)
    await namespace.until("Running", "True", "Planning")
    plan = await namespace.child("qa-plan")
    assert plan is not None
    assert plan["metadata"]["ownerReferences"][0]["uid"] == uid


async def test_a_foreground_deletion_creates_nothing_anew(
    api_server: ApiServer, namespace: Namespace, operator: Application
) -> None:
    await namespace.apply(shards=2)
    await namespace.until("Running", "True", "Planning")
    api_server.kubectl(
        *("delete", "sdj", "qa", "-n", namespace.name, "--cascade=foreground", "--timeout=60s"),
        timeout_seconds=70,
    )
    assert await jobs_of(namespace) == []
