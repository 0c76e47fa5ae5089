"""Real controllers that users add to a cluster, as processes beside a bare API server.

Their webhooks are the real ones too: the API server is told to call them on loopback instead of
through a Service. What they make becomes pods as far as kube-controller-manager goes; no pod runs.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

from kubesynth_testing import yaml_files
from kubesynth_testing.apiserver import ApiServer
from kubesynth_testing.cluster import addons
from kubesynth_testing.ports import free_port

# In namespaces with this label Kueue holds Jobs without a queue's name, too.
ALL_JOBS_QUEUE = "all-jobs-queue"

_READY_SECONDS = 60.0
_LOG_TAIL_CHARACTERS = 3000
_PODS_OF_GROUPS = {
    "matchExpressions": [{"key": "leaderworkerset.sigs.k8s.io/name", "operator": "Exists"}]
}
# Of Kueue's webhooks, those for its own kinds and for what was compiled in.
_OF_KUEUE = ("kueue-x-k8s-io", "batch-v1-job")


@contextmanager
def leader_worker_sets(server: ApiServer) -> Iterator[Path]:
    """Install LeaderWorkerSet, with its controller; yield the controller's log."""
    made = addons.ensure(addons.LEADER_WORKER_SET)
    process = _Process.prepare(server, made, "lws")
    configuration = {
        "apiVersion": "config.lws.x-k8s.io/v1alpha1",
        "webhook": {"host": "127.0.0.1", "port": process.port, "certDir": str(process.folder)},
    }
    server.kubectl("apply", "--server-side", "-f", made / "config/crd/bases")
    webhooks = made / "config/webhook/manifests.yaml"
    with process.running(configuration), process.called(webhooks, ("",)):
        yield process.log


@contextmanager
def kueue(server: ApiServer) -> Iterator[Path]:
    """Install Kueue, with its controller, for Jobs; yield the controller's log."""
    made = addons.ensure(addons.KUEUE)
    process = _Process.prepare(server, made, "kueue")
    configuration = {
        "apiVersion": "config.kueue.x-k8s.io/v1beta2",
        "webhook": {"host": "127.0.0.1", "port": process.port, "certDir": str(process.folder)},
        "integrations": {"frameworks": ["batch/job"]},
        "manageJobsWithoutQueueName": True,
        "managedJobsNamespaceSelector": {"matchLabels": {ALL_JOBS_QUEUE: "true"}},
        "featureGates": {
            "VisibilityOnDemand": False,
            "MultiKueue": False,
            # Jobs that name a queue are managed in all namespaces.
            "ManagedJobsNamespaceSelectorAlwaysRespected": False,
        },
    }
    server.kubectl("apply", "--server-side", "-f", made / "config/components/crd/bases")
    environment = {"KUEUE_METRICS_CERTIFICATES": str(process.folder)}
    webhooks = made / "config/components/webhook/manifests.yaml"
    with process.running(configuration, environment), process.called(webhooks, _OF_KUEUE):
        yield process.log


@dataclass(frozen=True, slots=True)
class _Process:
    """A controller's process: its program, its folder, the port of its webhooks."""

    server: ApiServer
    program: Path
    folder: Path
    port: int
    authority: bytes

    @classmethod
    def prepare(cls, server: ApiServer, made: Path, name: str) -> _Process:
        folder = server.folder / name
        folder.mkdir()
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1", "localhost")
        issued.private_key_pem.write_to_path(folder / "tls.key")
        for index, pem in enumerate(issued.cert_chain_pems):
            pem.write_to_path(folder / "tls.crt", append=index > 0)
        program = made / addons.PROGRAM
        return cls(server, program, folder, free_port(), authority.cert_pem.bytes())

    @property
    def log(self) -> Path:
        return self.folder / "manager.log"

    @contextmanager
    def running(
        self, configuration: dict[str, Any], environment: Mapping[str, str] | None = None
    ) -> Iterator[None]:
        """Run it until the end of the block.

        Raises:
            RuntimeError: It ended, or was not ready in time; the message has its last lines.
        """
        self.server.wait_for_crds()
        common = {
            "kind": "Configuration",
            "metrics": {"bindAddress": "0"},
            "health": {"healthProbeBindAddress": "0"},
            "leaderElection": {"leaderElect": False},
            "internalCertManagement": {"enable": False},
        }
        file = self.folder / "config.yaml"
        file.write_text(json.dumps(common | configuration))
        own = {"KUBECONFIG": str(self.server.kubeconfig), **(environment or {})}
        with self.log.open("wb") as output:
            process = subprocess.Popen(
                [str(self.program), f"--config={file}"],
                env={**os.environ, **own},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait_until_it_listens(process)
            yield
        finally:
            process.kill()
            process.wait()

    @contextmanager
    def called(self, file: Path, of: tuple[str, ...]) -> Iterator[None]:
        """Have the API server call the webhooks whose paths have one of these texts.

        Until the end of the block: afterwards nobody is there to answer.
        """
        made = "\n---\n".join(json.dumps(each) for each in self._webhooks(file, of))
        self.server.kubectl("apply", "-f", "-", stdin=made)
        try:
            yield
        finally:
            self.server.kubectl("delete", "-f", "-", stdin=made)

    def _webhooks(self, file: Path, of: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        for manifest in yaml_files.load_all(file.read_text()):
            name = f"{self.folder.name}-{manifest['metadata']['name']}"
            wanted = [
                self._on_loopback(webhook)
                for webhook in manifest["webhooks"]
                if any(text in webhook["clientConfig"]["service"]["path"] for text in of)
            ]
            yield {**manifest, "metadata": {"name": name}, "webhooks": wanted}

    def _on_loopback(self, webhook: dict[str, Any]) -> dict[str, Any]:
        path = webhook["clientConfig"]["service"]["path"]
        client = {
            "url": f"https://127.0.0.1:{self.port}{path}",
            "caBundle": base64.b64encode(self.authority).decode(),
        }
        # As the project's own patches have it.
        only = {"objectSelector": _PODS_OF_GROUPS} if path.endswith("--v1-pod") else {}
        return {**webhook, "clientConfig": client, **only}

    def _wait_until_it_listens(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    return
            except OSError:
                time.sleep(0.1)
        tail = self.log.read_text(errors="replace")[-_LOG_TAIL_CHARACTERS:]
        raise RuntimeError(f"{self.program} is not ready:\n{tail}")
