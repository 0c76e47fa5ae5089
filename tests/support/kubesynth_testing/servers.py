"""Builds and fetches the servers of the integration tests: `python -m kubesynth_testing.servers`.

A test that is the first to want one would do it too, and might run out of its time: they take
minutes where nothing is cached and other tests want the same cores.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kubesynth_runner.embedded import weights
from kubesynth_runner.errors import ConfigurationError
from kubesynth_testing import object_store_programs
from kubesynth_testing.cluster import addons, binaries, recipe
from kubesynth_testing.cluster.progress import say, step
from kubesynth_testing.cluster.shell import CommandError
from kubesynth_testing.triton import environment


def control_plane() -> None:
    """Build the API server with its controllers, helm, and what is added to clusters."""
    binaries.ensure((*recipe.CONTROL_PLANE, "helm"))
    addons.ensure_all()


def embedded_model() -> None:
    """Pull the weights of the small language model."""
    weights.pull(weights.model_folder())


SERVERS: Mapping[str, Callable[[], Any]] = {
    "control plane": control_plane,
    "embedded model": embedded_model,
    "Triton": environment.python,
    "Azurite": object_store_programs.azurite,
    "versitygw": object_store_programs.versitygw,
}


def prepare(servers: Mapping[str, Callable[[], Any]]) -> list[str]:
    """Build and fetch what is missing, all at once; return what went wrong, by server."""
    with ThreadPoolExecutor(len(servers)) as pool:  # most of them wait for the network
        wanted = {name: pool.submit(_attempt, name, get) for name, get in servers.items()}
    return [f"{name}: {found}" for name, future in wanted.items() if (found := future.result())]


def _attempt(name: str, get: Callable[[], Any]) -> str:
    """Return why a server is not there; nothing if it is, or if its tests can do without."""
    try:
        with step(f"prepare {name}"):
            get()
    except environment.NoPythonError:
        return ""  # what needs it is skipped, and says so
    except (
        CommandError,
        ConfigurationError,
        OSError,
        binaries.MissingToolchainError,
        subprocess.CalledProcessError,
    ) as error:
        return str(error)
    return ""


def main() -> int:
    """Prepare all servers, and fail if one cannot be had."""
    failures = prepare(SERVERS)
    for failure in failures:
        say(failure)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
