"""One thing that makes no sense costs nobody else anything, and is told of once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping, Set
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from kubesynth_api.runner_contract import CapShare, InitialShare, LeaseReport, ModelShare
from kubesynth_operator.kube.client import KubeClient
from kubesynth_operator.kube.resources import PODS, Resource
from kubesynth_operator.kube.watch import Feedback, Name, Scope, Watch
from kubesynth_operator.lease_book import JobLeases, LivePod, Terms
from kubesynth_operator.metrics import Metrics
from kubesynth_operator.policies.leases import UNLIMITED
from kubesynth_operator.unreadable import Unreadable
from kubesynth_testing import virtual_time


def an_object(name: str, version: str, value: str = "1") -> dict[str, Any]:
    metadata = {"namespace": "team", "name": name, "resourceVersion": version}
    return {"metadata": metadata, "value": value}


class Server:
    """Stands for an API server: what it lists, and the events of its first watch."""

    def __init__(self, objects: list[dict[str, Any]], events: list[dict[str, Any]]) -> None:
        self.objects = objects
        self.events = events
        self.lists = 0

    async def list_page(
        self, resource: Resource, namespace: str | None, query: Mapping[str, str]
    ) -> dict[str, Any]:
        await asyncio.sleep(0.01)
        self.lists += 1
        return {"metadata": {"resourceVersion": "1"}, "items": self.objects}

    @asynccontextmanager
    async def watch(
        self, resource: Resource, namespace: str | None, query: Mapping[str, str], seconds: float
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        async def events() -> AsyncIterator[dict[str, Any]]:
            for raw in self.events:
                yield {"type": "MODIFIED", "object": raw}
            self.events = []
            await asyncio.sleep(seconds)

        yield events()


class Numbers:
    """A sink that believes that values are whole numbers."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def upsert(self, raw: dict[str, Any]) -> None:
        self.known[raw["metadata"]["name"]] = int(raw["value"])

    def delete(self, raw: dict[str, Any]) -> None:
        self.known.pop(raw["metadata"]["name"], None)

    def keep(self, namespace: str | None, names: Set[Name]) -> None:
        self.known = {name: v for name, v in self.known.items() if ("team", name) in names}


def counted(metrics: Metrics, kind: str) -> float:
    return metrics.registry.get_sample_value("kubesynth_unreadable_total", {"kind": kind}) or 0


def test_an_object_that_cannot_be_read_stops_no_watch() -> None:
    odd = an_object("odd", "2", value="x")
    server = Server([odd, an_object("a", "3")], [an_object("a", "4", "no"), an_object("b", "5")])
    numbers, metrics = Numbers(), Metrics()

    async def main() -> None:
        watch = Watch(
            cast(KubeClient, server),
            Scope(PODS, None, ""),
            numbers,
            Feedback(lambda: None, Unreadable(metrics)),
        )
        task = asyncio.create_task(watch.run())
        await asyncio.sleep(60)
        assert not task.done()
        assert watch.synced.is_set()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    virtual_time.run(main())
    assert numbers.known == {"a": 1, "b": 1}, "what was understood last is kept"
    assert counted(metrics, "pods") == 2


def test_it_is_told_once_for_each_version(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    unreadable = Unreadable(metrics)

    def read(value: str, version: str) -> None:
        with unreadable.left_out("pods", "team/odd", version):
            int(value)

    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            read("x", "1")
        assert counted(metrics, "pods") == len(caplog.records) == 1
        read("y", "2")
        assert counted(metrics, "pods") == 2
        read("3", "3")
        read("x", "3")
    assert counted(metrics, "pods") == len(caplog.records) == 3
    assert caplog.records[0].__dict__["object"] == "team/odd"
    assert caplog.records[0].exc_info, "it may be our own mistake"


def test_what_is_no_matter_of_data_is_raised() -> None:
    with pytest.raises(AssertionError), Unreadable(Metrics()).left_out("pods", "team/odd", "1"):
        raise AssertionError("a bug")


def test_memory_of_what_was_told_is_bounded() -> None:
    metrics = Metrics()
    unreadable = Unreadable(metrics)
    for number in range(5000):
        with unreadable.left_out("pods", f"team/{number}", "1"):
            raise ValueError(number)
    assert counted(metrics, "pods") == 5000
    assert len(unreadable._told) <= 2000


@pytest.mark.parametrize("models", [{}, {"x": {"concurrency": 1}}], ids=["none", "another"])
def test_a_pod_that_does_not_speak_of_a_role_may_be_using_all_of_it(models: dict[str, Any]) -> None:
    first = InitialShare(parallelism=2, models={"g": ModelShare(concurrency=5)})
    limits = {"g.concurrency": 10, "g.requests": UNLIMITED, "g.tokens": UNLIMITED}
    terms = Terms(limits, CapShare(), first, shards=2, slots=2, wanted_slots=2, remaining=2)
    book = JobLeases(terms, fresh=True)
    book.see([LivePod("odd", 0, new=False), LivePod("good", 1, new=True)])
    book.forget_answers()
    report = {"lease": {"generation": 0, "models": models}}
    book.answered("odd", LeaseReport.model_validate(report))
    own = {"lease": {"generation": 0, "models": {"g": {"concurrency": 1}}}}
    book.answered("good", LeaseReport.model_validate(own))
    [offer] = book.reductions()
    assert offer.uid == "odd"
    assert offer.lease.models["g"].concurrency == 5
    assert book.grants() == [], "nothing is free as long as it has not said that it gives back"
