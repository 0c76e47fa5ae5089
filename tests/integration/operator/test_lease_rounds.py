"""Leases beside pods that take connections and never answer. The pods are real servers here."""

from __future__ import annotations

import asyncio
import base64
import contextlib
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
        self.leased = asyncio.Event()

    async def progress(self, _: web.Request) -> web.Response:
        await asyncio.sleep(0.1)  # it has other work to do
        return web.json_response({"phase": "generate", "lease": {"lease": self.lease}})

    async def take(self, request: web.Request) -> web.Response:
        self.lease = await request.json()
        self.leased.set()
        return web.json_response({"lease": self.lease})


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


async def test_pods_that_never_answer_do_not_keep_other_jobs_from_their_leases() -> None:
    runner = Runner()
    async with pods(runner) as port:
        settings = OperatorSettings(runner_image="none", runner_port=port, limits=LIMITS)
        cache: ChildCache[Pod] = ChildCache(wire.parse_pod, lambda key: None)
        client = cast(KubeClient, Secrets())
        unreadable = Unreadable(Metrics())
        keeper = LeaseKeeper(client, cache, settings, unreadable, look_at=lambda key: None)
        silent, healthy = running("a-silent", f"{UID[:-1]}1", 40), running("qa", UID, 1)
        for seen, ip in ((silent, SILENT), (healthy, HEALTHY)):
            add_pods(cache, seen, ip)
            keeper.observed(seen)
        task = asyncio.create_task(keeper.run())
        try:
            # One round over the silent pods alone takes ten seconds.
            async with asyncio.timeout(5):
                await runner.leased.wait()
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    assert runner.lease["models"]["generator"]["concurrency"] == 4
