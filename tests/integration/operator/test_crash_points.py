"""The operator dies after each of its writes in turn, with the answer lost; a new one goes on.

The writes are real and on a real API server; only the death is acted, by an exception that nothing
in the operator may catch.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable
from typing import Any

import pytest

from kubesynth_operator.app import Application
from kubesynth_operator.kube.client import KubeClient
from kubesynth_operator.kube.resources import EVENTS, JOBS
from kubesynth_operator.metrics import Metrics
from kubesynth_operator.settings import Limits, OperatorSettings
from kubesynth_testing.apiserver import ApiServer
from kubesynth_testing.operator_harness import (
    Kubelet,
    Namespace,
    run_operator,
    running_operator,
)

# Policy, ConfigMap and Job for each of plan, generate and finalize, and the status after each. The
# last write completes the job, which may be noticed before the death.
_LEAST_WRITES = 12
# More than any life needs: what pods wait for is written in between.
_MOST_WRITES = 24
_LIVES_AT_ONCE = 5


class Death(BaseException):
    """The process is gone."""


class DyingClient(KubeClient):
    """A client whose process dies right after its n-th write (Events apart) took effect."""

    fatal_write = 0
    _writes = 0

    async def create(self, resource: Any, namespace: str | None, manifest: Any) -> None:
        await self._survive(
            super().create(resource, namespace, manifest), counts=resource != EVENTS
        )

    async def apply(self, resource: Any, namespace: str, manifest: Any) -> None:
        await self._survive(super().apply(resource, namespace, manifest))

    async def merge_patch(self, resource: Any, namespace: str, name: str, patch: Any) -> None:
        await self._survive(super().merge_patch(resource, namespace, name, patch))

    async def replace(
        self, resource: Any, namespace: str, manifest: Any, subresource: str = ""
    ) -> dict[str, Any]:
        replaced = super().replace(resource, namespace, manifest, subresource)
        result: dict[str, Any] = await self._survive(replaced)
        return result

    async def _survive(self, write: Awaitable[Any], *, counts: bool = True) -> Any:
        result = await write
        self._writes += counts
        if self._writes == self.fatal_write:
            raise Death
        return result


async def live_and_die(
    kubeconfig: str, settings: OperatorSettings, fatal_write: int, ended: Awaitable[Any]
) -> bool:
    """Run an operator until it dies or the job has ended; False if nothing killed it."""
    client = await DyingClient.connect(kubeconfig)
    assert isinstance(client, DyingClient)
    client.fatal_write = fatal_write
    app = Application(client, settings, Metrics())
    life = asyncio.create_task(run_operator(client, settings, app))
    end = asyncio.ensure_future(ended)
    try:
        await asyncio.wait({life, end}, return_when=asyncio.FIRST_COMPLETED)
        return life.done()
    finally:
        for task in (life, end):
            task.cancel()
            with contextlib.suppress(Death, BaseExceptionGroup, asyncio.CancelledError):
                await task
        await client.close()


async def a_life_with_one_death(
    kubeconfig: str, namespace: Namespace, settings: OperatorSettings, fatal_write: int
) -> bool:
    """Take a job to its end with two operators, one after the other; False if none died."""
    await namespace.create_claims("corpus", "datasets")
    kubelet = Kubelet(namespace, records=6)
    playing = asyncio.create_task(kubelet.run())
    try:
        await namespace.apply(shards=2)
        end = namespace.until("Complete", "True", "AllShardsSucceeded", seconds=90)
        died = await live_and_die(kubeconfig, settings, fatal_write, end)
        async with running_operator(kubeconfig, settings):
            await namespace.until("Complete", "True", "AllShardsSucceeded", seconds=90)
    finally:
        playing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await playing
    status = (await namespace.job())["status"]
    assert status["progress"]["records"]["done"] == 6
    assert status["summary"] == "2/2"
    names = sorted(job["metadata"]["name"] for job in await namespace.objects(JOBS))
    assert names == ["qa-finalize", "qa-generate", "qa-plan"]
    assert kubelet.runs == {"plan-0": 1, "generate-0": 1, "generate-1": 1, "finalize-0": 1}
    return died


async def test_death_after_any_write_changes_nothing_about_the_end(
    api_server: ApiServer, client: KubeClient, settings: OperatorSettings
) -> None:
    kubeconfig = str(api_server.kubeconfig)
    gate = asyncio.Semaphore(_LIVES_AT_ONCE)

    async def live(fatal_write: int) -> bool:
        name = f"death-{fatal_write}"
        async with gate:
            api_server.kubectl("create", "namespace", name)
            own = dataclasses.replace(settings, namespaces=(name,), limits=Limits())
            return await a_life_with_one_death(
                kubeconfig, Namespace(client, name), own, fatal_write
            )

    died = await asyncio.gather(*(live(n + 1) for n in range(_MOST_WRITES)))
    assert all(died[:_LEAST_WRITES])
    assert not died[-1], "every write was somebody's last"


@pytest.mark.parametrize("fatal_write", [1, 2, 3, 4])
async def test_death_between_delete_and_reapply_never_mixes_two_jobs(
    api_server: ApiServer, namespace: Namespace, settings: OperatorSettings, fatal_write: int
) -> None:
    kubeconfig = str(api_server.kubeconfig)
    await namespace.apply(shards=2)
    await live_and_die(kubeconfig, settings, fatal_write, asyncio.sleep(20))
    await namespace.delete()
    uid = await namespace.apply(shards=2)
    kubelet = Kubelet(namespace, records=6)
    playing = asyncio.create_task(kubelet.run())
    try:
        async with running_operator(kubeconfig, settings):
            await namespace.until("Complete", "True")
        owners = {
            job["metadata"]["ownerReferences"][0]["uid"] for job in await namespace.objects(JOBS)
        }
        assert owners == {uid}
    finally:
        playing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await playing
