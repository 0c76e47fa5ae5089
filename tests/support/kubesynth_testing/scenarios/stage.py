"""Runs scenarios beside each other, and hands what they saw to the tests.

A test on a cluster mostly waits. So what happens on the cluster is told in scenarios, functions
that take the `World` and return evidence, and several run beside each other, the longest first; the
tests are assertions on the evidence, each on one thing:

    def suspended_and_resumed(world: World) -> Resumed: ...

    @seen_in(suspended_and_resumed)
    def test_resume_repeats_no_call(evidence: Resumed) -> None:
        assert evidence.repeated_calls == 0

A scenario that raises fails every test that wants its evidence.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import pytest

from kubesynth_testing.cluster.kind import Cluster
from kubesynth_testing.cluster.progress import say
from kubesynth_testing.scenarios import api
from kubesynth_testing.scenarios.release import release
from kubesynth_testing.scenarios.world import RESTRICTED, World

MARK = "scenario"
OPERATOR_NAMESPACE = "kubesynth-system"
_WORKERS = 5

Scenario = Callable[[World], Any]
ScenarioT = TypeVar("ScenarioT", bound=Scenario)

_long: set[Scenario] = set()

# (begin, end) of each scenario that was played, in seconds since the first one began.
_played: dict[str, tuple[float, float]] = {}


def seen_in(scenario: Scenario) -> pytest.MarkDecorator:
    """Mark a test as one that judges what a scenario saw."""
    # A plain call would take the scenario for what is to be marked.
    mark: pytest.MarkDecorator = getattr(pytest.mark, MARK)
    return mark.with_args(scenario)


def takes_long(scenario: ScenarioT) -> ScenarioT:
    """Mark a scenario as one to begin with: begun last, it would be at work all by itself."""
    _long.add(scenario)
    return scenario


class Stage:
    """The scenarios of a run; each runs once, however many tests want its evidence."""

    def __init__(self, world: World, scenarios: Iterable[Scenario]) -> None:
        self._world = world
        self._began = time.monotonic()
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="scenario")
        self._futures: dict[Scenario, Future[Any]] = {
            scenario: self._pool.submit(self._play, scenario)
            for scenario in sorted(scenarios, key=lambda each: each not in _long)
        }

    def evidence(self, scenario: Scenario) -> Any:
        """Wait for a scenario and return what it saw; raise what it raised."""
        return self._futures[scenario].result()

    def close(self) -> None:
        """Wait for what is under way; begin nothing more."""
        self._pool.shutdown(cancel_futures=True)

    def _play(self, scenario: Scenario) -> Any:
        began = time.monotonic() - self._began
        try:
            return scenario(self._world)
        finally:
            ended = time.monotonic() - self._began
            _played[scenario.__name__] = (began, ended)
            say(f"scenario {scenario.__name__}: {ended - began:.1f} s")


def add_mark(config: pytest.Config) -> None:
    """Make the mark known to pytest."""
    config.addinivalue_line("markers", f"{MARK}(function): the test judges what this scenario saw")


def show_times(reporter: pytest.TerminalReporter) -> None:
    """Print when each scenario began and ended, the longest first."""
    if _played:
        reporter.section("scenarios")
    for name, (began, ended) in sorted(_played.items(), key=lambda item: item[1][0] - item[1][1]):
        reporter.write_line(f"{ended - began:6.0f} s  from {began:5.0f} to {ended:5.0f}  {name}")


@pytest.fixture(scope="session")
def world(
    cluster: Cluster,
    project_image: str,
    project_image_with_model: str,
    shared_storage_class: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    """The cluster with the operator at work, installed as users install it."""
    operator = release(cluster, OPERATOR_NAMESPACE, project_image)
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": OPERATOR_NAMESPACE, "labels": RESTRICTED},
    }
    operator.kubectl.apply(namespace)
    operator.install()
    images = (project_image, project_image_with_model)
    with api.serve(cluster, tmp_path_factory.mktemp("api") / "proxy.log") as served:
        yield World(cluster, *images, shared_storage_class, operator, served)
    operator.uninstall()
    operator.kubectl("delete", "namespace", OPERATOR_NAMESPACE, "--wait=false")


@pytest.fixture(scope="session")
def stage(world: World, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Every scenario that a selected test is marked with, under way."""
    marks = (item.get_closest_marker(MARK) for item in request.session.items)
    wanted = dict.fromkeys(mark.args[0] for mark in marks if mark is not None)
    under_way = Stage(world, wanted)
    yield under_way
    under_way.close()


@pytest.fixture
def evidence(stage: Stage, request: pytest.FixtureRequest) -> Any:
    """What the scenario of this test saw."""
    mark = request.node.get_closest_marker(MARK)
    if mark is None:
        raise pytest.UsageError(f"{request.node.nodeid} wants evidence, but has no scenario")
    return stage.evidence(mark.args[0])
