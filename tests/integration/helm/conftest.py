"""The chart in the hands of the real helm, and of a real API server."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kubesynth_testing import yaml_files
from kubesynth_testing.apiserver import ApiServer
from kubesynth_testing.cluster import binaries
from kubesynth_testing.cluster.paths import REPOSITORY
from kubesynth_testing.cluster.runners import Runner

NAMESPACE = "kubesynth-system"


@pytest.fixture(scope="session")
def chart() -> Path:
    return REPOSITORY / "helm" / "kubesynth"


@pytest.fixture(scope="session")
def offline_helm(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """A helm that has no cluster to ask."""
    nowhere = tmp_path_factory.mktemp("helm") / "kubeconfig"
    return Runner(binaries.ensure(["helm"]) / "helm", nowhere, NAMESPACE)


@pytest.fixture(scope="session")
def render(offline_helm: Runner, chart: Path) -> Callable[..., list[dict[str, Any]]]:
    """Renders the chart with values such as `replicas=2`."""

    @functools.cache
    def text(*values: str) -> str:
        return offline_helm("template", "kubesynth", chart, *(f"--set={value}" for value in values))

    return lambda *values: yaml_files.load_all(text(*values))


@pytest.fixture(scope="package")
def api_server() -> Iterator[ApiServer]:
    """An API server with its controllers, so that Deployments make pods and roles aggregate."""
    with ApiServer.start(controllers=True) as server:
        yield server
