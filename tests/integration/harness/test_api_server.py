"""The bare API server is a real one, and is gone when its block ends."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from kubesynth_testing.apiserver import ApiServer
from kubesynth_testing.cluster.shell import CommandError

JOB = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "shards"},
    "spec": {
        "template": {
            "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "none"}]}
        }
    },
}


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    with ApiServer.start(controllers=True) as running:
        yield running


def test_controllers_make_pods_and_collect_garbage(server: ApiServer) -> None:
    server.kubectl("create", "-f", "-", stdin=json.dumps(JOB))
    pods = ("pods", "-l", "batch.kubernetes.io/job-name=shards")
    server.kubectl("wait", "--for=create", *pods, "--timeout=30s")
    server.kubectl("delete", "job", "shards", "--cascade=background")
    server.kubectl("wait", "--for=delete", *pods, "--timeout=30s")


def test_service_account_may_do_what_rbac_grants(server: ApiServer) -> None:
    server.kubectl("create", "serviceaccount", "reader")
    kubeconfig = server.service_account_kubeconfig("default", "reader")
    ask = ("--kubeconfig", kubeconfig, "get", "secrets")
    with pytest.raises(CommandError, match="Forbidden"):
        server.kubectl(*ask)
    server.kubectl("create", "role", "reads", "--verb=list", "--resource=secrets")
    server.kubectl(
        *("create", "rolebinding", "reads", "--role=reads"), "--serviceaccount=default:reader"
    )
    server.kubectl(*ask)


def test_nothing_of_it_is_left_afterwards() -> None:
    with ApiServer.start() as server:
        folder = server.folder
        assert "default" in server.kubectl("get", "namespaces")
    assert not folder.exists()
    commands = [
        os.path.join("/proc", pid, "cmdline") for pid in os.listdir("/proc") if pid.isdigit()
    ]
    assert not any(str(folder).encode() in _content(path) for path in commands)


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
