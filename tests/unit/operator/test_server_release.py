"""Servers that nobody needs give their GPUs back, whatever else is the matter with them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kubesynth_api.v1alpha1.model_servers import ModelServerStatus
from kubesynth_operator.actions import PatchWorkload
from kubesynth_operator.observation import Referent
from kubesynth_operator.wire import format_time
from kubesynth_testing.builders import NOW
from kubesynth_testing.server_builders import a_deployment, a_server, decide

TOKEN = {"secretKeyRef": {"name": "hub", "key": "token"}}
SLEEPY: dict[str, Any] = {"idle": {"ttlSeconds": 600}}
USED = ("team/qa",)


def test_a_server_that_is_told_to_sleep_later_and_was_never_used_sleeps_in_time() -> None:
    ran = decide(a_server(), workload=a_deployment(a_server()))
    server = a_server(status=ran.status, **SLEEPY)
    deployment = a_deployment(server)
    told = decide(server, workload=deployment)
    assert (told.actions, told.requeue_after_seconds) == ((), 600)
    assert told.status is not None
    assert told.status.last_used_time == format_time(NOW)
    later = decide(
        a_server(status=told.status, **SLEEPY),
        workload=deployment,
        now=NOW + timedelta(seconds=600),
    )
    [action] = later.actions
    assert isinstance(action, PatchWorkload)
    assert action.changes == {"replicas": 0}


def test_a_server_that_nobody_started_has_no_clock() -> None:
    status = decide(a_server(**SLEEPY)).status
    assert status is not None
    assert status.last_used_time is None


WITHOUT_CLASS: dict[str, Any] = {"server_class": None}
WITHOUT_SECRET: dict[str, Any] = {"secret": Referent(exists=False)}


@pytest.mark.parametrize("refusal", [WITHOUT_CLASS, WITHOUT_SECRET], ids=["class", "secret"])
@pytest.mark.parametrize(
    ("spec", "users", "released", "wanted"),
    [
        pytest.param(SLEEPY, (), 600, 0, id="let-go-long-ago"),
        pytest.param(SLEEPY, (), 60, 2, id="let-go-a-minute-ago"),
        pytest.param(SLEEPY, USED, 6000, 2, id="needed"),
        pytest.param({}, (), None, 2, id="without-idle"),
        pytest.param({"replicas": 0}, USED, None, 0, id="switched-off"),
        pytest.param({"replicas": 5}, USED, None, 2, id="gets-no-more"),
    ],
)
def test_a_refused_server_keeps_what_is_needed_and_gives_the_rest_back(
    refusal: dict[str, Any],
    spec: dict[str, Any],
    users: tuple[str, ...],
    released: int | None,
    wanted: int,
) -> None:
    last = format_time(NOW - timedelta(seconds=released)) if released is not None else None
    before = ModelServerStatus(last_used_time=last, replicas=2)
    server = a_server(status=before, token=TOKEN, **{"replicas": 2, **spec})
    deployment = a_deployment(server, replicas=2)
    result = decide(server, workload=deployment, users=users, **refusal)
    changes = [each.changes for each in result.actions if isinstance(each, PatchWorkload)]
    assert changes == ([] if wanted == 2 else [{"replicas": wanted}])
    assert result.status is not None
    assert result.status.phase == "Rejected"
    assert (result.status.replicas, result.status.users.count) == (wanted, len(users))
    scaled = [each.message for each in result.events if each.condition == "Scaling"]
    assert scaled == ([] if wanted == 2 else ["From 2 to 0 pods."])


def test_a_refused_server_is_looked_at_again_when_its_time_is_up() -> None:
    last = format_time(NOW - timedelta(seconds=590))
    server = a_server(status=ModelServerStatus(last_used_time=last), **SLEEPY)
    result = decide(server, workload=a_deployment(server), server_class=None)
    assert (result.actions, result.requeue_after_seconds) == ((), 10)


def test_a_refused_server_without_pods_or_with_a_spec_that_is_not_understood_is_left() -> None:
    assert decide(a_server(**SLEEPY), server_class=None).actions == ()
    server = a_server(**SLEEPY)
    broken = a_server(mistyped=1)
    assert decide(broken, workload=a_deployment(server)).actions == ()
