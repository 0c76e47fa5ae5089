"""Jobs in a queue, with the real Kueue: who waits, and what waits with it.

The control plane is real and has no nodes; the test plays the kubelet.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest

from kubesynth_api.labels import QUEUE_NAME_LABEL
from kubesynth_operator.app import Application
from kubesynth_operator.kube.resources import SYNTHETIC_DATA_JOBS
from kubesynth_operator.settings import OperatorSettings
from kubesynth_testing import controllers
from kubesynth_testing.apiserver import ApiServer
from kubesynth_testing.builders import job_object
from kubesynth_testing.operator_harness import (
    Namespace,
    eventually,
    plan_message,
    run_message,
    running_operator,
)
from kubesynth_testing.server_harness import Servers, inline

API = "kueue.x-k8s.io/v1beta2"
OWN = "second-generator"
PLENTY = {"cpu": "1000", "memory": "1000Gi", "ephemeral-storage": "1000Gi"}


@pytest.fixture(scope="module")
def kueue(api_server: ApiServer) -> Iterator[ApiServer]:
    """Install Kueue."""
    with controllers.kueue(api_server):
        yield api_server


@pytest.fixture
def queue(kueue: ApiServer, namespace: Namespace) -> str:
    """Make a queue with room for the pods of one job of two shards."""
    quotas = {**PLENTY, "pods": "2"}
    flavor = {
        "name": f"{namespace.name}-flavor",
        "resources": [{"name": name, "nominalQuota": quota} for name, quota in quotas.items()],
    }
    manifests: list[dict[str, Any]] = [
        {"kind": "ResourceFlavor", "metadata": {"name": flavor["name"]}},
        {
            "kind": "ClusterQueue",
            "metadata": {"name": namespace.name},
            "spec": {
                "namespaceSelector": {},
                "resourceGroups": [{"coveredResources": list(quotas), "flavors": [flavor]}],
            },
        },
        {
            "kind": "LocalQueue",
            "metadata": {"name": "data", "namespace": namespace.name},
            "spec": {"clusterQueue": namespace.name},
        },
    ]
    for manifest in manifests:
        kueue.kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": API, **manifest}))
    return "data"


async def submit(namespace: Namespace, queue: str, name: str, **spec: Any) -> None:
    """Create a job of two shards in a queue."""
    output = {"uri": f"pvc://datasets/{name}"}
    manifest = job_object(name, namespace=namespace.name, shards=2, output=output, **spec)
    manifest["metadata"]["labels"] = {QUEUE_NAME_LABEL: queue}
    await namespace.client.create(SYNTHETIC_DATA_JOBS, namespace.name, manifest)


async def until_kueue_says(
    kueue: ApiServer, namespace: Namespace, job: str, *, suspended: bool
) -> str:
    """Wait until Kueue has decided about a Job and it is suspended or not; return its message."""

    async def look() -> str | None:
        listed = kueue.kubectl("get", "workloads.kueue.x-k8s.io", "-n", namespace.name, "-ojson")
        found = await namespace.child(job)
        if found is None or found["spec"]["suspend"] is not suspended:
            return None
        for workload in json.loads(listed)["items"]:
            owners = [owner["name"] for owner in workload["metadata"].get("ownerReferences", ())]
            for each in (workload.get("status") or {}).get("conditions") or ():
                decided = each["type"] == "QuotaReserved" and each["status"] == str(not suspended)
                if owners == [job] and decided:
                    return str(each["message"])
        return None

    return await eventually(look, f"Kueue has decided: {job} suspended={suspended}")


async def test_a_job_that_does_not_fit_waits_and_so_does_its_server(
    servers: Servers, namespace: Namespace, queue: str, kueue: ApiServer
) -> None:
    await submit(namespace, queue, "first")
    await namespace.play("first-plan", message=plan_message())
    await namespace.until("QuotaReserved", "True", "Admitted", name="first")
    await namespace.pod("first-generate", 1)

    await submit(namespace, queue, "second", models=inline())
    await namespace.play("second-plan", message=plan_message())
    said = await until_kueue_says(kueue, namespace, "second-generate", suspended=True)
    assert "insufficient unused quota for pods" in said
    await namespace.until("QuotaReserved", "False", "Queued", name="second")
    await servers.until("Ready", "False", "Idle", OWN)
    await servers.until_replicas(0, OWN)
    assert await namespace.pods("second-generate") == []

    for index in range(2):
        await namespace.play("first-generate", index)
    await namespace.play("first-finalize", message=run_message())
    await namespace.until("Complete", "True", name="first")
    await namespace.until("QuotaReserved", "True", "Admitted", name="second")
    await until_kueue_says(kueue, namespace, "second-generate", suspended=False)
    await servers.until_replicas(1, OWN)
    await servers.play(OWN, ready=True)
    await namespace.until("ModelsReady", "True", "AllReady", name="second")
    for index in range(2):
        await namespace.play("second-generate", index)
    await namespace.play("second-finalize", message=run_message())
    await namespace.until("Complete", "True", name="second")


async def test_a_job_whose_quota_is_taken_back_gives_its_server_back_and_goes_on_later(
    servers: Servers, namespace: Namespace, queue: str, kueue: ApiServer
) -> None:
    def stop(policy: str) -> None:
        patch = json.dumps({"spec": {"stopPolicy": policy}})
        kueue.kubectl("patch", "clusterqueue", namespace.name, "--type=merge", "-p", patch)

    await submit(namespace, queue, "second", models=inline())
    await namespace.play("second-plan", message=plan_message())
    await servers.until_replicas(1, OWN)
    await namespace.play("second-generate", 0)
    stop("HoldAndDrain")
    await namespace.until("QuotaReserved", "False", "Preempted", name="second")

    async def no_pods() -> bool:
        return not await namespace.pods("second-generate")

    await eventually(no_pods, "the pods are gone")
    await servers.until_replicas(0, OWN)
    stop("None")
    await namespace.until("QuotaReserved", "True", "Admitted", name="second")
    await servers.until_replicas(1, OWN)
    await namespace.play("second-generate", 1)
    await namespace.play("second-finalize", message=run_message())
    await namespace.until("Complete", "True", name="second")


async def test_a_plan_that_asks_models_has_its_server_before_the_queue_decides(
    servers: Servers, namespace: Namespace, queue: str, kueue: ApiServer
) -> None:
    pipeline = [{"openQA": {"macroTopics": 2, "subtopics": 1, "questions": 2}}, {"answer": {}}]
    await submit(namespace, queue, "first")
    await namespace.play("first-plan", message=plan_message())
    await namespace.until("QuotaReserved", "True", "Admitted", name="first")
    await submit(namespace, queue, "second", models=inline(), input=None, pipeline=pipeline)
    await servers.until_replicas(1, OWN)
    await namespace.play("second-plan", message=plan_message())
    await until_kueue_says(kueue, namespace, "second-generate", suspended=True)
    await servers.until_replicas(0, OWN)


async def test_a_queue_that_is_not_there_holds_the_job_and_is_named(
    servers: Servers, namespace: Namespace, kueue: ApiServer
) -> None:
    await submit(namespace, "nowhere", "second", models=inline())
    await namespace.play("second-plan", message=plan_message())
    said = await until_kueue_says(kueue, namespace, "second-generate", suspended=True)
    assert "nowhere" in said
    found = await namespace.until("QuotaReserved", "False", "Queued", name="second")
    assert "'nowhere'" in found["message"]
    await servers.until_replicas(0, OWN)


def queue_everything(kueue: ApiServer, namespace: Namespace) -> None:
    """Have Kueue hold Jobs without a queue's name in this namespace, too."""
    kueue.kubectl("label", "namespace", namespace.name, f"{controllers.ALL_JOBS_QUEUE}=true")


async def test_jobs_that_are_held_for_having_no_queue_are_told_of_and_go_on_when_they_have_one(
    operator: Application, namespace: Namespace, queue: str, kueue: ApiServer
) -> None:
    queue_everything(kueue, namespace)
    await submit(namespace, queue, "first")
    said = await namespace.until("QuotaReserved", "False", "QueueNameMissing", name="first")
    assert "first-plan" in said["message"]
    await namespace.patch("first", {"suspend": True})
    await namespace.until("Suspended", "True", "SuspendedByUser", name="first")
    await namespace.patch("first", {"suspend": False})
    await namespace.until("Suspended", "True", "SuspendedByQueue", name="first")
    generation = (await namespace.child("first-plan") or {})["metadata"]["generation"]
    await asyncio.sleep(3)
    held = await namespace.child("first-plan") or {}
    assert held["metadata"]["generation"] == generation, "operator and queue fight over the Job"
    assert held["spec"]["suspend"] is True

    kueue.kubectl("label", "job", "first-plan", "-n", namespace.name, f"{QUEUE_NAME_LABEL}={queue}")
    await namespace.play("first-plan", message=plan_message())
    await namespace.until("QuotaReserved", "True", "Admitted", name="first")


async def test_all_jobs_go_through_the_queue_where_that_is_asked_for(
    api_server: ApiServer,
    namespace: Namespace,
    settings: OperatorSettings,
    queue: str,
    kueue: ApiServer,
) -> None:
    queue_everything(kueue, namespace)
    asked_for = dataclasses.replace(settings, queue_all_jobs=True)
    async with running_operator(str(api_server.kubeconfig), asked_for):
        await submit(namespace, queue, "first")
        await namespace.play("first-plan", message=plan_message())
        await namespace.pod("first-generate", 1)
        await submit(namespace, queue, "second")
        await namespace.until("Running", "False", "SuspendedByQueue", name="second")
        for index in range(2):
            await namespace.play("first-generate", index)
        await namespace.play("first-finalize", message=run_message())
        await namespace.until("Complete", "True", name="first")
        await namespace.play("second-plan", message=plan_message())
        await namespace.until("QuotaReserved", "True", "Admitted", name="second")
