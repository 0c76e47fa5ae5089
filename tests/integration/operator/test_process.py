"""The real process: Kopf's watch, permissions of a Role, probes, signals and leader election."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_operator.kube.resources import LEASES
from kubesynth_testing.apiserver import ApiServer
from kubesynth_testing.operator_harness import Namespace, eventually, run_message

# What the operator needs in a namespace, and nothing more; the chart grants the same.
RULES: list[dict[str, Any]] = [
    {
        "apiGroups": ["kubesynth.io"],
        "resources": ["syntheticdatajobs"],
        "verbs": ["get", "list", "watch", "delete"],
    },
    {
        "apiGroups": ["kubesynth.io"],
        "resources": ["syntheticdatajobs/status"],
        "verbs": ["get", "update"],
    },
    {
        "apiGroups": ["kubesynth.io"],
        "resources": ["syntheticdatajobs/finalizers"],
        "verbs": ["update"],
    },
    {
        "apiGroups": ["kubesynth.io"],
        "resources": ["modelservers"],
        "verbs": ["get", "list", "watch", "create", "delete"],
    },
    {
        "apiGroups": ["kubesynth.io"],
        "resources": ["modelserverclasses"],
        "verbs": ["get", "list", "watch", "create"],
    },
    {
        "apiGroups": ["apps"],
        "resources": ["deployments"],
        "verbs": ["get", "list", "watch", "create", "patch"],
    },
    {
        "apiGroups": [""],
        "resources": ["services"],
        "verbs": ["get", "list", "watch", "create", "patch"],
    },
    {
        "apiGroups": ["batch"],
        "resources": ["jobs"],
        "verbs": ["get", "list", "watch", "create", "patch", "delete"],
    },
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create"]},
    {
        "apiGroups": [""],
        "resources": ["persistentvolumeclaims"],
        "verbs": ["get"],
    },
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "create"]},
    {
        "apiGroups": ["networking.k8s.io"],
        "resources": ["networkpolicies"],
        "verbs": ["get", "create", "patch"],
    },
    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
    {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "verbs": ["get", "create", "update"],
    },
]


def permissions(namespace: str) -> str:
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "List",
            "items": [
                {
                    "apiVersion": "v1",
                    "kind": "ServiceAccount",
                    "metadata": {"name": "operator", "namespace": namespace},
                },
                {
                    "apiVersion": "rbac.authorization.k8s.io/v1",
                    "kind": "Role",
                    "metadata": {"name": "operator", "namespace": namespace},
                    "rules": RULES,
                },
                {
                    "apiVersion": "rbac.authorization.k8s.io/v1",
                    "kind": "RoleBinding",
                    "metadata": {"name": "operator", "namespace": namespace},
                    "roleRef": {
                        "apiGroup": "rbac.authorization.k8s.io",
                        "kind": "Role",
                        "name": "operator",
                    },
                    "subjects": [
                        {"kind": "ServiceAccount", "name": "operator", "namespace": namespace}
                    ],
                },
            ],
        }
    )


class Process:
    """One operator process and its log."""

    def __init__(self, popen: subprocess.Popen[bytes], log: Path, port: int) -> None:
        self.popen = popen
        self.log = log
        self.port = port

    async def answers(self, path: str, status: int) -> bool:
        """Tell whether a probe answers with this status now."""
        try:
            return (await self._get(path))[0] == status
        except aiohttp.ClientError:
            return False

    async def body(self, path: str) -> str:
        return (await self._get(path))[1]

    async def _get(self, path: str) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.port}{path}"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status, await response.text()

    async def until_ready(self) -> None:
        async def look() -> bool:
            assert self.popen.poll() is None, self.log.read_text()[-3000:]
            return await self.answers("/readyz", 200)

        await eventually(look, "the operator is ready")

    async def until_exit(self) -> int:
        async def look() -> tuple[int] | None:
            code = self.popen.poll()
            return None if code is None else (code,)

        return (await eventually(look, "the operator exits"))[0]


@contextmanager
def operator_process(
    kubeconfig: Path, namespace: str, folder: Path, name: str = "operator-0", **extra: str
) -> Iterator[Process]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / f"{name}.log"
    environment = {
        **os.environ,
        "KUBECONFIG": str(kubeconfig),
        "KUBESYNTH_RUNNER_IMAGE": "kubesynth:test",
        "KUBESYNTH_NAMESPACES": namespace,
        "KUBESYNTH_OPERATOR_NAMESPACE": namespace,
        "KUBESYNTH_HTTP_PORT": str(port),
        "POD_NAME": name,
        **extra,
    }
    with log.open("wb") as output:
        popen = subprocess.Popen(
            [sys.executable, "-m", "kubesynth_operator"], env=environment, stderr=output
        )
    try:
        yield Process(popen, log, port)
    finally:
        popen.kill()
        popen.wait()


def role_kubeconfig(api_server: ApiServer, namespace: str) -> Path:
    api_server.kubectl("apply", "-f", "-", stdin=permissions(namespace))
    return api_server.service_account_kubeconfig(namespace, "operator")


async def test_the_process_works_under_a_role_alone_and_ends_on_sigterm(
    api_server: ApiServer, namespace: Namespace, tmp_path: Path
) -> None:
    kubeconfig = role_kubeconfig(api_server, namespace.name)
    with operator_process(kubeconfig, namespace.name, tmp_path) as process:
        await process.until_ready()
        await namespace.apply()
        before = (await namespace.job())["metadata"]
        await namespace.play("qa-generate", message=run_message(RunnerPhase.ALL))
        await namespace.until("Complete", "True")
        metadata = (await namespace.job())["metadata"]
        for field in ("annotations", "finalizers", "labels"):
            assert metadata.get(field) == before.get(field), "Kopf wrote to the user's object"
        assert await process.answers("/healthz", 200)

        async def counted() -> str | None:
            metrics = await process.body("/metrics")
            return metrics if 'kubesynth_job_phase{phase="Complete"} 1.0' in metrics else None

        # The status is written first.
        metrics = await eventually(counted, "the job is counted as complete")
        assert 'kubesynth_status_writes_total{cause="transition"}' in metrics
        await namespace.delete()
        process.popen.send_signal(signal.SIGTERM)
        assert await process.until_exit() == 0
        log = process.log.read_text()
        assert "Traceback" not in log, log[-3000:]
        assert "orbidden" not in log, log[-3000:]
    assert all(json.loads(line)["level"] for line in log.splitlines()), "logs are JSON"


async def test_a_namespace_without_a_role_stops_no_other(
    api_server: ApiServer, namespace: Namespace, tmp_path: Path
) -> None:
    kubeconfig = role_kubeconfig(api_server, namespace.name)
    # It is the first one, and does not even exist: so it looks when a namespace was deleted.
    both = {"KUBESYNTH_NAMESPACES": f"gone,{namespace.name}"}
    with operator_process(kubeconfig, namespace.name, tmp_path, **both) as process:
        await process.until_ready()
        await namespace.apply()
        await namespace.play("qa-generate", message=run_message(RunnerPhase.ALL))
        await namespace.until("Complete", "True")
        assert await process.answers("/healthz", 200)
        denied = 'kubesynth_watch_denied{namespace="gone",resource="pods"} 1.0'
        assert denied in await process.body("/metrics")


async def test_a_killed_process_is_followed_by_one_that_goes_on(
    api_server: ApiServer, namespace: Namespace, tmp_path: Path
) -> None:
    kubeconfig = role_kubeconfig(api_server, namespace.name)
    with operator_process(kubeconfig, namespace.name, tmp_path) as process:
        await process.until_ready()
        await namespace.apply()
        await namespace.until("Running", "True", "ShardsActive")
        process.popen.kill()
    await namespace.play("qa-generate", message=run_message(RunnerPhase.ALL))
    with operator_process(kubeconfig, namespace.name, tmp_path) as process:
        await namespace.until("Complete", "True")


async def test_a_standby_ends_on_sigterm_without_having_led(
    api_server: ApiServer, namespace: Namespace, tmp_path: Path
) -> None:
    kubeconfig = role_kubeconfig(api_server, namespace.name)
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "a-release"},
        "spec": {"holderIdentity": "somebody", "leaseDurationSeconds": 3600},
    }
    await namespace.client.create(LEASES, namespace.name, lease)
    election = {"KUBESYNTH_LEADER_ELECTION": "true", "KUBESYNTH_LEASE_NAME": "a-release"}
    with operator_process(kubeconfig, namespace.name, tmp_path, **election) as process:
        await process.until_ready()
        process.popen.send_signal(signal.SIGTERM)
        assert await process.until_exit() == 0
    [found] = await namespace.objects(LEASES)
    assert found["spec"]["holderIdentity"] == "somebody"


async def test_of_two_replicas_one_works_and_the_other_takes_over(
    api_server: ApiServer, namespace: Namespace, tmp_path: Path
) -> None:
    kubeconfig = role_kubeconfig(api_server, namespace.name)
    election = {"KUBESYNTH_LEADER_ELECTION": "true"}

    async def holder() -> str:
        lease = await namespace.client.get(LEASES, namespace.name, "kubesynth-operator")
        return str(lease["spec"]["holderIdentity"])

    async def leads(name: str) -> bool:
        return await holder() == name

    with operator_process(kubeconfig, namespace.name, tmp_path, "first", **election) as first:
        await first.until_ready()

        async def first_leads() -> bool:
            return bool(await namespace.objects(LEASES)) and await leads("first")

        await eventually(first_leads, "the first replica leads")
        with operator_process(kubeconfig, namespace.name, tmp_path, "second", **election) as second:
            await second.until_ready()
            await asyncio.sleep(1)
            assert "kubesynth_leader 0.0" in await second.body("/metrics")
            first.popen.send_signal(signal.SIGTERM)
            assert await first.until_exit() == 0

            async def second_leads() -> bool:
                return await leads("second")

            await eventually(second_leads, "the second replica takes over", seconds=10)
            await namespace.apply()
            await namespace.play("qa-generate", message=run_message(RunnerPhase.ALL))
            await namespace.until("Complete", "True")
