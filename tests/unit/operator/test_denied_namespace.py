"""A namespace that may not be listed, because its Role went with it or was never made."""

from __future__ import annotations

import asyncio
import contextlib
from typing import cast

import pytest

from kubesynth_operator.kube.client import KubeClient
from kubesynth_operator.kube.resources import PODS
from kubesynth_operator.kube.watch import Feedback, Scope, Watch
from kubesynth_operator.metrics import Metrics
from kubesynth_operator.unreadable import Unreadable
from kubesynth_testing import virtual_time
from kubesynth_testing.listing_server import KnownNames, ListingServer


def story(namespace: str | None, *statuses: int) -> list[tuple[set[str], bool, list[bool], bool]]:
    """Return, ten minutes after each status began: names, synced, what was told, a late beat."""
    server, names = ListingServer(statuses[0]), KnownNames()
    told: list[bool] = []
    seen = []

    async def main() -> None:
        clock = asyncio.get_running_loop().time
        beats = [0.0]
        feedback = Feedback(lambda: beats.append(clock()), Unreadable(Metrics()), told.append)
        watch = Watch(cast(KubeClient, server), Scope(PODS, namespace, ""), names, feedback)
        task = asyncio.create_task(watch.run())
        for status in statuses:
            server.status = status
            await asyncio.sleep(600)
            late = clock() - beats[-1] > 300
            seen.append((set(names.known), watch.synced.is_set(), list(told), late))
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    virtual_time.run(main())
    return seen


def test_a_denied_namespace_is_empty_and_known_until_it_may_be_read_again() -> None:
    assert story("team", 403, 200, 403) == [
        (set(), True, [True], False),
        ({"one"}, True, [True, False], False),
        (set(), True, [True, False, True], False),
    ]


@pytest.mark.parametrize(("namespace", "status"), [(None, 403), ("team", 503), ("team", 404)])
def test_a_cluster_or_a_silent_server_is_waited_for(namespace: str | None, status: int) -> None:
    assert story(namespace, status, 200, status) == [
        (set(), False, [], True),
        ({"one"}, True, [], False),
        ({"one"}, True, [], True),
    ]
