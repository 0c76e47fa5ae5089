"""What the Events of a model server say, for each way from one status to the next."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kubesynth_api.v1alpha1.model_servers import ModelServerStatus
from kubesynth_operator.servers.seen import ServerPlan
from kubesynth_operator.wire import format_time
from kubesynth_testing.builders import NOW
from kubesynth_testing.server_builders import a_deployment, a_server, a_server_pod, decide

SLEEPY: dict[str, Any] = {"idle": {"ttlSeconds": 0}}
NO_GPU = {"unschedulable": "0/3 nodes: Insufficient nvidia.com/gpu"}
NO_IMAGE = {"waiting": ("ImagePullBackOff", "not found")}
LOOP = {"waiting": ("CrashLoopBackOff", ""), "restarts": 3, "last_log": "CUDA out of memory"}


def look(
    before: ModelServerStatus | None = None,
    users: tuple[str, ...] = (),
    pod: dict[str, Any] | None = None,
    **spec: Any,
) -> ServerPlan:
    """Return one look at a server whose pod stands at a step, after another look."""
    server = a_server(status=before, **spec)
    pods = () if pod is None else (a_server_pod(**pod),)
    return decide(server, users=users, workload=a_deployment(server), pods=pods)


def told(plan: ServerPlan) -> list[tuple[str, str, str]]:
    return [(event.type, event.condition, event.reason) for event in plan.events]


def test_first_look_says_that_it_is_accepted_scaled_and_on_its_way() -> None:
    plan = look()
    assert told(plan) == [
        ("Normal", "Accepted", "Valid"),
        ("Normal", "Scaling", "ScalingUp"),
        ("Normal", "Ready", "Provisioning"),
    ]
    assert plan.events[1].message == "From 0 to 1 pods."


@pytest.mark.parametrize(
    ("pod", "event", "words"),
    [
        pytest.param(NO_GPU, ("Warning", "Ready", "Unschedulable"), "nvidia.com/gpu", id="no-gpu"),
        pytest.param(NO_IMAGE, ("Warning", "Ready", "ImagePullFailed"), "not found", id="image"),
        pytest.param(LOOP, ("Warning", "Ready", "CrashLooping"), "out of memory", id="memory"),
        pytest.param({}, ("Normal", "Ready", "Loading"), "loads the model", id="loading"),
        pytest.param({"ready": True}, ("Normal", "Ready", "AllReady"), "serve", id="ready"),
    ],
)
def test_each_step_of_a_start_is_told_once(
    pod: dict[str, Any], event: tuple[str, str, str], words: str
) -> None:
    plan = look(look().status, pod=pod)
    assert told(plan) == [event]
    assert words in plan.events[0].message
    assert look(plan.status, pod=pod).events == ()


def test_a_server_that_dies_warns() -> None:
    plan = look(look(pod={"ready": True}).status, pod={"restarts": 1, "last_log": "Killed"})
    assert told(plan) == [("Warning", "Ready", "Loading")]
    assert plan.events[0].message.startswith("It no longer serves.")
    assert "last line of its log: Killed" in plan.events[0].message


def test_a_start_that_takes_too_long_warns() -> None:
    begun = look().status
    assert begun is not None
    begun = begun.model_copy(update={"start_time": format_time(NOW - timedelta(seconds=90))})
    plan = look(begun, pod=LOOP, startupTimeoutSeconds=1)
    assert told(plan) == [("Warning", "Ready", "StartupTimeout")]
    assert "CUDA out of memory" in plan.events[0].message


def test_scaling_from_and_to_zero_says_for_whom_and_why() -> None:
    asleep = look(**SLEEPY).status
    woken = look(asleep, users=("team/qa", "team/more"), **SLEEPY)
    assert ("Normal", "Scaling", "ScalingUp") in told(woken)
    assert woken.events[0].message == "From 0 to 1 pods for team/qa and 1 more."
    ready = look(woken.status, users=("team/qa",), pod={"ready": True}, **SLEEPY).status
    back = look(ready, pod={"ready": True}, **SLEEPY)
    assert told(back) == [("Normal", "Scaling", "ScalingDown"), ("Normal", "Ready", "Idle")]
    assert back.events[0].message == "From 1 to 0 pods: No job needs it."


def test_a_refused_server_says_so_once() -> None:
    refused = decide(a_server(), server_class=None)
    assert told(refused) == [("Warning", "Accepted", "ReferenceNotFound")]
    assert decide(a_server(status=refused.status), server_class=None).events == ()


def test_a_trouble_that_is_over_is_told_too() -> None:
    server = a_server()
    failure = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}
    pods = (a_server_pod(ready=True),)
    short = a_deployment(server, status={"conditions": [failure]})
    degraded = decide(server, workload=short, pods=pods)
    assert ("Warning", "Degraded", "ModelUnhealthy") in told(degraded)
    healed = decide(a_server(status=degraded.status), workload=a_deployment(server), pods=pods)
    assert told(healed) == [("Normal", "Degraded", "ModelUnhealthy")]
    assert healed.events[0].message == "No longer Degraded: exceeded quota"
