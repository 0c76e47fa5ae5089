"""Test sessions that share one cluster: the last of them takes it down, if a session made it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kubesynth_testing.cluster import kind, paths
from kubesynth_testing.cluster.kind import Cluster
from kubesynth_testing.cluster.progress import say


def _mark() -> Path:
    """Return the file that says that a test session made the running cluster."""
    return paths.cache_folder("cluster") / "made-by-tests"


def adopt() -> None:
    """Keep the running cluster after the sessions that use it: a person asked for it."""
    _mark().unlink(missing_ok=True)


def start() -> Cluster:
    """Make the cluster for sessions, of which the last takes it down, or find that it runs."""
    if kind.find() is None:
        _mark().touch()
    return kind.up()


@contextmanager
def use_cluster(*, keep: bool) -> Iterator[Cluster]:
    """Hold a cluster, made if none runs.

    Every session holds a shared lock meanwhile. At its end each tries for the exclusive one: who
    gets it was the last, and deletes a cluster that a session made.

    Args:
        keep: Leave the cluster running in any case.
    """
    path = paths.cache_folder("cluster") / "in-use.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield kind.up() if keep else start()
        if _mark().exists() and not keep and _is_last(descriptor):
            kind.down()
            adopt()
    finally:
        os.close(descriptor)


def _is_last(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("another session uses the cluster: it is left running")
        return False
    return True
