"""The loop body: what is written, in which order, and what is not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from kubesynth_api.runner_contract import RecordCounts, RunnerPhase, Totals
from kubesynth_operator.actions import Action, CreateJob, Plan, Transition
from kubesynth_operator.kube import errors
from kubesynth_operator.metrics import Metrics
from kubesynth_operator.observation import (
    Job,
    JobKey,
    LiveProgress,
    Observation,
    Obstacle,
    ObstacleKind,
)
from kubesynth_operator.reconcile import Hooks, Reconciler
from kubesynth_operator.work_queue import WorkQueue
from kubesynth_operator.workers import Workers
from kubesynth_testing.builders import NOW, SETTINGS, a_child, a_job, observation
from kubesynth_testing.decisions import CLAIMS, conditions

KEY = JobKey("team", "qa")


class Ledger:
    """A cluster that shows one observation and writes down what is done to it."""

    def __init__(self, seen: Observation | None) -> None:
        self.seen = seen
        self.written: list[str] = []
        self.refuses: Callable[[Action], Obstacle | None] = lambda action: None

    async def observe(self, key: JobKey) -> Observation | None:
        return self.seen

    async def carry_out(self, key: JobKey, action: Action) -> Obstacle | None:
        self.written.append(type(action).__name__)
        return self.refuses(action)

    async def write_status(self, job: Job, plan: Plan) -> str:
        self.written.append("status")
        assert self.seen is not None
        assert plan.status is not None
        self.seen = dataclasses.replace(self.seen, job=dataclasses.replace(job, status=plan.status))
        return "101"

    async def tell(self, job: Job, transition: Transition, at: datetime) -> None:
        self.written.append(f"tell {transition.reason}")


def a_reconciler(cluster: Ledger, hooks: Hooks | None = None) -> Reconciler:
    return Reconciler(cluster, SETTINGS, Metrics(), hooks or Hooks())


async def test_children_then_status_then_events() -> None:
    cluster = Ledger(observation(a_job(), referents=CLAIMS))
    await a_reconciler(cluster).reconcile(KEY)
    assert cluster.written[:5] == [
        "ApplyNetworkPolicy",
        "CreateConfigMap",
        "CreateTokenSecret",
        "CreateJob",
        "status",
    ]
    assert {line.split()[0] for line in cluster.written[5:]} == {"tell"}


async def test_the_status_is_written_only_when_it_changes() -> None:
    cluster = Ledger(observation(a_job(), referents=CLAIMS))
    reconciler = a_reconciler(cluster)
    await reconciler.reconcile(KEY)
    assert cluster.seen is not None
    job = cluster.seen.job
    cluster.seen = observation(job, [a_child(job, RunnerPhase.GENERATE)])
    cluster.written.clear()
    assert await reconciler.reconcile(KEY) is None
    assert cluster.written == []


async def test_an_obstacle_is_in_the_status_of_the_same_look() -> None:
    cluster = Ledger(observation(a_job(), referents=CLAIMS))

    def refuse(action: Action) -> Obstacle | None:
        refused = isinstance(action, CreateJob)
        return Obstacle(ObstacleKind.REFUSED, "exceeded quota") if refused else None

    cluster.refuses = refuse
    requeue = await a_reconciler(cluster).reconcile(KEY)
    assert requeue == 30
    assert cluster.seen is not None
    assert conditions(cluster.seen.job.status)["Running"] == ("False", "NotStarted")
    assert cluster.written.count("CreateJob") == 1


async def test_what_comes_after_an_obstacle_is_not_tried() -> None:
    cluster = Ledger(observation(a_job(), referents=CLAIMS))
    cluster.refuses = lambda action: Obstacle(ObstacleKind.STRANGER, "theirs")
    await a_reconciler(cluster).reconcile(KEY)
    assert "CreateJob" not in cluster.written


async def test_numbers_alone_wait_for_their_time() -> None:
    job = a_job()
    child = a_child(job, RunnerPhase.GENERATE, active=1, ready=1)
    cluster = Ledger(observation(job, [child]))
    reconciler = a_reconciler(cluster)
    await reconciler.reconcile(KEY)

    async def look(seconds: int, done: int) -> float | None:
        assert cluster.seen is not None
        live = LiveProgress(Totals(records=RecordCounts(in_=9, done=done)), 0.0, 1, 0, NOW)
        now = NOW + timedelta(seconds=seconds)
        cluster.seen = dataclasses.replace(cluster.seen, live=live, now=now)
        cluster.written.clear()
        return await reconciler.reconcile(KEY)

    assert await look(10, done=1) == 20
    assert cluster.written == []
    await look(30, done=2)
    assert cluster.written == ["status"]
    assert cluster.seen is not None
    assert cluster.seen.job.status.progress.records.done == 2


async def test_a_job_that_is_gone_is_forgotten() -> None:
    forgotten: list[JobKey] = []
    cluster = Ledger(None)
    await a_reconciler(cluster, Hooks(forget=forgotten.append)).reconcile(KEY)
    assert forgotten == [KEY]
    assert cluster.written == []


async def test_what_was_written_is_told_to_whoever_waits_for_it() -> None:
    written: list[tuple[JobKey, str]] = []
    cluster = Ledger(observation(a_job(), referents=CLAIMS))
    hooks = Hooks(written=lambda key, version: written.append((key, version)))
    await a_reconciler(cluster, hooks).reconcile(KEY)
    assert written == [(KEY, "101")]


class Enough(BaseException):
    """Ends the workers of a test."""


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        pytest.param(errors.Refusal(409, "Conflict", ""), 0.5, id="conflict"),
        pytest.param(errors.Refusal(429, "TooManyRequests", "", 17.0), 17.0, id="asked-to-wait"),
        pytest.param(errors.Refusal(None, "ClientError", ""), 0.5, id="no-answer"),
        pytest.param(None, 0.5, id="a-bug"),
    ],
)
async def test_a_failed_look_comes_back_and_the_worker_lives(
    error: errors.Refusal | None, seconds: float
) -> None:
    clock = 0.0
    tried: list[str] = []

    async def reconcile(key: JobKey) -> float | None:
        tried.append(key.name)
        if key.name == "last":
            raise Enough
        if error is None:
            raise KeyError("a bug")
        raise errors.from_refusal("GET", error)

    queue: WorkQueue[JobKey] = WorkQueue(clock=lambda: clock, random=lambda: 0.5)
    queue.add(JobKey("team", "bad"))
    queue.add(JobKey("team", "last"))
    with pytest.raises(BaseExceptionGroup):
        await Workers(queue, reconcile, Metrics()).run(1)
    assert tried == ["bad", "last"], "the worker outlived the first"
    due = queue.next_due()
    assert due == pytest.approx(seconds)
    clock = seconds
    assert await queue.get() == JobKey("team", "bad")
