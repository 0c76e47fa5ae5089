"""From the URIs of a manifest to folders of this machine, and to buckets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from kubesynth_api import runner_contract, uris
from kubesynth_api.conditions import Reason
from kubesynth_api.v1alpha1.storage import OutputSpec
from kubesynth_runner import errors
from kubesynth_runner.io import object_stores
from kubesynth_runner.io.local_storage import LocalStorage
from kubesynth_runner.io.object_storage import ObjectStorage
from kubesynth_runner.io.storage import Storage


@dataclasses.dataclass(frozen=True, slots=True)
class Mounts:
    """Where volume claims, ConfigMaps and Secrets are, and what relative paths are relative to.

    In a pod everything lies under a fixed root; without a cluster each name is mapped by a flag.
    """

    claims: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    config_maps: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    secrets: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    base_folder: Path = Path("/")
    in_pod: bool = False

    def claim(self, name: str) -> Path:
        """Return the folder of a volume claim."""
        return self._find("volume claim", "--volume", name, self.claims, runner_contract.PVC_ROOT)

    def config_map(self, name: str) -> Path:
        """Return the folder of a ConfigMap's keys."""
        root = runner_contract.CONFIG_MAP_ROOT
        return self._find("ConfigMap", "--config", name, self.config_maps, root)

    def secret(self, name: str) -> Path:
        """Return the folder of a Secret's keys."""
        return self._find("Secret", "--secret", name, self.secrets, runner_contract.SECRET_ROOT)

    def _find(
        self, kind: str, flag: str, name: str, known: Mapping[str, Path], pod_root: str
    ) -> Path:
        if name in known:
            return known[name]
        if self.in_pod:
            return Path(pod_root) / name
        raise errors.ConfigurationError(
            Reason.REFERENCE_NOT_FOUND,
            f"the job refers to the {kind} {name!r}: say where it is with {flag} {name}=PATH",
        )


def local_path(uri: str, mounts: Mounts) -> Path:
    """Return the path that a URI of the manifest stands for. It may hold wildcards.

    Raises:
        ConfigurationError: the scheme is not available, or a reference is not mapped.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return mounts.base_folder / uri
    match scheme:
        case "file":
            return mounts.base_folder / rest
        case "pvc":
            claim, _, path = rest.partition("/")
            return _below(mounts.claim(claim), path, uri)
        case "configmap":
            name, _, key = rest.partition("/")
            return _below(mounts.config_map(name), key, uri)
    raise errors.ConfigurationError(
        Reason.NOT_IMPLEMENTED, f"{uri}: {scheme}:// is not available in this version"
    )


def _below(root: Path, relative: str, uri: str) -> Path:
    if ".." in Path(relative).parts:
        raise errors.ConfigurationError(
            Reason.INVALID_SPEC, f"{uri}: the path must not lead out of its volume (..)"
        )
    return root / relative


def open_storage(output: OutputSpec, mounts: Mounts) -> Storage:
    """Return the storage behind an output. Connects to nothing.

    Raises:
        ConfigurationError: the URI, its options or credentials cannot be used.
    """
    uri = output.uri.rstrip("/")
    if not object_stores.is_object_uri(uri):
        return LocalStorage(local_path(uri, mounts), uri)
    bucket = object_stores.open_bucket(uri, output.storage, mounts, field="output")
    return ObjectStorage(bucket, uris.parse(uri).path, uri)
