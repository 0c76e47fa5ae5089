"""What the vLLM class starts on several nodes, run by a real shell.

`ray`, `vllm` and Ray's Python API are stand-ins that say how they were called. What is shown is
that the leader waits for every node before it serves, and that a worker waits for its leader before
it joins.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubesynth_api.v1alpha1.server_classes import ServerClassSpec
from kubesynth_operator.servers import manifests
from kubesynth_testing.cluster import paths
from kubesynth_testing.server_builders import a_server

RAY_MODULE = """
import os, pathlib
_asked = pathlib.Path(os.environ["SCRATCH"], "asked")
def init(**options):
    assert options["address"] == "auto", options
def nodes():
    asked = int(_asked.read_text()) if _asked.exists() else 0
    _asked.write_text(str(asked + 1))
    # The second node comes a little later, and a third was there before and is gone.
    return [{"Alive": True}, {"Alive": asked > 0}, {"Alive": False}]
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Make a folder with stand-ins that print their names and arguments."""
    for name in ("ray", "vllm"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho {name} "$@"\n')
        program.chmod(0o755)
    sleep = tmp_path / "sleep"
    sleep.symlink_to(shutil.which("true") or "/bin/true")
    (tmp_path / "ray.py").write_text(RAY_MODULE)
    return tmp_path


def container(role: str, **server: Any) -> dict[str, Any]:
    text = (paths.REPOSITORY / "helm/kubesynth/classes/vllm.yaml").read_text()
    manifest = manifests.workload(
        a_server(nodes=2, gpus=8, **server),
        ServerClassSpec.model_validate(yaml.safe_load(text)),
        replicas=1,
        strategy="OneByOne",
        secret_version="",
    )
    template = manifest["spec"]["leaderWorkerTemplate"][f"{role}Template"]
    [found] = template["spec"]["containers"]
    return dict(found)


def run(container: dict[str, Any], programs: Path, **variables: str) -> list[str]:
    environment = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    environment |= {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(programs),
        "SCRATCH": str(programs),
        **variables,
    }
    done = subprocess.run(
        [*container["command"], *container.get("args", ())],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.splitlines()


def test_the_leader_serves_when_every_node_has_joined(programs: Path) -> None:
    said = run(container("leader", revision="r1", args=["--max-model-len=8192"]), programs)
    assert said[:3] == [
        "ray start --head --port=6379 --disable-usage-stats",
        "1 of 2 nodes have joined",
        "2 of 2 nodes have joined",
    ]
    [serve] = said[3:]
    words = serve.split()
    assert words[:3] == ["vllm", "serve", "small"]
    assert {
        "--tensor-parallel-size=8",
        "--pipeline-parallel-size=2",
        "--distributed-executor-backend=ray",
        "--revision=r1",
        "--max-model-len=8192",
    } <= set(words)


@pytest.fixture
def late_leader() -> Iterator[str]:
    """Listen on Ray's port of a loopback address of its own, a moment after it was asked for."""
    address = f"127.0.{os.getpid() % 250 + 1}.9"
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, 6379))
        timer = threading.Timer(0.5, listener.listen)
        timer.start()
        yield address
        timer.join()


def test_a_worker_joins_its_leader_as_soon_as_it_is_there(programs: Path, late_leader: str) -> None:
    said = run(container("worker"), programs, LWS_LEADER_ADDRESS=late_leader)
    waiting = f"waiting for {late_leader}:6379"
    assert said[0] == waiting
    assert set(said[:-1]) == {waiting}
    joined = f"ray start --address={late_leader}:6379 --disable-usage-stats --block"
    assert said[-1] == joined
