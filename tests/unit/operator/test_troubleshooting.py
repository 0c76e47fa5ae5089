"""The pages on what goes wrong with models show what the operator really says.

That it says so on a real control plane is in tests/integration/operator/test_server_failures.py.
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kubesynth_api.conditions import ConditionType, Reason
from kubesynth_api.runner_contract import RunnerPhase, Totals
from kubesynth_api.v1alpha1.model_servers import ModelServerStatus
from kubesynth_operator import plan as plans
from kubesynth_operator.observation import LiveProgress, ServerView
from kubesynth_operator.policies import model_servers
from kubesynth_operator.servers.seen import ServerPlan
from kubesynth_operator.wire import format_time
from kubesynth_testing.builders import NOW, SETTINGS, a_child, a_job, observation
from kubesynth_testing.server_builders import (
    a_deployment,
    a_server,
    a_server_pod,
    conditions,
    decide,
)
from kubesynth_testing.server_harness import inline

DOCS = Path(__file__).parents[3] / "docs"
PAGES = {path.stem: path.read_text() for path in (DOCS / "troubleshooting").glob("*.md")}
NAME = "support-qa-generator"
NO_GPU = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
NO_IMAGE = 'Back-off pulling image "nvcr.io/nim/meta/llama-3.1-8b-instruct:1.8.4": 401 Unauthorized'
GATED = (
    "huggingface_hub.errors.GatedRepoError: 401 Client Error. Access to model "
    "meta-llama/Llama-3.1-8B-Instruct is restricted. You must have access to it."
)
FULL = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 896.00 MiB."
LOOP: dict[str, Any] = {"waiting": ("CrashLoopBackOff", "back-off 5m0s"), "restarts": 3}
DEAD: dict[str, Any] = {
    "restarts": 1,
    "last_exit": (139, "Error"),
    "last_log": "Segmentation fault",
}
SHOWN = [
    pytest.param("no-gpu-is-free", {"unschedulable": NO_GPU}, "Pending", id="no-gpu"),
    pytest.param(
        "image-is-missing", {"waiting": ("ImagePullBackOff", NO_IMAGE)}, "Failing", id="no-image"
    ),
    pytest.param("model-is-gated", {**LOOP, "last_log": GATED}, "Failing", id="gated"),
    pytest.param("out-of-memory", {**LOOP, "last_log": FULL}, "Failing", id="gpu-memory"),
    pytest.param(
        "out-of-memory", {**LOOP, "last_exit": (137, "OOMKilled")}, "Failing", id="memory"
    ),
    pytest.param("server-dies", DEAD, "Loading", id="died"),
]
SPEC = a_job(models=inline()).spec


def look(pod: dict[str, Any], before: ModelServerStatus | None = None, **spec: Any) -> ServerPlan:
    server = a_server(NAME, status=before, **spec)
    return decide(server, workload=a_deployment(server), pods=(a_server_pod(**pod),))


def seen_by_a_job(plan: ServerPlan) -> dict[str, ServerView]:
    _, reason, message = conditions(plan)["Ready"]
    return {"generator": ServerView("team", NAME, "uid", reason=Reason(reason), message=message)}


@pytest.mark.parametrize(("page", "pod", "phase"), SHOWN)
def test_pages_show_phase_reason_and_message(page: str, pod: dict[str, Any], phase: str) -> None:
    plan = look(pod)
    assert plan.status is not None
    assert plan.status.phase == phase
    assert re.search(rf"^{NAME} +\S+ +{phase} +{plan.status.summary} ", PAGES[page], re.MULTILINE)
    assert SPEC is not None
    _, reason, message = model_servers.readiness(SPEC, seen_by_a_job(plan))
    assert reason in PAGES[page]
    assert message in PAGES[page]


def test_gated_model_s_page_shows_how_the_job_fails() -> None:
    long_ago = format_time(NOW - timedelta(hours=2))
    pod = {**LOOP, "last_log": GATED, "scheduled": timedelta(hours=2)}
    plan = look(pod, ModelServerStatus(start_time=long_ago), startupTimeoutSeconds=3600)
    assert SPEC is not None
    outcome = model_servers.failed(SPEC, seen_by_a_job(plan))
    assert outcome is not None
    assert outcome.message in PAGES["model-is-gated"]
    assert outcome.reason in PAGES["model-is-gated"]


def test_dead_server_s_page_shows_the_event() -> None:
    [event] = look(DEAD, look({"ready": True}).status).events
    assert f"{event.type}  {event.reason}" in PAGES["server-dies"]
    assert event.message in PAGES["server-dies"]


@pytest.mark.parametrize("phase", [RunnerPhase.PLAN, RunnerPhase.GENERATE])
def test_page_of_a_model_that_does_not_answer_shows_what_jobs_say(phase: RunnerPhase) -> None:
    job = a_job(shards=4)
    said = "waiting for generator: connection refused: nothing listens there, or not yet"
    live = LiveProgress(
        *(Totals(), 0.0, 1, 0, NOW), message=f"{said} [http://llm:8000/v1/models]", speaker=phase
    )
    before = [a_child(job, RunnerPhase.PLAN, complete=True)] if phase != RunnerPhase.PLAN else []
    seen = observation(job, [*before, a_child(job, phase, active=1)], live=live)
    status = plans.reconcile(seen, SETTINGS).status
    assert status is not None
    [running] = [item for item in status.conditions if item.type == ConditionType.RUNNING]
    shown = f"Message:  {running.message}\n    Reason:   {running.reason}\n"
    assert shown in PAGES["model-does-not-answer"]


def test_every_page_shows_something_and_can_be_found() -> None:
    of_servers = {case.values[0] for case in SHOWN}
    assert PAGES.keys() == of_servers | {"model-does-not-answer"}
    for name in PAGES:
        place = "model-servers.md" if name in of_servers else "llm-endpoints.md"
        assert f"(troubleshooting/{name}.md)" in (DOCS / place).read_text()
        assert f"(troubleshooting/{name}.md)" in (DOCS / "runbook.md").read_text()
