"""What the operator does about a model server, decision by decision."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kubesynth_api.conditions import Reason
from kubesynth_api.v1alpha1.model_servers import ModelServerStatus, ServerUsers
from kubesynth_operator.actions import (
    ApplyService,
    ApplyWorkload,
    CreateClaim,
    PatchWorkload,
)
from kubesynth_operator.observation import Obstacle, ObstacleKind, Referent
from kubesynth_operator.servers.seen import IDLE, Service
from kubesynth_operator.wire import format_time
from kubesynth_testing.builders import NOW
from kubesynth_testing.server_builders import (
    UID,
    a_class,
    a_deployment,
    a_server,
    a_server_pod,
    conditions,
    decide,
)

TOKEN = {"secretKeyRef": {"name": "hub", "key": "token"}}
SLEEPY: dict[str, Any] = {"idle": {"ttlSeconds": 600}}
USED = ("team/qa",)


def test_a_new_server_gets_its_service_its_claim_and_its_deployment_in_that_order() -> None:
    server = a_server(cache={"shared": {"size": "1Gi"}})
    result = decide(server, service=None)
    assert [type(each) for each in result.actions] == [ApplyService, CreateClaim, ApplyWorkload]
    assert result.status is not None
    assert result.status.endpoint == "http://llama.team.svc:8000/v1"
    assert result.status.served_model == "small"
    assert conditions(result)["Ready"][:2] == ("False", "Provisioning")
    assert result.status.start_time == format_time(NOW)


def test_a_server_that_is_as_it_should_be_is_left_alone() -> None:
    server = a_server()
    around: dict[str, Any] = {
        "workload": a_deployment(server),
        "pods": (a_server_pod(ready=True),),
    }
    first = decide(server, **around)
    assert first.actions == ()
    again = decide(a_server(status=first.status), **around)
    assert (again.actions, again.status) == ((), None)


def test_a_server_that_is_deleted_is_left_alone() -> None:
    assert decide(a_server(deleting=True)) == IDLE


@pytest.mark.parametrize(
    ("spec", "users", "running", "released", "wanted"),
    [
        pytest.param({}, (), 0, None, 1, id="without-idle-it-runs"),
        pytest.param(SLEEPY, (), 0, None, 0, id="nobody-yet"),
        pytest.param(SLEEPY, USED, 0, None, 1, id="wanted"),
        pytest.param(SLEEPY, (), 1, 60, 1, id="let-go-a-minute-ago"),
        pytest.param(SLEEPY, (), 1, 600, 0, id="let-go-long-ago"),
        pytest.param(SLEEPY, USED, 1, 6000, 1, id="wanted-again"),
        pytest.param({"replicas": 0}, USED, 1, None, 0, id="switched-off"),
        pytest.param({"replicas": 3}, USED, 1, None, 3, id="scaled"),
    ],
)
def test_pods_follow_users(
    spec: dict[str, Any], users: tuple[str, ...], running: int, released: int | None, wanted: int
) -> None:
    last = format_time(NOW - timedelta(seconds=released)) if released is not None else None
    server = a_server(status=ModelServerStatus(last_used_time=last), **spec)
    deployment = a_deployment(server, replicas=running)
    actions = decide(server, users=users, workload=deployment).actions
    if running == wanted:
        assert actions == ()
    else:
        [action] = actions
        assert isinstance(action, PatchWorkload)
        assert action.changes == {"replicas": wanted}
        assert (action.uid, action.resource_version) == (deployment.uid, "7")


def test_the_last_job_s_leave_starts_the_clock() -> None:
    before = ModelServerStatus(users=ServerUsers(count=1, names=USED))
    server = a_server(status=before, **SLEEPY)
    result = decide(server, workload=a_deployment(server))
    assert result.status is not None
    assert result.status.last_used_time == format_time(NOW)
    assert result.requeue_after_seconds == 600
    assert result.actions == ()


# The end of vLLM 0.24's log.
VLLM_LOG = """\
(APIServer pid=26) pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
(APIServer pid=26)   Value error, User-specified max_model_len (1000000) is greater than the derived
(APIServer pid=26)     For further information visit https://errors.pydantic.dev/2.14/v/value_error
"""
STEPS = [
    pytest.param({"waiting": ("ContainerCreating", "")}, "Downloading", "fetches", id="pulling"),
    pytest.param({}, "Loading", "loads the model", id="running"),
    pytest.param(
        {"unschedulable": "0/3 nodes: Insufficient nvidia.com/gpu"},
        "Unschedulable",
        "Insufficient nvidia.com/gpu",
        id="no-gpu",
    ),
    pytest.param(
        {"waiting": ("ImagePullBackOff", "not found")}, "ImagePullFailed", "not found", id="image"
    ),
    pytest.param(
        {"waiting": ("CrashLoopBackOff", ""), "restarts": 3, "last_log": VLLM_LOG},
        "CrashLooping",
        "last line of its log: Value error, User-specified max_model_len (1000000) is greater",
        id="vllm-refuses-an-argument",
    ),
    pytest.param(
        {"waiting": ("CrashLoopBackOff", ""), "restarts": 3, "last_log": "a\n401 gated repo\n\n"},
        "CrashLooping",
        "exit code 1; last line of its log: 401 gated repo",
        id="gated",
    ),
    pytest.param(
        {"restarts": 2, "last_log": "CUDA out of memory"},
        "CrashLooping",
        "CUDA out of memory",
        id="between-crashes",
    ),
    pytest.param(
        {"restarts": 1, "last_log": "Killed"}, "Loading", "before: exit code 1", id="one-restart"
    ),
    pytest.param(
        {"waiting": ("CreateContainerConfigError", 'secret "x" not found')},
        "Provisioning",
        'secret "x" not found',
        id="no-secret",
    ),
]


@pytest.mark.parametrize(("step", "reason", "words"), STEPS)
def test_ready_says_what_keeps_the_server(step: dict[str, Any], reason: str, words: str) -> None:
    server = a_server()
    result = decide(server, workload=a_deployment(server), pods=(a_server_pod(**step),))
    status, found, message = conditions(result)["Ready"]
    assert (status, found) == ("False", reason)
    assert words in message
    assert result.status is not None
    assert result.status.startup[-1].reason == reason


def test_pods_that_cannot_be_made_say_why() -> None:
    server = a_server()
    failure = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: gpus"}
    deployment = a_deployment(server, status={"conditions": [failure]})
    assert "exceeded quota" in conditions(decide(server, workload=deployment))["Ready"][2]


@pytest.mark.parametrize(
    ("started", "scheduled", "step", "late"),
    [
        pytest.param(700, 700, {}, True, id="too-long"),
        pytest.param(500, 500, {}, False, id="in-time"),
        pytest.param(5000, 60, {}, False, id="had-no-node-for-long"),
        pytest.param(60, 5000, {}, False, id="was-ready-until-a-minute-ago"),
        pytest.param(5000, 5000, {"unschedulable": "no GPU"}, False, id="has-no-node"),
    ],
)
def test_the_startup_timeout_counts_from_a_node(
    started: int, scheduled: int, step: dict[str, Any], late: bool
) -> None:
    before = ModelServerStatus(start_time=format_time(NOW - timedelta(seconds=started)))
    server = a_server(status=before)
    pod = a_server_pod(scheduled=timedelta(seconds=scheduled), **step)
    result = decide(server, workload=a_deployment(server), pods=(pod,))
    found = conditions(result)
    assert (found["Ready"][1] == "StartupTimeout") is late
    assert ("Stalled" in found) is late


def test_pods_that_nobody_may_make_have_no_node_either() -> None:
    before = ModelServerStatus(start_time=format_time(NOW - timedelta(hours=2)))
    server = a_server(status=before)
    failure = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: gpus"}
    deployment = a_deployment(server, status={"conditions": [failure]})
    result = decide(server, workload=deployment)
    assert conditions(result)["Ready"][:2] == ("False", "Provisioning")
    assert result.requeue_after_seconds is None


def test_a_change_of_a_failing_server_starts_the_clock_again() -> None:
    before = ModelServerStatus(start_time=format_time(NOW - timedelta(hours=2)))
    server = a_server(status=before)
    pod = a_server_pod(scheduled=timedelta(hours=2), waiting=("CrashLoopBackOff", ""), restarts=9)
    result = decide(server, workload=a_deployment(server, inputs="old"), pods=(pod,))
    assert isinstance(result.actions[0], ApplyWorkload)
    assert result.status is not None
    assert result.status.start_time == format_time(NOW)
    assert conditions(result)["Ready"][1] == "CrashLooping"


ROLLING = {"updatedReplicas": 1, "replicas": 2}


def test_a_surge_without_room_becomes_a_recreation_and_says_so() -> None:
    server = a_server()
    old = a_server_pod("old", revision="1", ready=True)
    stuck = a_server_pod("new", revision="2", unschedulable="Insufficient nvidia.com/gpu")
    deployment = a_deployment(server, status=ROLLING)
    result = decide(server, workload=deployment, pods=(old, stuck))
    [action] = result.actions
    assert isinstance(action, PatchWorkload)
    assert action.changes == {"strategy": {"type": "Recreate", "rollingUpdate": None}}
    assert conditions(result)["Degraded"][:2] == ("True", "NoRoomForSurge")


def test_a_surge_gets_some_patience() -> None:
    server = a_server()
    young = timedelta(seconds=5)
    stuck = a_server_pod("new", revision="2", age=young, unschedulable="Insufficient gpu")
    pods = (a_server_pod("old", ready=True), stuck)
    result = decide(server, workload=a_deployment(server, status=ROLLING), pods=pods)
    assert result.actions == ()
    assert result.requeue_after_seconds == 5


def test_a_recreation_that_is_through_gives_way_to_a_surge() -> None:
    server = a_server()
    under_way = a_deployment(server, strategy="Recreate", status={"updatedReplicas": 0})
    pods = (a_server_pod(ready=True),)
    assert decide(server, workload=under_way, pods=pods).actions == ()
    through = a_deployment(server, strategy="Recreate")
    [action] = decide(server, workload=through, pods=pods).actions
    assert isinstance(action, PatchWorkload)
    assert action.changes["strategy"]["type"] == "RollingUpdate"


def test_a_server_may_ask_for_recreation() -> None:
    server = a_server(rollout={"strategy": "Recreate"})
    [action] = decide(server).actions
    assert isinstance(action, ApplyWorkload)
    assert action.manifest["spec"]["strategy"] == {"type": "Recreate"}


def test_a_secret_restarts_pods_only_when_that_is_asked_for() -> None:
    def actions(restart: bool, version: str) -> tuple[object, ...]:
        server = a_server(token=TOKEN, rollout={"restartOnSecretChange": restart})
        secret = Referent(exists=True, keys=frozenset({"token"}), version="1")
        [first] = decide(server, secret=secret).actions
        assert isinstance(first, ApplyWorkload)
        inputs = first.manifest["metadata"]["annotations"]["kubesynth.io/inputs"]
        now = Referent(exists=True, keys=frozenset({"token"}), version=version)
        return decide(server, secret=now, workload=a_deployment(server, inputs=inputs)).actions

    assert actions(False, "2") == actions(True, "1") == ()
    [rolled] = actions(True, "2")
    assert isinstance(rolled, ApplyWorkload)


PROBLEMS: list[Any] = [
    pytest.param({}, {"server_class": None}, "ReferenceNotFound", "no such class", id="class"),
    pytest.param(
        {},
        {"server_class": a_class(args=["{modle}"])},
        "InvalidSpec",
        "{modle} is no placeholder",
        id="placeholder",
    ),
    pytest.param(
        {"triton": {}}, {}, "InvalidSpec", "does not speak Triton", id="triton-of-another-class"
    ),
    pytest.param(
        {"triton": {"chatTemplate": {"jinja": {"configMapKeyRef": {"name": "t", "key": "k"}}}}},
        {"server_class": a_class(protocol="Triton")},
        "InvalidSpec",
        "give the template inline",
        id="template-in-a-config-map",
    ),
    pytest.param(
        {"token": TOKEN},
        {"secret": Referent(exists=False)},
        "ReferenceNotFound",
        "'hub' does not exist",
        id="secret",
    ),
    pytest.param(
        {"token": TOKEN},
        {"secret": Referent(exists=True)},
        "ReferenceNotFound",
        "no key 'token'",
        id="key",
    ),
    pytest.param(
        {"token": TOKEN},
        {"secret": Referent(exists=False, denied=True)},
        "ReferenceDenied",
        "may not be read",
        id="denied",
    ),
    pytest.param({"gpus": -1}, {}, "InvalidSpec", "gpus", id="not-parsable"),
]


@pytest.mark.parametrize(("spec", "around", "reason", "words"), PROBLEMS)
def test_a_server_that_cannot_be_is_refused_and_keeps_what_it_has(
    spec: dict[str, Any], around: dict[str, Any], reason: str, words: str
) -> None:
    result = decide(a_server(**spec), **around)
    assert result.actions == ()
    status, found, message = conditions(result)["Accepted"]
    assert (status, found) == ("False", reason)
    assert words in message
    assert conditions(result)["Stalled"][1] == reason


def test_a_class_that_speaks_triton_is_asked_as_the_server_says_or_else_as_it_says() -> None:
    template = a_class(protocol="Triton", port=8001, triton={"chatTemplate": {"builtIn": "Phi4"}})
    by_class = decide(a_server(), server_class=template).status
    own = {"chatTemplate": {"builtIn": "Llama3"}}
    by_server = decide(a_server(triton=own), server_class=template).status
    assert by_class is not None
    assert by_server is not None
    assert by_class.endpoint == "grpc://llama.team.svc:8001"
    for status, wanted in ((by_class, "Phi4"), (by_server, "Llama3")):
        assert status.triton is not None
        assert status.triton.chat_template is not None
        assert status.triton.chat_template.built_in == wanted


def test_recreation_is_asked_for_before_a_new_model_is_applied() -> None:
    """Or the API server would refuse the rest of a surge, which a patch may have left there."""
    server = a_server(model="other", rollout={"strategy": "Recreate"})
    deployment = a_deployment(a_server())
    first, second = decide(server, workload=deployment).actions
    assert isinstance(first, PatchWorkload)
    assert first.changes == {"strategy": {"type": "Recreate", "rollingUpdate": None}}
    assert isinstance(second, ApplyWorkload)
    recreated = a_deployment(a_server(), strategy="Recreate")
    [only] = decide(server, workload=recreated).actions
    assert isinstance(only, ApplyWorkload)


def test_an_obstacle_is_told_and_tried_again() -> None:
    obstacle = Obstacle(ObstacleKind.STRANGER, "Service 'llama' belongs to nobody")
    result = decide(a_server(), obstacles=(obstacle,))
    assert result.actions == ()
    assert conditions(result)["Degraded"][1] == Reason.CHILD_CONFLICT
    assert result.requeue_after_seconds == 30


def test_a_service_on_another_port_is_mended() -> None:
    server = a_server()
    found = decide(
        server, service=Service("llama", UID, (("endpoint", 9000),)), workload=a_deployment(server)
    )
    assert [type(each) for each in found.actions] == [ApplyService]


def test_a_service_follows_every_port_of_the_class() -> None:
    server, template = a_server(), a_class(extraPorts=[{"name": "metrics", "port": 8002}])
    around: dict[str, Any] = {
        "server_class": template,
        "workload": a_deployment(server, template),
    }
    ports = (("endpoint", 8000), ("metrics", 8002))
    for seen in (ports[:1], (ports[0], ("metrics", 9000)), (*ports, ("old", 1))):
        [action] = decide(server, service=Service("llama", UID, seen), **around).actions
        assert isinstance(action, ApplyService)
    assert decide(server, service=Service("llama", UID, ports), **around).actions == ()


def test_one_pod_of_two_serves() -> None:
    server = a_server(replicas=2)
    failure = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}
    deployment = a_deployment(server, replicas=2, status={"conditions": [failure]})
    result = decide(server, workload=deployment, pods=(a_server_pod(ready=True),))
    assert conditions(result)["Ready"][:2] == ("True", "AllReady")
    assert conditions(result)["Degraded"][1] == Reason.MODEL_UNHEALTHY
    assert result.status is not None
    assert result.status.summary == "1/2"
