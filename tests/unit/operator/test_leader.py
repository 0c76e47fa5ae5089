"""How long a leader leads when the API server does not answer, on virtual time."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from kubesynth_operator.kube import errors
from kubesynth_operator.kube.client import KubeClient
from kubesynth_operator.kube.resources import Resource
from kubesynth_operator.leader import LEASE_SECONDS, Elector, LeadershipLostError
from kubesynth_testing import virtual_time


class Server:
    """Stands for an API server with one Lease, whose answers take a while."""

    def __init__(self, seconds: float = 0.01) -> None:
        self.seconds = seconds
        self.lease: dict[str, Any] | None = None
        self.written_at = 0.0

    async def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any]:
        await asyncio.sleep(self.seconds)
        if self.lease is None:
            raise errors.from_refusal("get", errors.Refusal(404, "NotFound", "no"))
        return {**self.lease, "spec": dict(self.lease["spec"])}

    async def create(self, resource: Resource, namespace: str, manifest: dict[str, Any]) -> None:
        await self.replace(resource, namespace, manifest)

    async def replace(
        self, resource: Resource, namespace: str, manifest: dict[str, Any]
    ) -> dict[str, Any]:
        # It is written at once, and the answer is late.
        self.lease = manifest
        self.written_at = asyncio.get_running_loop().time()
        await asyncio.sleep(self.seconds)
        return manifest


def an_elector(server: Server) -> Elector:
    clock = asyncio.get_running_loop().time
    return Elector(cast(KubeClient, server), ("system", "a-release"), "first", clock)


@pytest.mark.parametrize("seconds", [6.0, 30.0, 3600.0])
def test_a_leader_that_gets_no_answer_stops_before_another_may_begin(seconds: float) -> None:
    server = Server()

    async def main() -> None:
        elector = an_elector(server)
        await elector.acquire()
        written_at = server.written_at
        server.seconds = seconds
        with pytest.raises(LeadershipLostError):
            await elector.hold()
        assert asyncio.get_running_loop().time() < written_at + LEASE_SECONDS - 4

    virtual_time.run(main())


def test_slow_answers_are_no_silence() -> None:
    server = Server()

    async def main() -> None:
        elector = an_elector(server)
        await elector.acquire()
        server.seconds = 2.0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(300):
                await elector.hold()

    virtual_time.run(main())


def test_the_time_of_a_slow_answer_counts() -> None:
    server = Server(seconds=4.9)

    async def main() -> float:
        elector = an_elector(server)
        await elector.acquire()  # 9.8 s after it asked
        server.seconds = 3600.0
        with pytest.raises(LeadershipLostError):
            await elector.hold()
        return asyncio.get_running_loop().time()

    assert virtual_time.run(main()) == pytest.approx(10.0)


def test_giving_back_does_not_wait_for_a_silent_server() -> None:
    server = Server()

    async def main() -> float:
        elector = an_elector(server)
        await elector.acquire()
        server.seconds = 3600.0
        began = asyncio.get_running_loop().time()
        await elector.release()
        return asyncio.get_running_loop().time() - began

    assert virtual_time.run(main()) <= 5.1
