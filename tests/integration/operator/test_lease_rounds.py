"""Rounds of leasing: silent pods, and shards of which nothing is known. Pods are real servers."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from aiohttp import web

from kubesynth_api.runner_contract import LEASE_PATH, PROGRESS_PATH, RunnerPhase
from kubesynth_operator import wire
from kubesynth_operator.child_cache import ChildCache
from kubesynth_operator.kube.client import KubeClient
from kubesynth_operator.lease_keeper import LeaseKeeper
from kubesynth_operator.metrics import Metrics
from kubesynth_operator.observation import Observation, Pod
from kubesynth_operator.settings import Limits, OperatorSettings
from kubesynth_operator.unreadable import Unreadable
from kubesynth_testing.background import going_on
from kubesynth_testing.builders import (
    UID,
    PodState,
    a_child,
    a_job,
    job_object,
    observation,
    pod_object,
)

SILENT, HEALTHY = "127.0.0.2", "127.0.0.3"
LIMITS = Limits(
    poll_timeout_seconds=0.5, poll_concurrency=2, lease_concurrency=4, lease_seconds=0.1
)


class Secrets:
    """Stands for an API server that has one Secret: the token."""

    async def get(self, *_: Any) -> dict[str, Any]:
        return {"data": {"token": base64.b64encode(b"secret").decode()}}


class Runner:
    """Answers as a pod does that takes every lease."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] = {"generation": 0, "models": {"generator": {"concurrency": 1}}}
        self.spent: dict[str, Any] = {}
        self.leased = asyncio.Event()

    async def progress(self, _: web.Request) -> web.Response:
        await asyncio.sleep(0.1)  # it has other work to do
        return web.json_response({"phase": "generate", "lease": self.report()})

    async def take(self, request: web.Request) -> web.Response:
        self.lease = await request.json()
        self.leased.set()
        return web.json_response(self.report())

    def report(self) -> dict[str, Any]:
        return {"lease": self.lease, "spent": self.spent}


@asynccontextmanager
async def pods(runner: Runner) -> AsyncIterator[int]:
    """Serve a healthy pod and silent ones, each at its address; yields the port."""
    app = web.Application()
    app.router.add_get(PROGRESS_PATH, runner.progress)
    app.router.add_post(LEASE_PATH, runner.take)
    serving = web.AppRunner(app)
    await serving.setup()
    site = web.TCPSite(serving, HEALTHY, 0)
    await site.start()
    port = int(serving.addresses[0][1])
    with socket.create_server((SILENT, port)):  # connections are taken, by the kernel alone
        try:
            yield port
        finally:
            await serving.cleanup()


def running(name: str, uid: str, shards: int) -> Observation:
    job = a_job(raw=job_object(name, shards=shards))
    job = dataclasses.replace(job, uid=uid)
    return observation(job, [a_child(job, RunnerPhase.GENERATE, owner_uid=uid, active=shards)])


def add_pods(cache: ChildCache[Pod], seen: Observation, ip: str) -> None:
    for index in range(seen.spec.shards.count):
        state = PodState(index=index, ip=ip, job_uid=seen.job.uid)
        cache.upsert(pod_object(seen.job, RunnerPhase.GENERATE, state))


def a_keeper(port: int) -> tuple[ChildCache[Pod], LeaseKeeper]:
    """Return a keeper, and the pods that it sees."""
    settings = OperatorSettings(runner_image="none", runner_port=port, limits=LIMITS)
    cache: ChildCache[Pod] = ChildCache(wire.parse_pod, lambda key: None)
    client, unreadable = cast(KubeClient, Secrets()), Unreadable(Metrics())
    return cache, LeaseKeeper(client, cache, settings, unreadable, look_at=lambda key: None)


async def test_pods_that_never_answer_do_not_keep_other_jobs_from_their_leases() -> None:
    runner = Runner()
    async with pods(runner) as port:
        cache, keeper = a_keeper(port)
        silent, healthy = running("a-silent", f"{UID[:-1]}1", 40), running("qa", UID, 1)
        for seen, ip in ((silent, SILENT), (healthy, HEALTHY)):
            add_pods(cache, seen, ip)
            keeper.observed(seen)
        async with going_on(keeper.run()):
            # One round over the silent pods alone takes ten seconds.
            async with asyncio.timeout(5):
                await runner.leased.wait()
    assert runner.lease["models"]["generator"]["concurrency"] == 4


SHARDS, BUDGET, HELD = 4, 1000, 40


def at_work() -> Observation:
    """Return a job of which one shard has told what it holds, and the others may have spent."""
    job = a_job(raw=job_object(shards=SHARDS, budget={"tokens": BUDGET}))
    child = a_child(job, RunnerPhase.GENERATE, active=SHARDS)
    return observation(job, [child])


def a_keeper_of_a_job_at_work(port: int) -> tuple[LeaseKeeper, Observation]:
    cache, keeper = a_keeper(port)
    seen = at_work()
    state = PodState(index=0, ip=HEALTHY)
    cache.upsert(pod_object(seen.job, RunnerPhase.GENERATE, state))
    return keeper, seen


def before_it(seen: Observation, *, has_lease_secret: bool) -> Observation:
    return dataclasses.replace(seen, children={}, has_lease_secret=has_lease_secret)


def with_what_others_have_left() -> Runner:
    """Return a shard whose share was taken back for another one, and that wants more."""
    runner = Runner()
    runner.lease |= {"generation": 5, "caps": {"tokens": HELD}}
    runner.spent = {"tokens": HELD - 10}
    return runner


async def caps_after_some_rounds(keeper: LeaseKeeper, runner: Runner) -> int:
    async with going_on(keeper.run()):
        await asyncio.sleep(5 * LIMITS.lease_seconds + 0.5)
    return int(runner.lease["caps"]["tokens"])


async def test_shards_that_may_have_run_before_are_not_taken_for_new() -> None:
    """As when a queued job was suspended, the operator replaced, and the job resumed."""
    runner = with_what_others_have_left()
    async with pods(runner) as port:
        keeper, seen = a_keeper_of_a_job_at_work(port)
        keeper.observed(before_it(seen, has_lease_secret=True))
        keeper.observed(seen)
        assert await caps_after_some_rounds(keeper, runner) == HELD


async def test_shards_are_new_once() -> None:
    runner = with_what_others_have_left()
    async with pods(runner) as port:
        keeper, seen = a_keeper_of_a_job_at_work(port)
        keeper.observed(before_it(seen, has_lease_secret=False))
        keeper.observed(seen)
        keeper.forget(seen.job.key)
        keeper.observed(seen)
        assert await caps_after_some_rounds(keeper, runner) == HELD
