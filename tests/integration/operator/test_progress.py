"""Live progress: real HTTP to pods whose addresses are on loopback."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from kubesynth_api.runner_contract import ProgressReport, RunnerPhase
from kubesynth_operator.settings import OperatorSettings
from kubesynth_testing.apiserver import ApiServer
from kubesynth_testing.operator_harness import (
    Namespace,
    a_total,
    eventually,
    plan_message,
    run_message,
    running_operator,
    shard_message,
)


@asynccontextmanager
async def runner_at(address: str, port: int, done: list[int]) -> AsyncIterator[int]:
    """Answer like a runner that has done `done[0]` records; a port of 0 is chosen freely."""

    async def progress(_: web.Request) -> web.Response:
        report = ProgressReport(
            phase=RunnerPhase.GENERATE, totals=a_total(done[0]), records_per_second=0.5
        )
        return web.json_response(report.model_dump(mode="json", by_alias=True))

    app = web.Application()
    app.router.add_get("/progress", progress)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, address, port)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def until_done(namespace: Namespace, done: int) -> dict[str, object]:
    async def look() -> dict[str, object] | None:
        progress = ((await namespace.job()).get("status") or {}).get("progress") or {}
        found = (progress.get("records") or {}).get("done")
        return dict(progress) if found == done else None

    return await eventually(look, f"{done} records are done")


async def test_running_and_finished_shards_are_summed_and_the_end_is_exact(
    api_server: ApiServer, namespace: Namespace, settings: OperatorSettings
) -> None:
    done = [1]
    async with runner_at("127.0.0.2", 0, done) as port:
        polling = dataclasses.replace(settings, runner_port=port)
        async with running_operator(str(api_server.kubeconfig), polling):
            await namespace.apply(shards=2)
            await namespace.play("qa-plan", message=plan_message(10))
            await namespace.play("qa-generate", 0, exit_code=None, ip="127.0.0.2")
            progress = await until_done(namespace, 1)
            assert progress["percent"] == 10
            assert progress["recordsPerSecond"] == 0.5
            assert progress["etaSeconds"] == 18
            await namespace.play("qa-generate", 1, message=shard_message(5))
            await until_done(namespace, 6)
            done[0] = 4
            await until_done(namespace, 9)
            await namespace.play("qa-generate", 0, message=shard_message(5))
            await namespace.play("qa-finalize", message=run_message(done=10))
            await namespace.until("Complete", "True")
    status = (await namespace.job())["status"]
    assert status["progress"]["records"]["done"] == 10
    assert status["progress"]["recordsPerSecond"] == 0


async def test_pods_that_cannot_be_asked_are_unknown_and_harm_nothing(
    api_server: ApiServer, namespace: Namespace, settings: OperatorSettings
) -> None:
    limits = dataclasses.replace(settings.limits, unreachable_seconds=1)
    deaf = dataclasses.replace(settings, runner_port=1, limits=limits)
    async with running_operator(str(api_server.kubeconfig), deaf):
        await namespace.apply(shards=2)
        await namespace.play("qa-plan", message=plan_message(10))
        await namespace.play("qa-generate", 0, exit_code=None, ip="127.0.0.3")
        await namespace.until("Degraded", "True", "ProgressUnknown")
        assert (await namespace.condition("Running"))["status"] == "True"
        for index in range(2):
            await namespace.play("qa-generate", index, message=shard_message(5))
        await namespace.play("qa-finalize", message=run_message(done=10))
        await namespace.until("Complete", "True")
    assert await namespace.condition("Degraded") == {}
