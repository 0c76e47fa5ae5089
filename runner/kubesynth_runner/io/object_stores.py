"""Opening the object store of a URI: addresses, credentials, certificates.

Credentials are the keys of a Secret, named as the stores' own tools name them. Without a Secret it
is the environment and the identity of the pod that count.
"""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from obstore import exceptions, store

from kubesynth_api import uris
from kubesynth_api.conditions import Reason
from kubesynth_api.v1alpha1.storage import StorageOptions
from kubesynth_runner import errors
from kubesynth_runner.io.mounts import Mounts

if TYPE_CHECKING:
    from obstore.store import (
        AzureConfig,
        ClientConfig,
        GCSConfig,
        ObjectStore,
        RetryConfig,
        S3Config,
    )

SCHEMES: frozenset[uris.Scheme] = frozenset({"s3", "gs", "az"})
# What is unavailable for longer ends the attempt, checkpointed; the next one goes on.
_RETRIES: RetryConfig = {"max_retries": 10, "retry_timeout": datetime.timedelta(seconds=60)}
# What a store may take for a request, and for a copy of a part within the bucket.
REQUEST_SECONDS = 30.0
COPY_SECONDS = 300.0
_PREFIXES: dict[str, str] = {"s3": "aws_", "gs": "google_", "az": "azure_"}
_DEFAULT_REGION = "us-east-1"
_DENIED = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
# A request that is wrong stays wrong; timeouts, conflicts and throttling pass.
_WRONG_REQUEST = re.compile(r"status(?: code)?:? (?:3\d\d|4(?!08|09|29)\d\d)", re.IGNORECASE)
_DENIED_STATUS = re.compile(r"status(?: code)?:? 40[13]", re.IGNORECASE)
_WRONG_REGION = "incorrectly configured region"
# Where a client without credentials looks for those of the machine.
_METADATA_SERVERS = ("169.254.", "metadata.google.internal")
_RIGHTS = {"input": "list and read", "output": "list, read, write and delete"}


def is_object_uri(uri: str) -> bool:
    """Return whether a URI names a bucket."""
    return uri.partition("://")[0] in SCHEMES


def open_bucket(
    uri: str,
    options: StorageOptions | None,
    mounts: Mounts,
    *,
    field: str,
    request_seconds: float = REQUEST_SECONDS,
) -> ObjectStore:
    """Return the bucket or container of an s3, gs or az URI. Connects to nothing.

    Args:
        uri: the URI; only its scheme and its bucket count.
        options: the `storage` of the input or output.
        mounts: where Secrets and ConfigMaps are.
        field: input or output, for messages.
        request_seconds: how long a request may take.

    Raises:
        ConfigurationError: credentials or options cannot be used.
    """
    location = uris.parse(uri)
    options = options or StorageOptions()
    config = _credentials(location.scheme, options, mounts, field)
    client = _client_options(options, mounts, field)
    client["timeout"] = datetime.timedelta(seconds=request_seconds)
    try:
        match location.scheme:
            case "s3":
                config |= _s3_config(options, config)
                return store.S3Store(
                    location.name,
                    config=cast("S3Config", config),
                    client_options=client,
                    retry_config=_RETRIES,
                )
            case "gs":
                if options.endpoint is not None:
                    config["base_url"] = options.endpoint.rstrip("/")
                return store.GCSStore(
                    location.name,
                    config=cast("GCSConfig", config),
                    client_options=client,
                    retry_config=_RETRIES,
                )
            case _:
                if options.endpoint is not None:
                    config["endpoint"] = options.endpoint.rstrip("/")
                return store.AzureStore(
                    location.name,
                    config=cast("AzureConfig", config),
                    client_options=client,
                    retry_config=_RETRIES,
                )
    except (exceptions.BaseError, ValueError, TypeError) as exc:
        raise _unusable(field, f"{uri}: {first_line(exc)}; see {field}.storage") from exc


def _s3_config(options: StorageOptions, known: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if options.region is not None:
        config["region"] = options.region
    if options.endpoint is not None:
        config["endpoint"] = options.endpoint.rstrip("/")
        # Stores with an address of their own rarely care, but requests are signed with a region.
        if options.region is None and not {"region", "default_region"} & set(known):
            config["region"] = _DEFAULT_REGION
    if options.path_style is not None:
        config["virtual_hosted_style_request"] = not options.path_style
    return config


def _credentials(
    scheme: uris.Scheme, options: StorageOptions, mounts: Mounts, field: str
) -> dict[str, Any]:
    """Return the keys of the credentials' Secret that are this store's, as obstore names them."""
    if options.credentials is None:
        return {}
    name = options.credentials.secret_ref.name
    folder = mounts.secret(name)
    prefix = _PREFIXES[scheme]
    where = f"{field}.storage.credentials: Secret {name!r}"
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
        texts = {path: path.read_text(encoding="utf-8").strip() for path in files}
    except (OSError, UnicodeDecodeError) as exc:
        raise errors.ConfigurationError(
            Reason.REFERENCE_NOT_FOUND, f"{where} cannot be read: {exc}"
        ) from exc
    config = {
        key: value
        for path, text in texts.items()
        if path.name.lower().startswith(prefix)
        for key, value in [_entry(path, text, prefix)]
    }
    if not config:
        raise errors.ConfigurationError(
            Reason.REFERENCE_NOT_FOUND,
            f"{where} has no key that starts with {prefix.upper()}; it has "
            f"{', '.join(path.name for path in files) or 'no keys'}",
        )
    return config


def _entry(path: Path, text: str, prefix: str) -> tuple[str, str]:
    """Return a Secret's key as an option: AWS_REGION is region; files of Google's may be inline."""
    key = path.name.lower()
    if key == "google_service_account" and text.startswith("{"):
        return "service_account_key", text
    if key == "google_application_credentials" and text.startswith("{"):
        return "application_credentials", str(path)
    return key.removeprefix(prefix).removeprefix("storage_"), text


def _client_options(options: StorageOptions, mounts: Mounts, field: str) -> ClientConfig:
    client: ClientConfig = {}
    if options.endpoint is not None and options.endpoint.startswith("http://"):
        client["allow_http"] = True
    bundle = read_ca_bundle(options, mounts, field)
    if bundle is not None:
        client["root_certificate"] = bundle
    return client


def read_ca_bundle(options: StorageOptions | None, mounts: Mounts, field: str) -> bytes | None:
    """Return the certificates that `storage.caBundle` names, if it does.

    Raises:
        ConfigurationError: they are not there.
    """
    if options is None or options.ca_bundle is None:
        return None
    bundle = options.ca_bundle
    reference = bundle.config_map_key_ref or bundle.secret_key_ref
    assert reference is not None, "exactly one of the two is set"
    is_public = bundle.config_map_key_ref is not None
    folder = (mounts.config_map if is_public else mounts.secret)(reference.name)
    try:
        return (folder / reference.key).read_bytes()
    except OSError as exc:
        raise errors.ConfigurationError(
            Reason.REFERENCE_NOT_FOUND,
            f"{field}.storage.caBundle: {reference.name!r}, key {reference.key!r}: {exc}",
        ) from exc


def store_error(exc: exceptions.BaseError, field: str, uri: str) -> errors.RunnerError:
    """Return what an error of the store, repeated if that could help, means for the run.

    Args:
        exc: the error.
        field: input or output.
        uri: what the request was about: `FIELD.uri`, or a file below it.
    """
    said = first_line(exc)
    reason = _reason(field)
    if isinstance(exc, _DENIED) or _DENIED_STATUS.search(str(exc)):
        return errors.ConfigurationError(
            reason,
            f"{field}.storage.credentials: the store refuses access; they must allow to "
            f"{_RIGHTS[field]} objects below {field}.uri ({uri}): {said}",
        )
    problem = f"{field}.uri {uri}: {said}"
    if _WRONG_REGION in str(exc):
        return errors.ConfigurationError(
            reason, f"{problem}; the bucket is elsewhere: correct {field}.storage.region"
        )
    if _WRONG_REQUEST.search(str(exc)):
        return errors.ConfigurationError(
            reason,
            f"{problem}; is there such a bucket or container, and is {field}.storage right?",
        )
    if isinstance(exc, exceptions.InvalidPathError):  # such as a//b and a/./b
        return errors.ConfigurationError(
            reason, f"{problem}; rename the object, or give a folder without such names"
        )
    if any(server in str(exc) for server in _METADATA_SERVERS):
        problem += f"; the pod has no identity of its own: set {field}.storage.credentials"
    return errors.RetryLaterError(reason, problem)


def missing_bucket(exc: BaseException, field: str, uri: str) -> errors.ConfigurationError:
    """Return the error that the bucket is not there, where nothing else can be missing."""
    return errors.ConfigurationError(
        _reason(field),
        f"{field}.uri {uri}: there is no such bucket or container; create it, or "
        f"correct {field}.uri or {field}.storage: {first_line(exc)}",
    )


def _reason(field: str) -> Reason:
    return Reason.OUTPUT_UNWRITABLE if field == "output" else Reason.INPUT_UNREADABLE


def _unusable(field: str, message: str) -> errors.ConfigurationError:
    return errors.ConfigurationError(_reason(field), f"{field}.uri {message}")


def first_line(exc: BaseException) -> str:
    """Return what an error of the store says, without the dump that follows it."""
    return str(exc).split("\n", 1)[0][:500]
