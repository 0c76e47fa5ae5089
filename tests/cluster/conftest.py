"""Tests on a real Kubernetes; docs/contributing-cluster.md tells where it comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubesynth_testing.cluster import fixtures
from kubesynth_testing.cluster.fixtures import (
    cluster,
    kind_cluster,
    project_image,
    project_image_with_model,
    project_images,
    shared_storage_class,
)
from kubesynth_testing.scenarios import stage as stages
from kubesynth_testing.scenarios.stage import evidence, stage, world

__all__ = [
    "cluster",
    "evidence",
    "kind_cluster",
    "project_image",
    "project_image_with_model",
    "project_images",
    "shared_storage_class",
    "stage",
    "world",
]


def pytest_configure(config: pytest.Config) -> None:
    stages.add_mark(config)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    fixtures.select_cluster_tests(config, items, Path(__file__).parent)
    for item in items:
        # The first test to want a scenario's evidence waits for the whole of it, and scenarios
        # share the cores of a small machine with each other and with a language model.
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(2400))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    stages.show_times(terminalreporter)
