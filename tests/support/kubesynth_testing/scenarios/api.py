"""The cluster's API over plain HTTP, for what is asked often.

A kubectl costs a quarter of a second of CPU time, and twenty scenarios that wait ask a lot. One
`kubectl proxy` brings the credentials, whatever kubeconfig they come from. What users do with
kubectl, the scenarios do with kubectl.
"""

from __future__ import annotations

import json
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubesynth_operator.kube import resources
from kubesynth_testing.cluster.kind import Cluster

_TIMEOUT_SECONDS = 30
_FIELD_MANAGER = "kubesynth-testing"
_KINDS = {
    "ConfigMap": resources.CONFIG_MAPS,
    "Deployment": resources.DEPLOYMENTS,
    "Event": resources.EVENTS,
    "Job": resources.JOBS,
    "ModelServer": resources.MODEL_SERVERS,
    "ModelServerClass": resources.SERVER_CLASSES,
    "NetworkPolicy": resources.NETWORK_POLICIES,
    "PersistentVolumeClaim": resources.CLAIMS,
    "Pod": resources.PODS,
    "ResourceQuota": resources.Resource("", "v1", "resourcequotas"),
    "Service": resources.SERVICES,
    "SyntheticDataJob": resources.SYNTHETIC_DATA_JOBS,
}
_BY_PLURAL = {each.plural: each for each in _KINDS.values()}


@dataclass(frozen=True, slots=True)
class Api:
    """The API server behind a proxy at `origin`."""

    origin: str

    def read(self, namespace: str, resource: str, name: str) -> Any:
        """Return an object; `resource` is a plural such as `pods`.

        Raises:
            urllib.error.HTTPError: the API server said no, 404 among others.
        """
        return self.get(_BY_PLURAL[resource].path(namespace, name))

    def list(self, namespace: str, resource: str, *, labels: str = "", fields: str = "") -> Any:
        """Return the objects of a kind in a namespace that two selectors choose."""
        query = {"labelSelector": labels, "fieldSelector": fields}
        path = f"{_BY_PLURAL[resource].path(namespace)}?{urllib.parse.urlencode(query)}"
        # Each item lacks what the list says once.
        return self.get(path)["items"]

    def apply(self, namespace: str, *manifests: Mapping[str, Any]) -> None:
        """Apply manifests on the server's side.

        Raises:
            urllib.error.HTTPError: the API server refused one; those before it are applied.
        """
        query = urllib.parse.urlencode(
            {"fieldManager": _FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}
        )
        for manifest in manifests:
            name = manifest["metadata"]["name"]
            path = _KINDS[manifest["kind"]].path(namespace, name)
            self._send(f"{path}?{query}", "PATCH", manifest, "application/apply-patch+yaml")

    def delete_all(
        self, namespace: str, resource: str, *, grace_seconds: int | None = None
    ) -> None:
        """Delete every object of a kind in a namespace, and what they own in the background."""
        options: dict[str, Any] = {"propagationPolicy": "Background"}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        self._send(_BY_PLURAL[resource].path(namespace), "DELETE", options)

    def create_namespace(self, name: str, labels: Mapping[str, str]) -> None:
        """Make a namespace."""
        metadata = {"name": name, "labels": dict(labels)}
        self.post("/api/v1/namespaces", {"metadata": metadata})

    def delete_namespace(self, name: str) -> None:
        """Have a namespace deleted, and do not wait for it."""
        self._send(f"/api/v1/namespaces/{name}", "DELETE")

    def get(self, path: str) -> Any:
        """GET a path and return the JSON document.

        Raises:
            urllib.error.HTTPError: the API server, or what is behind it, said no.
        """
        return self._send(path, "GET")

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """POST a JSON document and return the one that comes back.

        Raises:
            urllib.error.HTTPError: the API server, or what is behind it, said no.
        """
        return self._send(path, "POST", body)

    def _send(
        self,
        path: str,
        method: str,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> Any:
        request = urllib.request.Request(
            self.origin + path,
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": content_type},
            method=method,
        )
        # Never through a proxy that the environment names: this is a loopback address.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=_TIMEOUT_SECONDS) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            error.add_note(f"{method} {path}: {error.read().decode(errors='replace')}")
            raise


@contextmanager
def serve(cluster: Cluster, log: Path) -> Iterator[Api]:
    """Run the proxy on a free loopback port for the length of a `with` block."""
    command = (cluster.kubectl_program, "--kubeconfig", cluster.kubeconfig, "proxy", "--port=0")
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            address = re.search(r"127\.0\.0\.1:\d+", process.stdout.readline())
            if address is None:
                raise RuntimeError(f"kubectl proxy did not start: {log.read_text()}")
            yield Api(f"http://{address[0]}")
        finally:
            process.terminate()
