"""What a job does about the model servers behind its roles."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from kubesynth_api.conditions import ConditionType, Reason
from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_api.v1alpha1.protocols import TritonOptions
from kubesynth_operator.actions import (
    CreateConfigMap,
    CreateJob,
    CreateModelServer,
    DeleteModelServer,
)
from kubesynth_operator.observation import JobKey, Observation, Problem, ServerView
from kubesynth_operator.servers.catalog import Catalog, use_of
from kubesynth_operator.servers.seen import Server
from kubesynth_testing.builders import (
    UID,
    a_child,
    a_job,
    a_pod,
    a_status,
    job_object,
    observation,
)
from kubesynth_testing.decisions import CLAIMS, conditions, created, decide
from kubesynth_testing.operator_harness import plan_message
from kubesynth_testing.server_builders import a_server
from kubesynth_testing.server_harness import inline, shared

PLAN, GENERATE = RunnerPhase.PLAN, RunnerPhase.GENERATE
URL = "http://qa-generator.team.svc:8000/v1"


def a_view(**fields: Any) -> ServerView:
    """Return a server that was accepted and loads its model."""
    known = {"uid": "u", "endpoint": URL, "model": "small", "reason": Reason.LOADING}
    return ServerView("team", "qa-generator", **{**known, **fields})


def seen(view: ServerView | None, **spec: Any) -> Observation:
    servers = {} if view is None else {"generator": view}
    job = a_job(**{"models": inline(), **spec})
    return observation(job, referents=CLAIMS, servers=servers)


def test_a_job_makes_its_own_server_before_anything_else() -> None:
    [action] = decide(seen(None)).actions
    assert isinstance(action, CreateModelServer)
    assert action.manifest["metadata"]["name"] == "qa-generator"
    assert action.manifest["metadata"]["ownerReferences"][0]["uid"] == UID
    assert action.manifest["spec"]["idle"] == {"ttlSeconds": 0}
    assert action.manifest["spec"]["model"] == "small"


def test_nothing_starts_before_the_address_is_known() -> None:
    result = decide(seen(a_view(endpoint="")))
    assert result.actions == ()
    assert conditions(result)["Running"] == ("False", "NotStarted")


def test_pods_start_before_the_server_is_ready_and_are_told_its_address() -> None:
    result = decide(seen(a_view()))
    [config] = [each for each in result.actions if isinstance(each, CreateConfigMap)]
    [model] = json.loads(config.manifest["data"]["run.json"])["spec"]["models"]
    assert model["external"]["url"] == URL
    assert "server" not in model
    assert created(result.actions) == ["qa-generate"]
    assert conditions(result)["ModelsReady"] == ("False", "Loading")


def test_a_server_that_speaks_triton_is_asked_so() -> None:
    options = TritonOptions.model_validate({"chatTemplate": {"builtIn": "ChatML"}})
    result = decide(seen(a_view(endpoint="grpc://qa-generator.team.svc:8001", triton=options)))
    [config] = [each for each in result.actions if isinstance(each, CreateConfigMap)]
    [model] = json.loads(config.manifest["data"]["run.json"])["spec"]["models"]
    assert model["external"]["protocol"] == "Triton"
    assert model["external"]["triton"]["chatTemplate"]["builtIn"] == "ChatML"


def test_a_config_map_that_is_there_needs_no_address() -> None:
    """Its server may be refused by the time of the shards' Job; pods know where it will be."""
    job = a_job(shards=3, models=inline())
    plan = a_child(job, PLAN, complete=True)
    pod = a_pod(job, PLAN, status="Succeeded", exit_code=0, message=plan_message())
    view = a_view(endpoint="")
    found = observation(job, [plan], [pod], referents=CLAIMS, servers={"generator": view})
    assert [type(each) for each in decide(found).actions][-1:] == [CreateJob]


def test_the_message_names_role_server_and_since_when() -> None:
    result = decide(seen(a_view(message="It loads.", since="2026-05-04T11:00:00Z")))
    assert result.status is not None
    [condition] = [each for each in result.status.conditions if each.type == "ModelsReady"]
    assert condition.message == (
        "generator: ModelServer team/qa-generator: It loads. (since 2026-05-04T11:00:00Z)"
    )


def test_a_server_that_does_not_start_in_time_fails_the_job() -> None:
    view = a_view(reason=Reason.STARTUP_TIMEOUT, message="Not ready within 9 s. CUDA out of memory")
    job = a_job(models=inline())
    stopped = a_child(job, GENERATE, suspended=True)
    result = decide(observation(job, [stopped], servers={"generator": view}))
    assert conditions(result)["Failed"] == ("True", "ModelStartupFailed")
    assert result.status is not None
    assert "CUDA out of memory" in str(result.status.conditions)


def test_a_suspended_job_does_not_fail_for_a_server_that_its_user_mends_meanwhile() -> None:
    dead = a_view(reason=Reason.STARTUP_TIMEOUT, message="Not ready within 600 s.")
    result = decide(seen(dead, suspend=True))
    assert "Failed" not in conditions(result)
    assert conditions(result)["Suspended"] == ("True", "SuspendedByUser")
    assert conditions(result)["ModelsReady"] == ("False", "StartupTimeout")


@pytest.mark.parametrize("reason", [Reason.REFERENCE_NOT_FOUND, Reason.REFERENCE_DENIED])
def test_a_server_that_is_not_there_or_not_allowed_parks_the_job(reason: Reason) -> None:
    view = ServerView("models", "llama", problem=Problem(reason, "it is so"))
    result = decide(seen(view, models=shared("llama", "models")))
    assert result.actions == ()
    assert conditions(result)["Accepted"] == ("False", reason)
    assert result.requeue_after_seconds == 15


def test_a_job_that_has_ended_gives_its_own_server_back_and_no_other() -> None:
    ended = a_status((ConditionType.COMPLETE, True, "AllShardsSucceeded"))
    own = decide(observation(a_job(models=inline(), status=ended), servers={"generator": a_view()}))
    assert own.actions == (DeleteModelServer("qa-generator", "u"),)
    other = a_job(models=shared("llama"), status=ended)
    assert decide(observation(other, servers={"generator": a_view()})).actions == ()


# --- who needs which server ---


def raw_job(name: str = "qa", *, labels: dict[str, str] | None = None, **changes: Any) -> Any:
    raw = job_object(name, models=[*inline(), {**shared("llama", "models")[0], "name": "judge"}])
    raw["metadata"] |= changes.pop("metadata", {})
    if labels is not None:
        raw["metadata"]["labels"] = labels
    status = changes.pop("status", {"conditions": [{"type": "Accepted", "status": "True"}]})
    raw["spec"] |= changes
    return {**raw, "status": status}


def accepted(*more: tuple[str, str], **fields: Any) -> dict[str, Any]:
    types = [("Accepted", "True"), *more]
    return {"conditions": [{"type": kind, "status": value} for kind, value in types], **fields}


QUEUE = {"kueue.x-k8s.io/queue-name": "team-a"}
PLANNING = {"conditions": [{"type": "Running", "status": "True", "reason": "Planning"}]}
FROM_NOTHING: list[dict[str, Any]] = [{"openQA": {}}, {"answer": {}}]
USES = [
    pytest.param({}, True, id="accepted"),
    pytest.param({"status": {}}, False, id="new"),
    pytest.param({"status": accepted(("Complete", "True"))}, False, id="complete"),
    pytest.param({"status": accepted(("Failed", "True"))}, False, id="failed"),
    pytest.param({"metadata": {"deletionTimestamp": "now"}}, False, id="deleted"),
    pytest.param({"managedBy": "other"}, False, id="of-another-controller"),
    pytest.param({"suspend": True}, False, id="suspended"),
    pytest.param({"suspend": True, "status": accepted(shards={"active": 1})}, True, id="stopping"),
    pytest.param({"labels": QUEUE}, False, id="queued"),
    pytest.param(
        {"labels": QUEUE, "status": accepted(("QuotaReserved", "True"))}, True, id="admitted"
    ),
    pytest.param(
        {"labels": QUEUE, "status": accepted(("QuotaReserved", "False"))}, False, id="preempted"
    ),
    pytest.param({"labels": QUEUE, "status": PLANNING}, False, id="plan-asks-nobody"),
    pytest.param(
        {"labels": QUEUE, "status": PLANNING, "pipeline": FROM_NOTHING}, True, id="plan-asks"
    ),
    pytest.param({"labels": QUEUE, "pipeline": FROM_NOTHING}, False, id="plan-is-done"),
    pytest.param({"status": PLANNING, "pipeline": FROM_NOTHING}, True, id="parked-while-plan-asks"),
    pytest.param({"status": PLANNING}, False, id="parked-while-plan-asks-nobody"),
]


@pytest.mark.parametrize(("changes", "active"), USES)
def test_a_job_needs_its_servers_from_acceptance_to_its_end(
    changes: dict[str, Any], active: bool
) -> None:
    use = use_of(raw_job(**changes))
    assert use.active is active
    assert use.servers == {("team", "qa-generator"), ("models", "llama")}


def a_shared_server(**spec: Any) -> Server:
    return dataclasses.replace(a_server("llama", **spec), key=JobKey("models", "llama"))


def test_users_follow_the_jobs_and_wake_the_server() -> None:
    woken: list[object] = []
    catalog = Catalog(woken.append, lambda job: None)
    server = a_shared_server(allowedNamespaces=["team"])
    catalog.put_server(server)
    woken.clear()
    catalog.job_seen(raw_job("one"))
    catalog.job_seen(raw_job("two"))
    assert catalog.users_of(server.key) == ("team/one", "team/two")
    assert server.key in woken
    woken.clear()
    catalog.job_seen(raw_job("one"))
    assert woken == [], "nothing is new"
    catalog.jobs_are({JobKey("team", "two")})
    assert catalog.users_of(server.key) == ("team/two",)
    catalog.job_gone(JobKey("team", "two"))
    assert catalog.users_of(server.key) == ()


@pytest.mark.parametrize(
    ("allowed", "may"), [([], False), (["other"], False), (["team"], True), (["*"], True)]
)
def test_a_server_of_another_namespace_has_to_allow_it(allowed: list[str], may: bool) -> None:
    catalog = Catalog(lambda key: None, lambda job: None)
    server = a_shared_server(allowedNamespaces=allowed)
    catalog.put_server(server)
    catalog.job_seen(raw_job())
    assert catalog.may_use(server.key, "team") is may
    assert bool(catalog.users_of(server.key)) is may
