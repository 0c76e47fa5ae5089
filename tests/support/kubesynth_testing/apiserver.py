"""A bare Kubernetes API server on loopback: etcd and kube-apiserver, no node, ready in seconds.

For tests of what the API server itself decides: CRD schemas and CEL rules, server-side apply, RBAC,
watches, and an operator that runs beside it. With `controllers=True` kube-controller-manager and
kube-scheduler run too: Jobs make pods, garbage collection follows ownerReferences, ServiceAccounts
appear. No pod ever runs; a test that needs one plays the kubelet by patching the pod's status.

    with ApiServer.start() as server:
        server.kubectl("apply", "-f", "-", stdin=manifest)

The programs are the real ones, built by `kubesynth_testing.cluster.binaries`.
"""

from __future__ import annotations

import json
import os
import secrets
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

from kubesynth_testing.cluster import binaries, recipe
from kubesynth_testing.cluster.shell import SHORT_LIVED
from kubesynth_testing.ports import free_port

_READY_TIMEOUT_SECONDS = 90.0
_ESTABLISHED_TIMEOUT_SECONDS = 30.0
_POLL_SECONDS = 0.1
_LOG_TAIL_CHARACTERS = 3000

_CONTROLLERS = (
    "*",
    # Nobody provides volumes here. It would tell every claim so, every 15 seconds, in an Event: a
    # fifth of all requests of a run of the tests.
    "-persistentvolume-binder-controller",
    # A test that plays the kubelet gives pods to a node that is not there. Within a minute of the
    # first, and over and over from then on, it would delete all of them at once, in every test.
    "-pod-garbage-collector-controller",
)
_USERS = {
    "admin": "system:masters",
    "system:kube-controller-manager": "",
    "system:kube-scheduler": "",
}


class ApiServerStartError(RuntimeError):
    """A part of the API server ended, or was not ready in time; the message has its last lines."""


@dataclass(frozen=True, slots=True)
class ApiServer:
    """A running API server.

    Attributes:
        url: `https://127.0.0.1:PORT`.
        kubeconfig: A kubeconfig of a cluster administrator.
        token: The administrator's bearer token.
        ca_file: The certificate authority that signed the server's certificate.
        folder: Its own folder: logs (`NAME.log`) and kubeconfigs; removed when it stops.
        bin_folder: The folder with kubectl and, where they were asked for, the controllers.
    """

    url: str
    kubeconfig: Path
    token: str
    ca_file: Path
    folder: Path
    bin_folder: Path

    @classmethod
    @contextmanager
    def start(cls, *, controllers: bool = False) -> Iterator[ApiServer]:
        """Start an empty API server on free ports and stop it at the end of the block.

        Args:
            controllers: Also run kube-controller-manager and kube-scheduler. Without them the
                ServiceAccount admission plugin is off, since nothing would make the account
                that every pod needs.

        Raises:
            ApiServerStartError: It did not become ready.
        """
        names = recipe.CONTROL_PLANE if controllers else recipe.API_SERVER
        bin_folder = binaries.ensure(names)
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="apiserver-")))
            processes = stack.enter_context(_Processes.stopped_at_the_end(bin_folder, folder))
            server = cls._start_core(processes, service_accounts=controllers)
            if controllers:
                server._start_controllers(processes)
            yield server

    @classmethod
    def _start_core(cls, processes: _Processes, *, service_accounts: bool) -> ApiServer:
        """Start etcd and kube-apiserver and wait until the API server is ready."""
        folder = processes.folder
        etcd_url, peer_url, port = (
            f"http://127.0.0.1:{free_port()}",
            f"http://127.0.0.1:{free_port()}",
            free_port(),
        )
        tokens = _write_credentials(folder)
        processes.spawn("etcd", *_etcd_arguments(folder, etcd_url, peer_url))
        arguments = _api_server_arguments(folder, etcd_url, port)
        if not service_accounts:
            arguments.append("--disable-admission-plugins=ServiceAccount")
        processes.spawn("kube-apiserver", *arguments)
        server = cls(
            url=f"https://127.0.0.1:{port}",
            kubeconfig=folder / "admin.kubeconfig",
            token=tokens["admin"],
            ca_file=folder / "ca.crt",
            folder=folder,
            bin_folder=processes.bin_folder,
        )
        for user, token in tokens.items():
            server.write_kubeconfig(user.removeprefix("system:"), token)
        processes.wait_until_ready(f"{server.url}/readyz", server.ca_file)
        return server

    def _start_controllers(self, processes: _Processes) -> None:
        """Start the controllers and wait until pods could be made in the default namespace."""
        key = self.folder / "tls.key"
        for name in ("kube-controller-manager", "kube-scheduler"):
            arguments = [
                f"--kubeconfig={self.folder / f'{name}.kubeconfig'}",
                "--leader-elect=false",
                f"--secure-port={free_port()}",
                "--bind-address=127.0.0.1",
                f"--cert-dir={self.folder / name}",
            ]
            if name == "kube-controller-manager":
                arguments += [
                    f"--root-ca-file={self.ca_file}",
                    f"--controllers={','.join(_CONTROLLERS)}",
                    f"--service-account-private-key-file={key}",
                    "--use-service-account-credentials",
                ]
            processes.spawn(name, *arguments)
        self.kubectl(
            *("wait", "--for=create", "serviceaccount/default", "--timeout=60s"),
            timeout_seconds=70,
        )

    def kubectl(
        self, *arguments: str | Path, stdin: str | None = None, timeout_seconds: float = 60
    ) -> str:
        """Run kubectl as the administrator and return what it prints.

        Raises:
            CommandError: kubectl failed; its `output` has the API server's message.
        """
        command = (self.bin_folder / "kubectl", "--kubeconfig", self.kubeconfig, *arguments)
        return SHORT_LIVED.run(*command, stdin=stdin, timeout_seconds=timeout_seconds)

    def wait_for_crds(self) -> None:
        """Wait until all kinds that were made known can be used.

        Raises:
            TimeoutError: One was not established in time.
        """
        # Not `kubectl wait`: it fails on a definition so new that it has no status.
        deadline = time.monotonic() + _ESTABLISHED_TIMEOUT_SECONDS
        while waiting := [
            crd["metadata"]["name"]
            for crd in json.loads(self.kubectl("get", "crd", "-o", "json"))["items"]
            if not _is_established(crd)
        ]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"not established: {', '.join(waiting)}")
            time.sleep(_POLL_SECONDS)

    def write_kubeconfig(self, name: str, token: str) -> Path:
        """Write `NAME.kubeconfig` for the bearer of a token, and return its path."""
        cluster = {"server": self.url, "certificate-authority": str(self.ca_file)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
            "current-context": "test",
        }
        path = self.folder / f"{name}.kubeconfig"
        path.write_text(json.dumps(config))
        return path

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """Write a kubeconfig of a ServiceAccount, which must exist: what its RBAC allows."""
        token = self.kubectl("create", "token", name, "-n", namespace).strip()
        return self.write_kubeconfig(f"{namespace}.{name}", token)


@dataclass(frozen=True, slots=True)
class _Processes:
    """The processes of one API server; all of them are ended by their process id."""

    bin_folder: Path
    folder: Path
    running: dict[str, subprocess.Popen[bytes]]

    @classmethod
    @contextmanager
    def stopped_at_the_end(cls, bin_folder: Path, folder: Path) -> Iterator[_Processes]:
        processes = cls(bin_folder, folder, {})
        try:
            yield processes
        finally:
            # Nothing is kept, so nothing needs an orderly end: what writes to etcd goes first.
            for process in reversed(processes.running.values()):
                process.kill()
            for process in processes.running.values():
                process.wait()

    def spawn(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self.running[name] = subprocess.Popen(
                [str(self.bin_folder / name), *arguments],
                cwd=self.folder,
                env={**os.environ, **recipe.FEWER_COLLECTIONS},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_until_ready(self, url: str, ca_file: Path) -> None:
        """Wait until a health endpoint answers 200.

        Raises:
            ApiServerStartError: A process ended, or the time is up.
        """
        context = ssl.create_default_context(cafile=str(ca_file))
        # No proxy of the environment stands between this process and loopback.
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        deadline = time.monotonic() + _READY_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            for name, process in self.running.items():
                if process.poll() is not None:
                    raise ApiServerStartError(
                        f"{name} exited with {process.returncode}:\n{self._log_tail(name)}"
                    )
            try:
                with opener.open(url, timeout=2):
                    return
            except urllib.error.HTTPError as refusal:  # some part of it is not ready yet
                refusal.close()
            except OSError:  # nothing listens yet
                pass
            time.sleep(_POLL_SECONDS)
        raise ApiServerStartError(
            f"{url} was not ready in {_READY_TIMEOUT_SECONDS:.0f} s:\n"
            + self._log_tail("kube-apiserver")
        )

    def _log_tail(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")[-_LOG_TAIL_CHARACTERS:]


def _write_credentials(folder: Path) -> dict[str, str]:
    """Write the certificates and the token file, and return each user's bearer token."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.crt")
    certificate = authority.issue_cert("127.0.0.1", "localhost", "kubernetes.default.svc")
    certificate.private_key_pem.write_to_path(folder / "tls.key")
    for index, pem in enumerate(certificate.cert_chain_pems):
        pem.write_to_path(folder / "tls.crt", append=index > 0)
    tokens = {user: secrets.token_urlsafe(24) for user in _USERS}
    lines = [f'{tokens[user]},{user},{user},"{group}"' for user, group in _USERS.items()]
    (folder / "tokens.csv").write_text("\n".join(lines) + "\n")
    return tokens


def _etcd_arguments(folder: Path, client_url: str, peer_url: str) -> list[str]:
    return [
        f"--data-dir={folder / 'etcd'}",
        "--unsafe-no-fsync",  # nothing here outlives the test
        f"--listen-client-urls={client_url}",
        f"--advertise-client-urls={client_url}",
        f"--listen-peer-urls={peer_url}",
        f"--initial-advertise-peer-urls={peer_url}",
        f"--initial-cluster=default={peer_url}",
    ]


def _api_server_arguments(folder: Path, etcd_url: str, port: int) -> list[str]:
    return [
        f"--etcd-servers={etcd_url}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",
        f"--secure-port={port}",
        f"--tls-cert-file={folder / 'tls.crt'}",
        f"--tls-private-key-file={folder / 'tls.key'}",
        f"--client-ca-file={folder / 'ca.crt'}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={folder / 'tls.key'}",
        f"--service-account-signing-key-file={folder / 'tls.key'}",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--allow-privileged=true",
        "--profiling=false",
    ]


def _is_established(crd: dict[str, Any]) -> bool:
    conditions = (crd.get("status") or {}).get("conditions") or []
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)
