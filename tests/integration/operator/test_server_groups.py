"""Servers on several nodes, with the real LeaderWorkerSet controller and its webhooks.

The control plane is real and has no nodes: the test plays the kubelet. No engine runs on several
nodes here; what their commands do is in test_group_commands.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_operator.kube.resources import PODS, SERVICES
from kubesynth_testing import controllers
from kubesynth_testing.apiserver import ApiServer
from kubesynth_testing.operator_harness import Namespace, eventually, run_message
from kubesynth_testing.server_harness import MULTI_NODE, Servers, inline

WIDE = "wide"
OWN = "qa-generator"
WORDS = "NCCL error: unhandled system error"


@pytest.fixture(scope="module")
def installed(api_server: ApiServer) -> Iterator[ApiServer]:
    """Install LeaderWorkerSet."""
    with controllers.leader_worker_sets(api_server):
        yield api_server


@pytest.fixture
async def wide(servers: Servers) -> Servers:
    """Make a class that says how several nodes work."""
    await servers.create_class(WIDE, multiNode=MULTI_NODE)
    return servers


async def create(servers: Servers, name: str = "llama", **spec: Any) -> None:
    await servers.create(name, classRef={"name": WIDE}, nodes=2, gpus=8, **spec)


def let_go(api_server: ApiServer, namespace: Namespace, *pods: str) -> None:
    """Act as the kubelet of pods that are being deleted: they have ended."""
    api_server.kubectl(
        *("delete", "pods", *pods, "-n", namespace.name),
        *("--force", "--grace-period=0", "--ignore-not-found", "--wait=false"),
    )


async def until_anew(
    api_server: ApiServer, servers: Servers, before: set[str], *names: str
) -> None:
    """Wait until these pods are others than those with the uids `before`; let the old ones go."""

    async def look() -> bool:
        found = await servers.namespace.objects(PODS, "kubesynth.io/server-name=llama")
        old = [pod["metadata"] for pod in found if pod["metadata"]["uid"] in before]
        going = [each["name"] for each in old if "deletionTimestamp" in each]
        if going:
            let_go(api_server, servers.namespace, *going)
        return not old and {pod["metadata"]["name"] for pod in found} == set(names)

    await eventually(look, f"{', '.join(names)} are made anew", seconds=60)


# First, since it needs an API server that has not heard of LeaderWorkerSet.
async def test_a_server_on_several_nodes_says_what_to_install_and_starts_when_it_is_there(
    wide: Servers, request: pytest.FixtureRequest
) -> None:
    await create(wide)
    said = await wide.until("Accepted", "False", "KindNotInstalled")
    assert "spec.nodes" in said
    assert "lws.sigs.k8s.io" in said
    request.getfixturevalue("installed")
    await wide.until("Accepted", "True", "Valid")
    await wide.until_groups(1)


async def test_a_job_s_own_server_on_two_nodes_starts_serves_and_is_gone(
    installed: ApiServer, wide: Servers, namespace: Namespace
) -> None:
    await namespace.apply(models=inline(classRef={"name": WIDE}, nodes=2, gpus=8))
    leader, worker = await wide.until_pods(f"{OWN}-lws-0", f"{OWN}-lws-0-1", server=OWN)
    names = [pod["metadata"]["name"] for pod in (leader, worker)]
    [leads], [joins] = leader["spec"]["containers"], worker["spec"]["containers"]
    assert leads["command"] == ["lead"]
    assert joins["command"] == ["join", "$(LWS_LEADER_ADDRESS)"]
    address = {"name": "LWS_LEADER_ADDRESS", "value": f"{names[0]}.{OWN}-lws.{namespace.name}"}
    assert address in joins["env"]
    assert joins["resources"]["limits"] == {"nvidia.com/gpu": "8"}
    # The scheduler, which has no node to give.
    await namespace.until("ModelsReady", "False", "Unschedulable")
    await wide.play_pod(names[0])

    async def names_the_other() -> bool:
        found = await namespace.condition("ModelsReady")
        return found["reason"] == "Unschedulable" and names[1] in found["message"]

    await eventually(names_the_other, f"{names[1]} keeps the group waiting")
    await wide.play_pod(names[1])
    await namespace.until("ModelsReady", "False", "Loading")
    await wide.play_pod(names[1], ready=True)
    await wide.play_pod(names[0], ready=True)
    await namespace.until("ModelsReady", "True", "AllReady")
    [service] = [s for s in await namespace.objects(SERVICES) if s["metadata"]["name"] == OWN]
    selector = ",".join(f"{name}={value}" for name, value in service["spec"]["selector"].items())
    assert [p["metadata"]["name"] for p in await namespace.objects(PODS, selector)] == names[:1]
    await namespace.play("qa-generate", message=run_message(RunnerPhase.ALL))
    await namespace.until("Complete", "True")

    async def gone() -> bool:
        let_go(installed, namespace, *names)
        return not any([await wide.get(OWN), await wide.groups(OWN), await wide.pods(OWN)])

    # The garbage collector learns of new kinds every 30 s.
    await eventually(gone, "server, groups and pods are gone", seconds=90)


async def test_one_pod_that_fails_has_its_group_made_anew_and_its_words_stay(
    installed: ApiServer, wide: Servers, namespace: Namespace
) -> None:
    await create(wide, startupTimeoutSeconds=600)
    names = ("llama-lws-0", "llama-lws-0-1")
    for count, reason in ((1, "Loading"), (2, "CrashLooping")):
        pods = await wide.until_pods(*names)
        before = {pod["metadata"]["uid"] for pod in pods}
        await wide.play_pod(names[0])
        await wide.play_pod(names[1], restarts=1, last_log=WORDS)
        await until_anew(installed, wide, before, *names)
        for name in names:
            await wide.play_pod(name)
        assert WORDS in await wide.until("Ready", "False", reason)
        status = ((await wide.get()) or {})["status"]
        assert status["lastFailure"]["count"] == count
    for name in names:
        await wide.play_pod(name, ready=True)
    await wide.until("Ready", "True", "AllReady")
    assert "lastFailure" not in ((await wide.get()) or {})["status"]


async def test_groups_come_and_go_with_the_jobs_that_need_them(
    installed: ApiServer, wide: Servers, namespace: Namespace
) -> None:
    await create(wide, idle={"ttlSeconds": 0}, replicas=2)
    await wide.until("Ready", "False", "Idle")
    await wide.until_groups(0)
    reference = [{"name": "generator", "serverRef": {"name": "llama"}}]
    await namespace.apply(models=reference)
    await wide.until_groups(2)
    everyone = ("llama-lws-0", "llama-lws-0-1", "llama-lws-1", "llama-lws-1-1")
    await wide.until_pods(*everyone)
    await namespace.delete()
    await wide.until_groups(0)

    async def none() -> bool:
        let_go(installed, namespace, *everyone)
        return not await wide.pods()

    await eventually(none, "no pod is left", seconds=60)


async def test_a_change_rolls_the_group_and_the_new_one_has_it(
    installed: ApiServer, wide: Servers
) -> None:
    await create(wide)
    names = ("llama-lws-0", "llama-lws-0-1")
    before = {pod["metadata"]["uid"] for pod in await wide.until_pods(*names)}
    for name in names:
        await wide.play_pod(name, ready=True)
    await wide.until("Ready", "True", "AllReady")
    await wide.patch("llama", {"args": ["--max-model-len=4096"]})
    await until_anew(installed, wide, before, *names)
    leader, worker = await wide.until_pods(*names)
    [leads], [joins] = leader["spec"]["containers"], worker["spec"]["containers"]
    assert leads["args"][-1] == "--max-model-len=4096"
    assert "--max-model-len=4096" not in joins["args"]
    await wide.until("Ready", "False", "Unschedulable")
    for name in names:
        await wide.play_pod(name, ready=True)
    await wide.until("Ready", "True", "AllReady")


async def test_the_number_of_nodes_stays(installed: ApiServer, wide: Servers) -> None:
    await create(wide)
    with pytest.raises(Exception, match="nodes is immutable"):
        await wide.patch("llama", {"nodes": 3})
