"""A namespace that may not be listed, because its Role went with it or was never made."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Set
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from kubesynth_operator.kube import errors
from kubesynth_operator.kube.client import KubeClient
from kubesynth_operator.kube.resources import PODS, Resource
from kubesynth_operator.kube.watch import Feedback, Name, Scope, Watch
from kubesynth_operator.metrics import Metrics
from kubesynth_operator.unreadable import Unreadable
from kubesynth_testing import virtual_time

ONE = {"metadata": {"namespace": "team", "name": "one", "resourceVersion": "1"}}


class Server:
    """Stands for an API server that answers every list with one status code."""

    def __init__(self, status: int) -> None:
        self.status = status

    async def list_page(
        self, resource: Resource, namespace: str | None, query: Mapping[str, str]
    ) -> dict[str, Any]:
        await asyncio.sleep(0.01)
        if self.status != 200:
            raise errors.from_refusal("list", errors.Refusal(self.status, "Refused", "no"))
        return {"metadata": {"resourceVersion": "1"}, "items": [ONE]}

    @asynccontextmanager
    async def watch(
        self, resource: Resource, namespace: str | None, query: Mapping[str, str], seconds: float
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        if self.status != 200:
            raise errors.from_refusal("watch", errors.Refusal(self.status, "Refused", "no"))

        async def events() -> AsyncIterator[dict[str, Any]]:
            await asyncio.sleep(seconds)
            return
            yield

        yield events()


class Names:
    """A sink that knows the names of what exists."""

    def __init__(self) -> None:
        self.known: set[str] = set()

    def upsert(self, raw: dict[str, Any]) -> None:
        self.known.add(raw["metadata"]["name"])

    def delete(self, raw: dict[str, Any]) -> None:
        self.known.discard(raw["metadata"]["name"])

    def keep(self, namespace: str | None, names: Set[Name]) -> None:
        self.known &= {name for _, name in names}


def story(namespace: str | None, *statuses: int) -> list[tuple[set[str], bool, list[bool], bool]]:
    """Return, ten minutes after each status began: names, synced, what was told, a late beat."""
    server, names = Server(statuses[0]), Names()
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
