"""What pods answer that no runner would: redirects, and reports in pieces or without an end."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web

from kubesynth_api.runner_contract import LEASE_PATH, PROGRESS_PATH, RunnerPhase
from kubesynth_operator import wire
from kubesynth_operator.child_cache import ChildCache
from kubesynth_operator.kube.client import KubeClient
from kubesynth_operator.lease_keeper import LeaseKeeper
from kubesynth_operator.metrics import Metrics
from kubesynth_operator.observation import Pod
from kubesynth_operator.progress_book import ProgressBook
from kubesynth_operator.progress_poller import ProgressPoller
from kubesynth_operator.settings import Limits, OperatorSettings
from kubesynth_operator.unreadable import Unreadable
from kubesynth_testing.background import going_on
from kubesynth_testing.builders import UID, PodState, a_child, a_job, observation, pod_object

ADDRESS = "127.0.0.4"
LIMITS = Limits(poll_timeout_seconds=2.0, lease_seconds=0.05)


class Secrets:
    """Stands for an API server that has one Secret: the token."""

    async def get(self, *_: Any) -> dict[str, Any]:
        return {"data": {"token": base64.b64encode(b"secret").decode()}}


class OddPod:
    """Answers both of the operator's requests in some odd way, and has one page besides."""

    def __init__(self) -> None:
        self.asked = 0
        self.strayed: list[str] = []
        self.leases: list[dict[str, Any]] = []
        self.taken: dict[str, Any] = {}
        self.redirects: frozenset[str] = frozenset()
        self.padding = ""

    def report(self) -> dict[str, Any]:
        lease = self.taken or {"generation": 0, "models": {"generator": {"concurrency": 1}}}
        return {"lease": lease, "unheardOf": self.padding}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        if request.method in self.redirects:
            return web.Response(status=307, headers={"Location": "/elsewhere"})
        body: dict[str, Any] = {"phase": "generate", "totals": {"records": {"done": 7}}}
        if request.method == "POST":
            self.taken = await request.json()
            self.leases.append(self.taken)
            body = self.report()
        else:
            body["lease"] = self.report()
        text = json.dumps(body).encode()
        response = web.StreamResponse(headers={"Content-Length": str(len(text))})
        await response.prepare(request)
        await response.write(text[:20])
        await asyncio.sleep(0.05)  # a segment of its own
        await response.write(text[20:])
        return response

    async def stray(self, request: web.Request) -> web.Response:
        self.strayed.append(request.method)
        return web.json_response({})


@asynccontextmanager
async def serving(pod: OddPod) -> AsyncIterator[OperatorSettings]:
    app = web.Application()
    app.router.add_get(PROGRESS_PATH, pod.answer)
    app.router.add_post(LEASE_PATH, pod.answer)
    app.router.add_route("*", "/elsewhere", pod.stray)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, ADDRESS, 0).start()
    try:
        port = int(runner.addresses[0][1])
        yield OperatorSettings(runner_image="none", runner_port=port, limits=LIMITS)
    finally:
        await runner.cleanup()


def its_cache() -> ChildCache[Pod]:
    cache: ChildCache[Pod] = ChildCache(wire.parse_pod, lambda key: None)
    cache.upsert(pod_object(a_job(), RunnerPhase.GENERATE, PodState(ip=ADDRESS)))
    return cache


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.02)


async def records_after_a_round(settings: OperatorSettings) -> int | None:
    """Poll once; return how many records the pod has told of, None if it told nothing."""
    book = ProgressBook()
    now = datetime.now(UTC)
    poller = ProgressPoller(
        its_cache(),
        book,
        settings,
        Unreadable(Metrics()),
        clock=lambda: now,
        look_at=lambda key: None,
    )
    async with aiohttp.ClientSession() as session:
        await poller.poll_once(session)
    live = book.live(UID)
    return live.totals.records.done if live is not None and live.reachable else None


@asynccontextmanager
async def leasing(settings: OperatorSettings) -> AsyncIterator[None]:
    client = cast(KubeClient, Secrets())
    keeper = LeaseKeeper(
        client, its_cache(), settings, Unreadable(Metrics()), look_at=lambda key: None
    )
    job = a_job()
    keeper.observed(observation(job, [a_child(job, RunnerPhase.GENERATE, active=1)]))
    async with going_on(keeper.run()):
        yield


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_no_request_follows_a_pod_that_sends_it_elsewhere(method: str) -> None:
    pod = OddPod()
    pod.redirects = frozenset({method})
    async with serving(pod) as settings:
        assert await records_after_a_round(settings) == (None if method == "GET" else 7)
        async with leasing(settings):
            await until(lambda: pod.asked >= 5)
    assert pod.strayed == []


async def test_a_report_in_pieces_is_read_as_a_whole() -> None:
    async with serving(OddPod()) as settings:
        assert await records_after_a_round(settings) == 7


async def test_a_lease_is_known_to_be_taken_though_the_answer_comes_in_pieces() -> None:
    pod = OddPod()
    async with serving(pod) as settings, leasing(settings):
        await until(lambda: bool(pod.leases))
        asked = pod.asked
        await asyncio.sleep(10 * LIMITS.lease_seconds)
        assert pod.asked <= asked + 1, "nothing is left to be settled"
    assert pod.taken["models"]["generator"]["concurrency"] == 4


async def test_of_an_answer_without_an_end_no_more_is_read_than_a_report_can_be() -> None:
    pod = OddPod()
    pod.padding = "x" * 65536
    async with serving(pod) as settings:
        assert await records_after_a_round(settings) is None
