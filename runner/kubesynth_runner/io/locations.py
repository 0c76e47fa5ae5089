"""From the URIs of a manifest to folders of this machine, and to buckets."""

from __future__ import annotations

from pathlib import Path

from kubesynth_api import uris
from kubesynth_api.conditions import Reason
from kubesynth_api.v1alpha1.storage import OutputSpec
from kubesynth_runner import errors
from kubesynth_runner.io import object_stores
from kubesynth_runner.io.local_storage import LocalStorage
from kubesynth_runner.io.mounts import Mounts
from kubesynth_runner.io.object_storage import ObjectStorage
from kubesynth_runner.io.storage import Storage


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
    bucket, copier = (
        object_stores.open_bucket(
            uri, output.storage, mounts, field="output", request_seconds=seconds
        )
        for seconds in (object_stores.REQUEST_SECONDS, object_stores.COPY_SECONDS)
    )
    return ObjectStorage(bucket, copier, uris.parse(uri).path, uri)
