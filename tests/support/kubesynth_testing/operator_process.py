"""The operator as a process of its own, with the rights of a Role alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from kubesynth_testing.apiserver import ApiServer
from kubesynth_testing.operator_harness import eventually
from kubesynth_testing.ports import free_port

# A user whom a platform chose has no name, and whoever asks for it gets an error.
_NAMES_OF_USERS = ("LOGNAME", "USER", "LNAME", "USERNAME")
_AS_A_NAMELESS_USER = """
import pwd

def unknown(uid):
    raise KeyError(uid)

pwd.getpwuid = unknown
from kubesynth_operator.__main__ import main
raise SystemExit(main())
"""
# What the operator needs in a namespace, and nothing more. A test of the chart sees to it that it
# grants the same.
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
        "resources": ["modelservers/status"],
        "verbs": ["get", "update"],
    },
    {
        "apiGroups": ["kubesynth.io"],
        "resources": ["modelservers/finalizers"],
        "verbs": ["update"],
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
        "apiGroups": ["leaderworkerset.x-k8s.io"],
        "resources": ["leaderworkersets"],
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
        "verbs": ["get", "create"],
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
    """Return a ServiceAccount, its Role and the binding of both, as JSON."""
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
        """Take a process that has been started, and serves probes on `port`."""
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
        """Return what it answers."""
        return (await self._get(path))[1]

    async def _get(self, path: str) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.port}{path}"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status, await response.text()

    async def until_ready(self) -> None:
        """Wait until it has seen everything; fail if it ends."""

        async def look() -> bool:
            assert self.popen.poll() is None, self.log.read_text()[-3000:]
            return await self.answers("/readyz", 200)

        await eventually(look, "the operator is ready")

    async def until_exit(self) -> int:
        """Wait for its end and return its exit code."""

        async def look() -> tuple[int] | None:
            code = self.popen.poll()
            return None if code is None else (code,)

        return (await eventually(look, "the operator exits"))[0]


@contextmanager
def operator_process(
    kubeconfig: Path, namespace: str, folder: Path, name: str = "operator-0", **extra: str
) -> Iterator[Process]:
    """Run an operator for one namespace, and kill it at the end; `extra` is for its environment."""
    port = free_port()
    log = folder / f"{name}.log"
    environment = {
        **{name: value for name, value in os.environ.items() if name not in _NAMES_OF_USERS},
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
            [sys.executable, "-c", _AS_A_NAMELESS_USER], env=environment, stderr=output
        )
    try:
        yield Process(popen, log, port)
    finally:
        popen.kill()
        popen.wait()


def role_kubeconfig(api_server: ApiServer, namespace: str) -> Path:
    """Return a kubeconfig with the rights of `permissions`."""
    api_server.kubectl("apply", "-f", "-", stdin=permissions(namespace))
    return api_server.service_account_kubeconfig(namespace, "operator")
