"""The chart in the hands of the real helm, and of a real API server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

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

    def rendered(*values: str) -> list[dict[str, Any]]:
        text = offline_helm("template", "kubesynth", chart, *(f"--set={value}" for value in values))
        return [manifest for manifest in yaml.safe_load_all(text) if manifest]

    return rendered


@pytest.fixture(scope="session")
def api_server() -> Iterator[ApiServer]:
    """An API server with its controllers, so that Deployments make pods and roles aggregate."""
    with ApiServer.start(controllers=True) as server:
        yield server
