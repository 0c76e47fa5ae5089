"""What the operator does about a server on several nodes: its groups, and what becomes of them."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from kubesynth_api.v1alpha1.model_servers import GroupFailure, ModelServerStatus
from kubesynth_operator.actions import ApplyService, ApplyWorkload, PatchWorkload
from kubesynth_operator.servers import manifests
from kubesynth_operator.servers.seen import ServerClass, ServerPlan, ServerPod
from kubesynth_operator.wire import format_time
from kubesynth_testing.builders import NOW
from kubesynth_testing.server_builders import (
    UID,
    a_class,
    a_server,
    a_server_pod,
    conditions,
    decide,
    some_groups,
)
from kubesynth_testing.server_harness import MULTI_NODE

LEADER, WORKER, LAST = (0, 0), (0, 1), (0, 2)
WORDS = "NCCL error: unhandled system error"


def wide_class(**spec: Any) -> ServerClass:
    return a_class(multiNode=MULTI_NODE, **spec)


def look_at(*pods: ServerPod, status: ModelServerStatus | None = None, **spec: Any) -> ServerPlan:
    """Return the plan for a server on three nodes that has a LeaderWorkerSet and these pods."""
    server = a_server(status=status, **{"nodes": 3, **spec})
    workload = some_groups(server, replicas=spec.get("replicas", 1))
    return decide(server, server_class=wide_class(), workload=workload, pods=pods)


def ready(result: ServerPlan) -> tuple[str, str]:
    _, reason, message = conditions(result)["Ready"]
    return reason, message


def member(place: tuple[int, int], **step: Any) -> ServerPod:
    group, index = place
    name = f"llama-lws-{group}" + (f"-{index}" if index else "")
    return a_server_pod(name, member=place, **step)


def started(seconds: int, failure: GroupFailure | None = None) -> ModelServerStatus:
    return ModelServerStatus(
        start_time=format_time(NOW - timedelta(seconds=seconds)), last_failure=failure
    )


def a_failure(count: int = 1, seconds: int = 60, pod: str = "earlier") -> GroupFailure:
    start = format_time(NOW - timedelta(seconds=seconds))
    return GroupFailure(message=WORDS, count=count, pod_uid=pod, start_time=start)


def test_a_new_server_gets_a_service_for_its_leaders_and_a_leader_worker_set() -> None:
    server = a_server(nodes=3, gpus=8)
    result = decide(server, server_class=wide_class(), service=None)
    service, groups = result.actions
    assert isinstance(service, ApplyService)
    assert isinstance(groups, ApplyWorkload)
    leaders = {
        "kubesynth.io/server-uid": UID,
        "leaderworkerset.sigs.k8s.io/worker-index": "0",
    }
    assert service.manifest["spec"]["selector"] == leaders
    assert groups.manifest["kind"] == "LeaderWorkerSet"
    assert groups.manifest["metadata"]["name"] == "llama-lws"
    template = groups.manifest["spec"]["leaderWorkerTemplate"]
    assert template["size"] == 3
    assert template["restartPolicy"] == "RecreateGroupOnPodRestart"
    assert result.status is not None
    assert result.status.endpoint == "http://llama.team.svc:8000/v1"
    assert result.status.selector == ",".join(f"{k}={v}" for k, v in leaders.items())


def test_the_leader_serves_and_the_workers_join_it() -> None:
    server = a_server(nodes=3, gpus=8, args=["--mine"])
    template = wide_class().spec
    assert template is not None
    manifest = manifests.workload(
        server, template, replicas=1, strategy="OneByOne", secret_version=""
    )
    made = manifest["spec"]["leaderWorkerTemplate"]
    [leader] = made["leaderTemplate"]["spec"]["containers"]
    [worker] = made["workerTemplate"]["spec"]["containers"]
    assert leader["command"] == ["lead"]
    assert leader["args"] == ["--model", "small", "--port", "8000", "--nodes=3", "--mine"]
    assert worker["command"] == ["join", "$(LWS_LEADER_ADDRESS)"]
    assert worker["args"] == ["--gpus=8"]
    assert {"name": "KUBESYNTH_NODES", "value": "3"} in worker["env"]
    for same in ("image", "env", "resources", "volumeMounts", "securityContext"):
        assert leader[same] == worker[same]
    assert "readinessProbe" in leader
    assert not {"ports", "readinessProbe", "startupProbe"} & worker.keys()


def test_workers_that_inherit_arguments_get_those_of_the_class_and_of_the_server() -> None:
    worker = {"command": ["serve"], "args": ["--rank=$(LWS_WORKER_INDEX)"], "inheritArgs": True}
    template = a_class(multiNode={"worker": worker}).spec
    assert template is not None
    manifest = manifests.workload(
        a_server(nodes=3, args=["--mine"]),
        template,
        replicas=1,
        strategy="OneByOne",
        secret_version="",
    )
    made = manifest["spec"]["leaderWorkerTemplate"]["workerTemplate"]
    [container] = made["spec"]["containers"]
    own = ["--rank=$(LWS_WORKER_INDEX)", "--mine"]
    assert container["args"] == ["--model", "small", "--port", "8000", *own]


@pytest.mark.parametrize("length", [1, 44, 45, 50])
def test_the_name_of_the_groups_leaves_room_for_their_numbers(length: int) -> None:
    name = manifests.groups_name("a" * length)
    assert len(name) <= 48
    assert name != "a" * length
    assert name != manifests.groups_name("a" * (length - 1) + "b")


def test_how_several_nodes_work_rolls_only_servers_that_have_several() -> None:
    def inputs(nodes: int, **several: Any) -> str:
        server = a_server(nodes=nodes)
        template = a_class(**several).spec
        assert server.spec is not None
        assert template is not None
        return manifests.inputs(server.spec, template, "")

    assert inputs(1) == inputs(1, multiNode=MULTI_NODE)
    assert inputs(2) != inputs(2, multiNode=MULTI_NODE)


@pytest.mark.parametrize(
    ("around", "reason", "words"),
    [
        pytest.param({"server_class": a_class()}, "InvalidSpec", "multiNode", id="class"),
        pytest.param(
            {"groups_problem": "install it"}, "KindNotInstalled", "spec.nodes: install it", id="crd"
        ),
        pytest.param(
            {"server_class": a_class(multiNode={"worker": {"command": ["{rank}"]}})},
            "InvalidSpec",
            "spec.multiNode.worker.command: {rank} is no placeholder",
            id="placeholder",
        ),
    ],
)
def test_a_server_that_cannot_span_nodes_is_refused(
    around: dict[str, Any], reason: str, words: str
) -> None:
    result = decide(a_server(nodes=2), **{"server_class": wide_class(), **around})
    assert result.actions == ()
    status, found, message = conditions(result)["Accepted"]
    assert (status, found) == ("False", reason)
    assert words in message


def test_a_server_on_one_node_needs_nothing_of_all_that() -> None:
    result = decide(a_server(), groups_problem="install it")
    assert conditions(result)["Accepted"][0] == "True"


def test_it_serves_when_its_leader_does() -> None:
    workers = [member(WORKER, ready=True), member(LAST, ready=True)]
    assert ready(look_at(member(LEADER), *workers))[0] == "Loading"
    result = look_at(member(LEADER, ready=True), *workers)
    assert ready(result)[0] == "AllReady"
    assert result.status is not None
    assert (result.status.summary, result.status.ready_replicas) == ("1/1", 1)


NO_GPU = "0/3 nodes: Insufficient nvidia.com/gpu"


@pytest.mark.parametrize(
    ("pods", "reason", "words"),
    [
        pytest.param([], "Provisioning", "Pods are being made", id="none"),
        pytest.param([{}], "Provisioning", "1 of the 3 pods of a group are there", id="missing"),
        pytest.param(
            [{}, {}, {"unschedulable": NO_GPU}],
            "Unschedulable",
            f"llama-lws-0-2: {NO_GPU}",
            id="gpu",
        ),
        pytest.param(
            [{"unschedulable": NO_GPU}], "Unschedulable", f"llama-lws-0: {NO_GPU}", id="first"
        ),
        pytest.param(
            [{}, {"waiting": ("ImagePullBackOff", "denied")}, {}],
            "ImagePullFailed",
            "llama-lws-0-1: ImagePullBackOff: denied",
            id="image",
        ),
        pytest.param(
            [{}, {}, {"waiting": ("ContainerCreating", "")}],
            "Downloading",
            "llama-lws-0-2: The node fetches",
            id="slow",
        ),
        pytest.param([{}, {}, {}], "Loading", "loads the model", id="loading"),
    ],
)
def test_a_group_is_as_far_as_the_pod_that_keeps_it_waiting(
    pods: list[dict[str, Any]], reason: str, words: str
) -> None:
    members = [member((0, index), **step) for index, step in enumerate(pods)]
    found, message = ready(look_at(*members))
    assert found == reason
    assert words in message


def test_the_group_that_has_come_furthest_speaks() -> None:
    stuck = [member((1, index), unschedulable=NO_GPU) for index in range(3)]
    running = [member((0, index)) for index in range(3)]
    assert ready(look_at(*stuck, *running, replicas=2))[0] == "Loading"


def test_a_failure_outlives_the_group_that_it_took_along() -> None:
    dying = member(WORKER, restarts=1, last_log=WORDS, deleting=True)
    first = look_at(member(LEADER, deleting=True), dying, status=started(60))
    assert first.status is not None
    assert first.status.last_failure is not None
    assert WORDS in first.status.last_failure.message
    assert first.status.last_failure.count == 1
    assert ready(first)[0] == "Provisioning"
    # Seen once more it is the same one.
    again = look_at(dying, status=first.status)
    assert again.status is None or again.status.last_failure == first.status.last_failure
    anew = [dataclasses.replace(member((0, i)), uid=f"new-{i}") for i in range(3)]
    reason, message = ready(look_at(*anew, status=first.status))
    assert reason == "Loading"
    assert WORDS in message


def test_what_ends_because_its_group_does_is_no_failure() -> None:
    stopped = member(LEADER, deleting=True, last_exit=(143, "Error"))
    result = look_at(stopped, status=started(60))
    assert result.status is not None
    assert result.status.last_failure is None


def test_groups_that_fail_again_and_again_loop() -> None:
    pods = [member((0, index)) for index in range(3)]
    assert ready(look_at(*pods, status=started(60, a_failure(count=2)))) == ("CrashLooping", WORDS)
    stuck = [*pods[:2], member(LAST, unschedulable=NO_GPU)]
    assert ready(look_at(*stuck, status=started(60, a_failure(count=2))))[0] == "Unschedulable"


def test_a_group_that_serves_has_its_failures_forgiven() -> None:
    pods = [member((0, index), ready=True) for index in range(3)]
    result = look_at(*pods, status=started(60, a_failure(count=2)))
    assert ready(result)[0] == "AllReady"
    assert result.status is not None
    assert result.status.last_failure is None


@pytest.mark.parametrize(
    ("scheduled", "failure", "late"),
    [
        pytest.param((700, 700, 700), None, True, id="too-long"),
        pytest.param((700, 700, 60), None, False, id="the-last-pod-waited-for-its-node"),
        pytest.param((700, 700, None), None, False, id="one-still-waits"),
        pytest.param((10, 10, 10), 700, True, id="made-anew-since"),
        pytest.param((10, 10, 10), 60, False, id="made-anew-in-time"),
    ],
)
def test_the_clock_runs_from_the_moment_that_the_whole_group_has_nodes(
    scheduled: tuple[int | None, ...], failure: int | None, late: bool
) -> None:
    pods = [
        member((0, index), unschedulable=NO_GPU)
        if seconds is None
        else member((0, index), scheduled=timedelta(seconds=seconds))
        for index, seconds in enumerate(scheduled)
    ]
    before = started(5000, a_failure(seconds=failure) if failure else None)
    reason, message = ready(look_at(*pods, status=before))
    assert (reason == "StartupTimeout") is late
    assert (WORDS in message) is (failure is not None)


def test_a_change_rolls_groups_one_by_one_or_all_at_once_when_asked_to() -> None:
    def step(**spec: Any) -> dict[str, Any]:
        server = a_server(nodes=2, **spec)
        stale = some_groups(server, inputs="old")
        [action] = decide(server, server_class=wide_class(), workload=stale).actions
        assert isinstance(action, ApplyWorkload)
        found: dict[str, Any] = action.manifest["spec"]["rolloutStrategy"]
        return dict(found["rollingUpdateConfiguration"])

    assert step() == {"maxUnavailable": 1, "maxSurge": 0, "partition": 0}
    at_once = step(rollout={"strategy": "Recreate"})
    assert at_once == {"maxUnavailable": "100%", "maxSurge": 0, "partition": 0}


def test_scaling_and_strategy_are_patched_into_the_groups() -> None:
    server = a_server(nodes=2, replicas=3, rollout={"strategy": "Recreate"})
    [action] = decide(server, server_class=wide_class(), workload=some_groups(server)).actions
    assert isinstance(action, PatchWorkload)
    assert (action.kind, action.name) == ("LeaderWorkerSet", "llama-lws")
    assert action.changes["replicas"] == 3
    strategy = action.changes["rolloutStrategy"]
    assert strategy["rollingUpdateConfiguration"]["maxUnavailable"] == "100%"


def test_a_server_nobody_needs_gives_its_nodes_back() -> None:
    server = a_server(nodes=2, idle={"ttlSeconds": 0})
    [action] = decide(server, server_class=wide_class(), workload=some_groups(server)).actions
    assert isinstance(action, PatchWorkload)
    assert action.changes == {"replicas": 0}
