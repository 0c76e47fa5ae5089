"""Models in pods: the fake one, and the real small one behind a proxy that counts.

Their statistics are asked for through the API server's proxy, so nothing needs a port of this host.
Each has a volume of its workspace, for tests to look into.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from kubesynth_testing import counting_proxy, fake_llm
from kubesynth_testing.scenarios.api import Api
from kubesynth_testing.scenarios.journals import request_hash
from kubesynth_testing.scenarios.world import (
    CLAIM,
    Manifest,
    Workspace,
    config_map,
    restricted_pod,
)

_PORT = 8000
_UPSTREAM_PORT = 8001
_SOURCE = "/source"
_SOURCE_MOUNT = {"name": "source", "mountPath": f"{_SOURCE}/kubesynth_testing"}
_FAKE = ["python", "-m", "kubesynth_testing.fake_llm", "--host", "0.0.0.0"]


@dataclasses.dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that pods reach at `url`.

    Attributes:
        api: The API server, through which the test reaches it.
        namespace: Where it is.
        name: The Service, and the pod behind it.
        model: The model's name in requests.
    """

    api: Api
    namespace: str
    name: str
    model: str

    @property
    def url(self) -> str:
        """Base URL of its API, from any namespace."""
        return f"http://{self.name}.{self.namespace}.svc:{_PORT}/v1"

    def statistics(self) -> dict[str, Any]:
        """Return what was asked and answered so far."""
        found: dict[str, Any] = self._get("stats")
        return found

    def repeated_calls(self) -> int:
        """Return how many requests had the same body as an earlier one."""
        repeats: Mapping[str, int] = self.statistics()["duplicates"]
        return sum(count - 1 for count in repeats.values())

    def reset(self) -> None:
        """Forget what was asked so far."""
        self._post("reset", {})

    def set_faults(self, **faults: Any) -> None:
        """Set the fields of `fake_llm.Faults`; what is left out is off. For the fake model only."""
        self._post("faults", faults)

    def delay(self, seconds: float) -> None:
        """Let every call take that much longer. For counted models only."""
        self._post("delay", {"seconds": seconds})

    def calls(self) -> dict[bytes, int]:
        """Return how often each call, by its hash in the journal, came. For counted models only."""
        listing = self._get("calls")
        return {request_hash(call["body"]): int(call["received"]) for call in listing}

    def _get(self, path: str) -> Any:
        return self.api.get(self._path(path))

    def _post(self, path: str, body: Mapping[str, Any]) -> None:
        self.api.post(self._path(path), body)

    def _path(self, path: str) -> str:
        # The pod, not the Service: its endpoints follow a ready pod with some delay.
        base = f"/api/v1/namespaces/{self.namespace}/pods/{self.name}:{_PORT}/proxy"
        return f"{base}/{path}"


def start_fake(
    space: Workspace,
    *,
    name: str = "fake-llm",
    model: str = fake_llm.MODEL,
    claim: str = CLAIM,
    **faults: Any,
) -> ServedModel:
    """Serve the fake model in a workspace and wait until it is ready; begin with `faults`."""
    command = [*_FAKE, "--model", model, "--faults", json.dumps(faults)]
    pod = _with_source(restricted_pod(name, space.world.image, command), name)
    _serve(space, name, space.with_volume(pod, claim), fake_llm.pod_files())
    return ServedModel(space.world.api, space.namespace, name, model)


def start_counted_fake(space: Workspace, *, name: str = "fake-llm") -> ServedModel:
    """Serve the fake model behind a counting proxy; wait until it is ready."""
    server = _beside(space.world.image, [*_FAKE, "--port", str(_UPSTREAM_PORT)])
    server |= {"workingDir": _SOURCE, "volumeMounts": [_SOURCE_MOUNT]}
    return _serve_counted(space, name, server, CLAIM)


def start_real(
    space: Workspace, *, name: str = "llm", slots: int = 4, claim: str = CLAIM
) -> ServedModel:
    """Serve the embedded model behind a counting proxy; wait until it is ready."""
    command = ["kubesynth", "local", "serve", "--port", str(_UPSTREAM_PORT)]
    server = _beside(space.world.model_image, [*command, "--slots", str(slots)])
    # The kernel gives it its share whatever else runs: without one it hardly moves. With more,
    # two nodes of two cores have no room for what other scenarios run beside it.
    server["resources"] = {"requests": {"cpu": "500m"}}
    return _serve_counted(space, name, server, claim)


def _beside(image: str, command: list[str]) -> Manifest:
    """Return the container of a server behind the proxy."""
    pod = restricted_pod("upstream", image, command)
    (container,) = pod["spec"]["containers"]
    return {**container, "name": "upstream"}


def _serve_counted(space: Workspace, name: str, server: Manifest, claim: str) -> ServedModel:
    upstream = f"http://127.0.0.1:{_UPSTREAM_PORT}"
    command = ["python", "-m", "kubesynth_testing.counting_proxy", "--upstream", upstream]
    pod = _with_source(restricted_pod(name, space.world.image, command), name)
    pod["spec"]["containers"].append(server)
    files = {**fake_llm.pod_files(), **counting_proxy.pod_files()}
    _serve(space, name, space.with_volume(pod, claim), files)
    served = ServedModel(space.world.api, space.namespace, name, "")
    listing = served._get("v1/models")
    return dataclasses.replace(served, model=listing["data"][0]["id"])


def _with_source(pod: Manifest, name: str) -> Manifest:
    container = pod["spec"]["containers"][0]
    container["workingDir"] = _SOURCE
    container["volumeMounts"] = [_SOURCE_MOUNT]
    container["readinessProbe"] = {
        "httpGet": {"path": "/health", "port": _PORT},
        "periodSeconds": 1,
        "failureThreshold": 120,
    }
    pod["spec"]["volumes"] = [{"name": "source", "configMap": {"name": name}}]
    return pod


def _serve(space: Workspace, name: str, pod: Manifest, files: Mapping[str, str]) -> None:
    service: Manifest = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": _PORT}]},
    }
    space.apply(config_map(name, dict(files)), service, pod)
    space.kubectl.wait("condition=Ready", f"pod/{name}", timeout_seconds=400)
