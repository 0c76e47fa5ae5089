"""The real LeaderWorkerSet controller, as a process beside a bare API server.

Its webhooks are the real ones too: the API server is told to call them on loopback instead of
through a Service. It makes StatefulSets, whose pods kube-controller-manager makes; none ever runs.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trustme
import yaml

from kubesynth_testing.apiserver import ApiServer, free_port
from kubesynth_testing.cluster import addons

_READY_SECONDS = 60.0
_LOG_TAIL_CHARACTERS = 3000
_OWN_PODS = {
    "matchExpressions": [{"key": "leaderworkerset.sigs.k8s.io/name", "operator": "Exists"}]
}


@contextmanager
def running(server: ApiServer) -> Iterator[Path]:
    """Make the kind known, run its controller, and stop it at the end of the block.

    Yields the controller's log.

    Raises:
        RuntimeError: It ended, or was not ready in time; the message has its last lines.
    """
    made = addons.ensure_leader_worker_set()
    folder = server.folder / "leader-worker-sets"
    folder.mkdir(exist_ok=True)
    server.kubectl("apply", "--server-side", "-f", made / "config/crd/bases")
    server.wait_for_crds()
    port = free_port()
    authority = _certificates(folder)
    config, log = folder / "config.yaml", folder / "manager.log"
    config.write_text(json.dumps(_configuration(folder, port)))
    environment = {**os.environ, "KUBECONFIG": str(server.kubeconfig)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(made / addons.PROGRAM), f"--config={config}"],
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_until_it_listens(process, port, log)
        for manifest in _webhooks(made / "config/webhook/manifests.yaml", port, authority):
            server.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
        yield log
    finally:
        process.kill()
        process.wait()


def _certificates(folder: Path) -> bytes:
    """Write the server's certificate and key; return the authority's."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    issued.private_key_pem.write_to_path(folder / "tls.key")
    for index, pem in enumerate(issued.cert_chain_pems):
        pem.write_to_path(folder / "tls.crt", append=index > 0)
    return authority.cert_pem.bytes()


def _configuration(folder: Path, port: int) -> dict[str, Any]:
    return {
        "apiVersion": "config.lws.x-k8s.io/v1alpha1",
        "kind": "Configuration",
        "webhook": {"host": "127.0.0.1", "port": port, "certDir": str(folder)},
        "metrics": {"bindAddress": "0"},
        "health": {"healthProbeBindAddress": "0"},
        "leaderElection": {"leaderElect": False},
        "internalCertManagement": {"enable": False},
    }


def _webhooks(file: Path, port: int, authority: bytes) -> Iterator[dict[str, Any]]:
    for manifest in yaml.safe_load_all(file.read_text()):
        if manifest is None:
            continue
        manifest["metadata"]["name"] = f"lws-{manifest['metadata']['name']}"
        for webhook in manifest["webhooks"]:
            path = webhook["clientConfig"]["service"]["path"]
            webhook["clientConfig"] = {
                "url": f"https://127.0.0.1:{port}{path}",
                "caBundle": base64.b64encode(authority).decode(),
            }
            if path.endswith("-pod"):  # as the project's own patches have it
                webhook["objectSelector"] = _OWN_PODS
        yield manifest


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    tail = log.read_text(errors="replace")[-_LOG_TAIL_CHARACTERS:]
    raise RuntimeError(f"the LeaderWorkerSet controller is not ready:\n{tail}")
