"""What a job refers to: Secrets, ConfigMaps and volume claims of its namespace.

The operator checks that they exist and mounts them; the command line maps them to flags.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Collection, Iterator
from enum import StrEnum

from kubesynth_api.field_paths import walk
from kubesynth_api.meta import KeySelector, NameReference
from kubesynth_api.uris import Location, UriError, parse
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec


class Use(StrEnum):
    """How a runner pod gets at what a reference names."""

    FILE = "File"  # mounted below runner_contract.SECRET_ROOT or CONFIG_MAP_ROOT
    ENVIRONMENT = "Environment"  # an environment variable
    IMAGE_PULL = "ImagePull"  # the kubelet's alone
    SERVER = "Server"  # a model server's alone


class Access(StrEnum):
    """What a job does with a volume claim."""

    READ = "Read"
    WRITE = "Write"


@dataclasses.dataclass(frozen=True, slots=True)
class KeyReference:
    """One mention of a Secret or ConfigMap.

    `key` is None for the whole object, and may be a pattern (*.jsonl) in an input's URI.
    `path` is the field that mentions it.
    """

    name: str
    key: str | None
    use: Use
    path: str

    def is_satisfied_by(self, keys: Collection[str]) -> bool:
        """Tell whether an object with these keys has what is wanted."""
        return self.key is None or any(fnmatch.fnmatchcase(key, self.key) for key in keys)


@dataclasses.dataclass(frozen=True, slots=True)
class ClaimReference:
    """One mention of a volume claim; `folder` is the path in the volume."""

    name: str
    folder: str
    access: Access
    path: str


@dataclasses.dataclass(frozen=True, slots=True)
class References:
    """Every mention, in the order of the manifest's fields; one object may occur many times."""

    secrets: tuple[KeyReference, ...]
    config_maps: tuple[KeyReference, ...]
    claims: tuple[ClaimReference, ...]

    def claim_access(self) -> dict[str, Access]:
        """Return each claim once, with Write if anything writes to it."""
        access: dict[str, Access] = {}
        for claim in self.claims:
            if claim.access is Access.WRITE or claim.name not in access:
                access[claim.name] = claim.access
        return access


def references(spec: SyntheticDataJobSpec) -> References:
    """Collect what `spec` refers to. A URI that cannot be read refers to nothing."""
    return References(
        secrets=tuple(_secrets(spec)),
        config_maps=tuple(_config_maps(spec)),
        claims=tuple(_claims(spec)),
    )


def _secrets(spec: SyntheticDataJobSpec) -> Iterator[KeyReference]:
    for path, value in walk(spec, "spec"):
        match value, path.rpartition(".")[2]:
            case KeySelector(name=name, key=key), "secretKeyRef":
                yield KeyReference(name, key, _use(path), path)
            case NameReference(name=name), "secretRef":
                yield KeyReference(name, None, Use.FILE, path)
            case NameReference(name=name), _ if path.startswith("spec.runner.imagePullSecrets["):
                yield KeyReference(name, None, Use.IMAGE_PULL, path)


def _config_maps(spec: SyntheticDataJobSpec) -> Iterator[KeyReference]:
    for path, value in walk(spec, "spec"):
        if isinstance(value, KeySelector) and path.endswith(".configMapKeyRef"):
            yield KeyReference(value.name, value.key, _use(path), path)
    for uri, path in _read_from(spec):
        location = _location(uri)
        if location is not None and location.scheme == "configmap":
            yield KeyReference(location.name, location.path, Use.FILE, path)


def _read_from(spec: SyntheticDataJobSpec) -> Iterator[tuple[str, str]]:
    """Yield the URIs of what is only read, with their fields."""
    if spec.input is not None:
        yield spec.input.uri, "spec.input.uri"
    if spec.tokenizer is not None:
        yield spec.tokenizer.uri, "spec.tokenizer.uri"


def _use(path: str) -> Use:
    """Tell how a key gets into the pod: API keys and the user's own variables never as files."""
    if ".server." in path:
        return Use.SERVER
    if path.startswith("spec.runner.env[") or ".apiKey." in path:
        return Use.ENVIRONMENT
    return Use.FILE


def _claims(spec: SyntheticDataJobSpec) -> Iterator[ClaimReference]:
    uris = [(uri, Access.READ, path) for uri, path in _read_from(spec)]
    uris.append((spec.output.uri, Access.WRITE, "spec.output.uri"))
    if spec.retry_failed is not None:
        uris.append((spec.retry_failed.from_output, Access.READ, "spec.retryFailed.fromOutput"))
    for uri, access, path in uris:
        location = _location(uri)
        if location is not None and location.scheme == "pvc":
            yield ClaimReference(location.name, location.path, access, path)


def _location(uri: str) -> Location | None:
    try:
        return parse(uri)
    except UriError:
        return None
