"""pytest fixtures and hooks for tests on a real cluster; tests/cluster/conftest.py imports them.

A cluster comes from one of two places:

- `KUBECONFIG` and `KUBESYNTH_IMAGE_LOADER`, a command such as `kind load docker-image {image}`: an
  existing cluster is used, and left as it is but for the namespaces that a failed run may leave.
- Otherwise kind, with the user's Docker daemon or, for root, one that the harness starts. A cluster
  that `make cluster-up` made is used and kept; one that a session made is deleted by the last
  session that uses it, unless `KUBESYNTH_KEEP_CLUSTER=1`.

Where neither can be had, the tests of the cluster are deselected, and a line says what to do.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import pytest

from kubesynth_testing.cluster import (
    binaries,
    docker_daemon,
    host,
    images,
    kind,
    sessions,
    shared_volumes,
)
from kubesynth_testing.cluster.kind import Cluster
from kubesynth_testing.cluster.shell import Shell

_DEFAULT_TIMEOUT_SECONDS = 300.0

_HOW_TO_GET_A_CLUSTER = (
    "cluster tests deselected: no Docker daemon answers and this is not root. Start Docker, or set "
    "KUBECONFIG and KUBESYNTH_IMAGE_LOADER='kind load docker-image {image}' for a cluster of yours."
)


class Source(StrEnum):
    """Where the cluster of a session comes from."""

    EXISTING = "existing"
    KIND = "kind"


def cluster_source() -> Source | None:
    """Return where a cluster can be had, None if nowhere."""
    if os.environ.get("KUBECONFIG") and os.environ.get("KUBESYNTH_IMAGE_LOADER"):
        return Source.EXISTING
    if host.is_root() or docker_daemon.find() is not None:
        return Source.KIND
    return None


def select_cluster_tests(config: pytest.Config, items: list[pytest.Item], folder: Path) -> None:
    """Deselect the tests below a folder that no cluster can be had for.

    The time that a test may take starts with its body: the first one would otherwise pay for
    building the cluster.
    """
    tests = [item for item in items if item.path.is_relative_to(folder)]
    source = cluster_source() if tests else None
    dropped = [item for item in tests if source is None or _needs_other(item, source)]
    if source is None and tests:
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(_HOW_TO_GET_A_CLUSTER, yellow=True)
    for item in tests:
        own = item.get_closest_marker("timeout")
        seconds = own.args[0] if own is not None and own.args else _DEFAULT_TIMEOUT_SECONDS
        item.add_marker(pytest.mark.timeout(seconds, func_only=True), append=False)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in dropped]


def _needs_other(item: pytest.Item, source: Source) -> bool:
    """Tell whether a test is about the harness's own cluster while another is used."""
    names: list[str] = getattr(item, "fixturenames", [])
    return source is Source.EXISTING and "kind_cluster" in names


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running cluster, one for the whole session."""
    if cluster_source() is Source.EXISTING:
        yield Cluster(Path(os.environ["KUBECONFIG"]), binaries.ensure(["kubectl"]) / "kubectl")
        return
    keep = os.environ.get("KUBESYNTH_KEEP_CLUSTER") == "1"
    with sessions.use_cluster(keep=keep) as running:
        yield running


@pytest.fixture(scope="session")
def kind_cluster(cluster: Cluster) -> Cluster:
    """The harness's own cluster, for tests that make no sense on another one."""
    return cluster


@pytest.fixture(scope="session")
def project_images(cluster: Cluster) -> dict[str, str]:
    """The project's image with no extras and with `local`, built and loaded: names by extras."""
    docker = docker_daemon.connect()
    names = images.build_for_tests(docker)
    if cluster_source() is Source.KIND:
        kind.load_missing_images(docker, *names.values())
        return names
    for name in names.values():
        loader = os.environ["KUBESYNTH_IMAGE_LOADER"]
        Shell(env=docker.env).run(*shlex.split(loader.replace("{image}", name)))
    return names


@pytest.fixture(scope="session")
def project_image(project_images: dict[str, str]) -> str:
    """The project's image, built from this checkout and loaded into the cluster: its name."""
    return project_images[""]


@pytest.fixture(scope="session")
def project_image_with_model(project_images: dict[str, str]) -> str:
    """The project's image with the extra `local`: it can serve the embedded model."""
    return project_images["local"]


@pytest.fixture(scope="session")
def shared_storage_class(cluster: Cluster) -> str:
    """A StorageClass with ReadWriteMany volumes; `KUBESYNTH_SHARED_STORAGE_CLASS` names another."""
    if cluster_source() is Source.KIND:
        kind.provide_volumes(docker_daemon.connect(), cluster)
    return os.environ.get("KUBESYNTH_SHARED_STORAGE_CLASS", shared_volumes.STORAGE_CLASS)
