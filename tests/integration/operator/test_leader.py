"""Leader election on a real Lease, with clocks that the test moves."""

from __future__ import annotations

import pytest

from kubesynth_operator.kube.client import KubeClient
from kubesynth_operator.kube.resources import LEASES
from kubesynth_operator.leader import Elector, LeadershipLostError
from kubesynth_testing.operator_harness import Namespace

LEASE_NAME = "a-release"


class Clock:
    """Stands still until it is moved; asking may move it."""

    def __init__(self, step: float = 0.0) -> None:
        self.now = 0.0
        self.step = step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


async def holder(namespace: Namespace) -> str:
    lease = await namespace.client.get(LEASES, namespace.name, LEASE_NAME)
    return str(lease["spec"]["holderIdentity"])


def an_elector(client: KubeClient, namespace: Namespace, name: str, clock: Clock) -> Elector:
    return Elector(client, (namespace.name, LEASE_NAME), name, clock)


async def test_a_lease_is_held_until_it_expires_on_the_other_s_own_clock(
    client: KubeClient, namespace: Namespace
) -> None:
    clock = Clock()
    first = an_elector(client, namespace, "first", Clock())
    second = an_elector(client, namespace, "second", clock)
    assert await first.try_once()
    assert not await second.try_once()
    assert (first.stands_by, second.stands_by) == (False, True)
    clock.now += 14
    assert not await second.try_once()
    assert await first.try_once(), "renewed"
    clock.now += 14
    assert not await second.try_once(), "its time runs from the renewal it saw"
    clock.now += 16
    assert await second.try_once(), "the first has been silent for too long"
    assert await holder(namespace) == "second"
    assert not await first.try_once()
    assert (first.stands_by, second.stands_by) == (True, False)


async def test_a_leader_that_lost_its_lease_stops(client: KubeClient, namespace: Namespace) -> None:
    first = an_elector(client, namespace, "first", Clock(step=4))
    await first.acquire()
    lease = await client.get(LEASES, namespace.name, LEASE_NAME)
    lease["spec"]["holderIdentity"] = "second"
    await client.replace(LEASES, namespace.name, lease)
    with pytest.raises(LeadershipLostError, match="first"):
        await first.hold()


async def test_a_lease_that_is_given_back_is_free_at_once(
    client: KubeClient, namespace: Namespace
) -> None:
    first = an_elector(client, namespace, "first", Clock())
    second = an_elector(client, namespace, "second", Clock())
    await first.acquire()
    await second.release()
    assert await holder(namespace) == "first", "nobody gives back what is not his"
    await first.release()
    assert await second.try_once()
