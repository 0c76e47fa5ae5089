"""What the vLLM class starts on several nodes, run by a real shell.

`vllm` is a stand-in that says how it was called, and ends when it is told to. What is shown is that
a worker waits for its leader before it joins, gets the arguments that the leader gets, and stops
only when the leader does.
"""

from __future__ import annotations

import os
import signal
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

PORT_FOR_NODES = 29501
VLLM = """#!/bin/sh
echo vllm "$@"
case "$*" in *--headless*) ;; *) exit ;; esac
trap 'echo stopped; exit 7' TERM
while :; do sleep 0.05; done
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Make a folder with a vLLM that says how it was called, and short sleeps."""
    scripts = {"vllm": VLLM, "sleep": "#!/bin/sh\nexec /bin/sleep 0.05\n"}
    for name, script in scripts.items():
        program = tmp_path / name
        program.write_text(script)
        program.chmod(0o755)
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


def start(container: dict[str, Any], programs: Path, **variables: str) -> subprocess.Popen[str]:
    """Start a container's process, with variables in its arguments as the kubelet puts them."""
    environment = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    environment |= variables
    arguments = [*container["command"], *container["args"]]
    for name, value in environment.items():
        arguments = [argument.replace(f"$({name})", value) for argument in arguments]
    environment["PATH"] = f"{programs}:{os.environ['PATH']}"
    return subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_the_leader_serves_as_the_first_of_the_nodes(programs: Path) -> None:
    leader = container("leader", revision="r1", args=["--max-model-len=8192"])
    said, _ = start(leader, programs, LWS_WORKER_INDEX="0").communicate(timeout=60)
    [words] = [line.split() for line in said.splitlines()]
    assert words[:3] == ["vllm", "serve", "small"]
    assert {
        "--tensor-parallel-size=8",
        "--pipeline-parallel-size=2",
        "--nnodes=2",
        "--node-rank=0",
        "--revision=r1",
        "--max-model-len=8192",
    } <= set(words)
    assert "--headless" not in words


class Leader:
    """A leader at a loopback address of its own: its port for nodes, and that of its API."""

    def __init__(self, api_port: int) -> None:
        self.address = f"127.0.{os.getpid() % 250 + 1}.9"
        self.nodes, self.api = (self._bind(port) for port in (PORT_FOR_NODES, api_port))

    def _bind(self, port: int) -> socket.socket:
        found = socket.socket()
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((self.address, port))
        return found


@pytest.fixture
def leader() -> Iterator[Leader]:
    """Bind a leader's ports; nothing listens there yet."""
    found = Leader(container("leader")["ports"][0]["containerPort"])
    with found.nodes, found.api:
        yield found


def test_a_worker_joins_when_its_leader_is_there_and_stops_after_it(
    programs: Path, leader: Leader
) -> None:
    worker = container("worker", args=["--max-model-len=8192"])
    variables = {"LWS_LEADER_ADDRESS": leader.address, "LWS_WORKER_INDEX": "1"}
    with start(worker, programs, **variables) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"waiting for {leader.address}:{PORT_FOR_NODES}\n"
        leader.api.listen()
        leader.nodes.listen()
        lines = iter(process.stdout.readline, "")
        words = next(line for line in lines if line.startswith("vllm")).split()
        assert words[:3] == ["vllm", "serve", "small"]
        own = {"--node-rank=1", f"--master-addr={leader.address}", "--headless", "--nnodes=2"}
        assert own | {"--tensor-parallel-size=8", "--max-model-len=8192"} <= set(words)

        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)  # the leader still serves
        threading.Timer(0.1, leader.api.close).start()
        assert next(lines) == "stopped\n"
        assert process.wait(10) == 7


def test_a_worker_that_waits_for_its_leader_stops_at_once(programs: Path, leader: Leader) -> None:
    variables = {"LWS_LEADER_ADDRESS": leader.address, "LWS_WORKER_INDEX": "1"}
    with start(container("worker"), programs, **variables) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("waiting for")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 143
