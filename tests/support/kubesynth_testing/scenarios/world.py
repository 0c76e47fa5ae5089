"""The cluster with the operator installed, and namespaces for scenarios to work in."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import secrets
import tarfile
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from kubesynth_api.v1alpha1.synthetic_data_job import PLURAL
from kubesynth_testing.cluster.kind import Cluster
from kubesynth_testing.cluster.runners import Kubectl
from kubesynth_testing.cluster.shell import CommandError
from kubesynth_testing.scenarios.api import Api
from kubesynth_testing.scenarios.dataset import Dataset
from kubesynth_testing.scenarios.release import Release

Manifest = dict[str, Any]

CLAIM = "data"
"""The volume claim of every workspace: all nodes can write it at once."""

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
RESTRICTED_POD: Manifest = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "runAsGroup": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
RESTRICTED_CONTAINER: Manifest = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
}


@dataclasses.dataclass(frozen=True, slots=True)
class World:
    """What every scenario finds: a cluster, images in it, and the operator at work.

    Attributes:
        cluster: The cluster.
        image: The project's image.
        model_image: The project's image that can serve the embedded model.
        storage_class: A StorageClass of volumes that all nodes can write at once.
        operator: The operator that serves the whole cluster.
        api: The cluster's API, for what is asked often.
    """

    cluster: Cluster
    image: str
    model_image: str
    storage_class: str
    operator: Release
    api: Api

    def kubectl(self, namespace: str) -> Kubectl:
        """Return kubectl for a namespace."""
        return Kubectl(self.cluster.kubectl_program, self.cluster.kubeconfig, namespace)

    def workspace(self, name: str) -> Workspace:
        """Return a namespace that lasts as long as a `with` block."""
        return Workspace(self, f"{name}-{secrets.token_hex(3)}")


class Workspace:
    """A namespace under PodSecurity `restricted`, with a shared volume.

    What was in it is added to an exception that leaves the `with` block.
    """

    def __init__(self, world: World, namespace: str) -> None:
        self.world = world
        self.namespace = namespace
        self.kubectl = world.kubectl(namespace)
        # Pods that have a volume at /data, by its claim; `main` is the container.
        self._readers: dict[str, str] = {}

    def __enter__(self) -> Self:
        self.world.api.create_namespace(self.namespace, RESTRICTED)
        self.apply(claim(CLAIM, self.world.storage_class))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            error.add_note(self._diagnosis())
        # Jobs first: one with backoffLimitPerIndex keeps its finalizer on a failed pod until it has
        # made another, which it cannot in a namespace that is being deleted (KEP-3850).
        api = self.world.api
        for resource in (PLURAL, "jobs"):
            api.delete_all(self.namespace, resource)
        api.delete_namespace(self.namespace)
        # None takes its whole grace period.
        api.delete_all(self.namespace, "pods", grace_seconds=1)

    def _diagnosis(self) -> str:
        operator = self.world.operator.logs()
        return f"{self.kubectl.diagnosis()}\n--- logs of the operator\n{operator}"

    def apply(self, *manifests: Manifest) -> None:
        """Apply manifests."""
        self.world.api.apply(self.namespace, *manifests)

    def read(self, resource: str, name: str) -> Manifest:
        """Return an object as it is now; `resource` is a plural such as `pods`."""
        found: Manifest = self.world.api.read(self.namespace, resource, name)
        return found

    def list(self, resource: str, *, labels: str = "", fields: str = "") -> list[Manifest]:
        """Return the objects of a kind that two selectors choose."""
        found: list[Manifest] = self.world.api.list(
            self.namespace, resource, labels=labels, fields=fields
        )
        return found

    def names(self, *resources: str, selector: str = "") -> set[str]:
        """Return `resource/name` of the objects of some kinds that are there."""
        return {
            f"{resource}/{item['metadata']['name']}"
            for resource in resources
            for item in self.list(resource, labels=selector)
        }

    def job(self, name: str) -> Manifest:
        """Return a SyntheticDataJob as it is now."""
        return self.read(PLURAL, name)

    def status(self, name: str) -> Manifest:
        """Return the status of a SyntheticDataJob, empty while it has none."""
        status: Manifest = self.job(name).get("status", {})
        return status

    def wait_for_end(self, name: str, *, seconds: float = 900) -> Manifest:
        """Wait until a job is Complete or Failed, and return its status."""
        self.wait_for(name, "{.status.completionTime}", seconds=seconds)
        return self.status(name)

    def wait_for_phase(self, name: str, phase: str, *, seconds: float = 400) -> Manifest:
        """Wait for the word in `status.phase`, and return the status."""
        self.wait_for(name, f"{{.status.phase}}={phase}", seconds=seconds)
        return self.status(name)

    def wait_for(self, name: str, jsonpath: str, *, seconds: float) -> None:
        """Wait for a field of a SyntheticDataJob, in the words of `kubectl wait --for=jsonpath`."""
        resource = f"syntheticdatajob/{name}"
        self.kubectl.wait(f"jsonpath={jsonpath}", resource, timeout_seconds=seconds)

    def wait_for_child(self, name: str, condition: str, *, seconds: float = 400) -> None:
        """Wait for a Job of Kubernetes that need not exist yet."""
        self.kubectl.wait("create", f"job/{name}", timeout_seconds=seconds)
        self.kubectl.wait(condition, f"job/{name}", timeout_seconds=seconds)

    def read_output(self, folder: str, *, claim: str = CLAIM) -> Dataset:
        """Read an output folder of a volume."""
        return Dataset(self.read_files(folder, claim=claim))

    def read_files(self, folder: str, *, claim: str = CLAIM) -> dict[str, bytes]:
        """Return the files below a folder of a volume, by their path in it."""
        text = self.on_volume(f"tar -C /data/{folder} -cf - . | base64", claim=claim)
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(text))) as archive:
            return {
                member.name.removeprefix("./"): content.read()
                for member in archive
                if (content := archive.extractfile(member)) is not None
            }

    def on_volume(self, script: str, *, claim: str = CLAIM) -> str:
        """Run a shell script in a pod that has a volume at /data, and return its stdout."""
        if claim not in self._readers:
            reader = f"reader-of-{claim}"
            pod = restricted_pod(reader, self.world.image, ["sleep", "3600"])
            self.apply(self.with_volume(pod, claim))
            self.kubectl.wait("condition=Ready", f"pod/{reader}")
        container = (self._readers[claim], "-c", "main")
        return self.kubectl("exec", *container, "--", "sh", "-c", script)

    def with_volume(self, pod: Manifest, claim: str) -> Manifest:
        """Return a pod with a volume at /data, so that `on_volume` needs none of its own."""
        self._readers[claim] = pod["metadata"]["name"]
        spec = pod["spec"]
        first, *others = spec["containers"]
        mounts = [*first.get("volumeMounts", ()), {"name": "data", "mountPath": "/data"}]
        volume = {"name": "data", "persistentVolumeClaim": {"claimName": claim}}
        return {
            **pod,
            "spec": {
                **spec,
                "volumes": [*spec.get("volumes", ()), volume],
                "containers": [{**first, "volumeMounts": mounts}, *others],
            },
        }

    def try_kubectl(self, *arguments: str) -> str:
        """Run kubectl for what may or may not work, and return what it prints."""
        try:
            return self.kubectl(*arguments)
        except CommandError as error:
            return error.output


def condition(status: Manifest, kind: str) -> Manifest:
    """Return a condition of a status; empty if it is not there."""
    found = (each for each in status.get("conditions", ()) if each["type"] == kind)
    return next(found, {})


def claim(name: str, storage_class: str, modes: Sequence[str] = ("ReadWriteMany",)) -> Manifest:
    """Return a volume claim."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {
            "storageClassName": storage_class,
            "accessModes": list(modes),
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


def restricted_pod(name: str, image: str, command: list[str], **container: Any) -> Manifest:
    """Return a pod of one container that a restricted namespace admits and no Job needs."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": RESTRICTED_POD,
            "containers": [
                {
                    "name": "main",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": command,
                    "resources": {"requests": {"cpu": "20m"}},
                    "securityContext": RESTRICTED_CONTAINER,
                    **container,
                }
            ],
        },
    }


def config_map(name: str, data: dict[str, str]) -> Manifest:
    """Return a ConfigMap."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": data,
    }


def json_lines(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as JSONL."""
    return "".join(json.dumps(row) + "\n" for row in rows)
