"""Real object stores on loopback: S3, Azure Blob Storage, Google Cloud Storage.

SeaweedFS and versitygw speak S3, Azurite is Azure's, fake-gcs-server is an emulator of Google's
store, with `gcs_xml` before it for writes.

with serve("seaweedfs") as store:
    bucket = store.make_bucket()
    output = {"uri": f"{bucket}/out", "storage": store.options}

Each runs on free ports with its data in a temporary folder and is stopped by its process id.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime
import hashlib
import hmac
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import obstore

from kubesynth_api.v1alpha1.storage import InputSpec, OutputSpec
from kubesynth_runner.io.mounts import Mounts
from kubesynth_runner.io.object_stores import open_bucket
from kubesynth_testing import gcs_xml
from kubesynth_testing import object_store_programs as programs
from kubesynth_testing.ports import free_ports

SECRET = "store-credentials"
S3_STORES = ("seaweedfs", "versitygw")
STORES = (*S3_STORES, "azurite", "fake-gcs-server")
_START_SECONDS = 60.0
# What a store has to say when it is stopped interests nobody.
_STOP_SECONDS = 1.0
_ACCESS_KEY, _SECRET_KEY = "kubesynth", "kubesynth-secret"
# The account and the key of every Azurite, published with it.
_AZURE_ACCOUNT = "devstoreaccount1"
_AZURE_KEY = base64.b64encode(b"kubesynth-azurite-account-key-of-tests").decode()


@dataclasses.dataclass(frozen=True, slots=True)
class ObjectStoreServer:
    """A running store: what a job's `storage` must say, and the Secret that it refers to."""

    scheme: str
    options: Mapping[str, Any]
    secret_folder: Path
    create_bucket: Callable[[str], None]
    names: Iterator[int] = dataclasses.field(default_factory=lambda: itertools.count(1))

    @property
    def mounts(self) -> Mounts:
        """Where the credentials are."""
        return Mounts(secrets={SECRET: self.secret_folder})

    def make_bucket(self) -> str:
        """Create an empty bucket and return its URI."""
        name = f"bucket-{next(self.names)}"
        self.create_bucket(name)
        return f"{self.scheme}://{name}"


@contextlib.contextmanager
def serve(kind: str) -> Iterator[ObjectStoreServer]:
    """Start a store, one of STORES."""
    with (
        tempfile.TemporaryDirectory(prefix="object-store-") as name,
        _STARTERS[kind](Path(name)) as server,
    ):
        yield server


@contextlib.contextmanager
def _seaweedfs(folder: Path) -> Iterator[ObjectStoreServer]:
    identity = {
        "name": "test",
        "credentials": [{"accessKey": _ACCESS_KEY, "secretKey": _SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    names = ("master", "volume", "filer", "s3")
    drawn = iter(free_ports(2 * len(names)))
    ports = {name: next(drawn) for name in names}
    grpc = {name: next(drawn) for name in names}
    command = [
        str(Path(sys.executable).with_name("weed")),
        *("server", f"-dir={folder}/data", "-s3", f"-s3.config={folder}/s3.json"),
        *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"),
        *("-master.volumeSizeLimitMB=64", "-volume.max=200", f"-filer.localSocket={folder}/filer"),
        *(f"-{name}.port={port}" for name, port in ports.items()),
        *(f"-{name}.port.grpc={port}" for name, port in grpc.items()),
        *("-s3.port.iceberg=0", "-s3.port.lance=0", f"-debug.port={free_ports(1)[0]}"),
    ]

    def create(bucket: str) -> None:
        _request("POST", f"http://127.0.0.1:{ports['filer']}/buckets/{bucket}/")

    # A bucket has volumes of its own; by default seven, made at its first write.
    environment = {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}
    with _process(command, folder, f"http://127.0.0.1:{ports['s3']}/", environment):
        _wait(lambda: create("ready"), "seaweedfs")
        yield _s3(folder, ports["s3"], create)


def _s3(folder: Path, port: int, create: Callable[[str], None]) -> ObjectStoreServer:
    secret = _write_secret(
        folder, {"AWS_ACCESS_KEY_ID": _ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": _SECRET_KEY}
    )
    options = {
        "endpoint": f"http://127.0.0.1:{port}",
        "region": "us-east-1",
        "pathStyle": True,
        "credentials": {"secretRef": {"name": SECRET}},
    }
    return ObjectStoreServer("s3", options, secret, create)


@contextlib.contextmanager
def _azurite(folder: Path) -> Iterator[ObjectStoreServer]:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}/{_AZURE_ACCOUNT}"
    command = [
        *("node", str(programs.azurite()), "--silent", "--skipApiVersionCheck"),
        *("--disableTelemetry", "--location", str(folder), "--blobHost", "127.0.0.1"),
        *("--blobPort", str(port)),
    ]

    def create(bucket: str) -> None:
        target = f"{url}/{bucket}?restype=container"
        _request("PUT", target, _signed_container_request(bucket))

    environment = {"AZURITE_ACCOUNTS": f"{_AZURE_ACCOUNT}:{_AZURE_KEY}"}
    with _process(command, folder, url, environment):
        secret = _write_secret(
            folder,
            {
                "AZURE_STORAGE_ACCOUNT_NAME": _AZURE_ACCOUNT,
                "AZURE_STORAGE_ACCOUNT_KEY": _AZURE_KEY,
            },
        )
        options = {"endpoint": url, "credentials": {"secretRef": {"name": SECRET}}}
        yield ObjectStoreServer("az", options, secret, create)


def _signed_container_request(container: str) -> dict[str, str]:
    """Return the headers of "create container", signed as Azure's Shared Key scheme says."""
    date = datetime.datetime.now(datetime.UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    headers = {"x-ms-date": date, "x-ms-version": "2021-12-02"}
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    # A server with the account in its path has it twice in what is signed.
    resource = f"/{_AZURE_ACCOUNT}/{_AZURE_ACCOUNT}/{container}\nrestype:container"
    text = "PUT" + "\n" * 12 + lines + resource
    digest = hmac.new(base64.b64decode(_AZURE_KEY), text.encode(), hashlib.sha256).digest()
    signature = base64.b64encode(digest).decode()
    return {**headers, "Authorization": f"SharedKey {_AZURE_ACCOUNT}:{signature}"}


@contextlib.contextmanager
def _versitygw(folder: Path) -> Iterator[ObjectStoreServer]:
    """A gateway whose buckets are folders."""
    (port,) = free_ports(1)
    (folder / "data").mkdir()
    command = [
        *(str(programs.versitygw()), "--access", _ACCESS_KEY, "--secret", _SECRET_KEY),
        *("--region", "us-east-1", "--port", f"127.0.0.1:{port}", "--quiet"),
        *("posix", str(folder / "data")),
    ]
    with _process(command, folder, f"http://127.0.0.1:{port}/"):
        yield _s3(folder, port, lambda bucket: (folder / "data" / bucket).mkdir())


@contextlib.contextmanager
def _fake_gcs_server(folder: Path) -> Iterator[ObjectStoreServer]:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [
        *(str(programs.fake_gcs_server()), "-scheme", "http", "-backend", "memory"),
        *("-host", "127.0.0.1", "-port", str(port), "-public-host", f"127.0.0.1:{port}"),
        *("-external-url", url, "-log-level", "error"),
    ]

    def create(bucket: str) -> None:
        body = json.dumps({"name": bucket}).encode()
        _request("POST", f"{url}/storage/v1/b?project=test", _JSON, body)

    # An account as Google writes them, but one that asks for no token: emulators have none to give.
    account = {"client_email": "", "private_key": "", "private_key_id": "", "disable_oauth": True}
    with _process(command, folder, url), gcs_xml.serve(f"127.0.0.1:{port}") as endpoint:
        secret = _write_secret(folder, {"GOOGLE_SERVICE_ACCOUNT": json.dumps(account)})
        options = {"endpoint": endpoint, "credentials": {"secretRef": {"name": SECRET}}}
        yield ObjectStoreServer("gs", options, secret, create)


_JSON = {"Content-Type": "application/json"}
_STARTERS = {
    "seaweedfs": _seaweedfs,
    "versitygw": _versitygw,
    "azurite": _azurite,
    "fake-gcs-server": _fake_gcs_server,
}


def _write_secret(folder: Path, keys: Mapping[str, str]) -> Path:
    secret = folder / "secret"
    secret.mkdir()
    for key, value in keys.items():
        (secret / key).write_text(value)
    return secret


@contextlib.contextmanager
def _process(
    command: Sequence[str], folder: Path, url: str, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run a server; its output goes to a file that is shown if it does not start."""
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={"HOME": str(folder), "PATH": _path(), **(environment or {})},
        )
    try:
        _wait(lambda: _answers(url, process, log), command[0])
        yield
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _path() -> str:
    node = shutil.which("node")
    return f"{Path(node).parent}:/usr/bin:/bin" if node else "/usr/bin:/bin"


def _answers(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    if process.poll() is not None:
        raise RuntimeError(f"exit {process.returncode}: {log.read_text()[-2000:]}")
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError as answer:
        answer.close()  # it speaks, whatever it thinks of us


def _wait(attempt: Callable[[], None], what: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            return attempt()
        except OSError as exc:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{what} did not start: {exc}") from exc
        time.sleep(0.1)


def _request(
    method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> None:
    request = urllib.request.Request(url, body, dict(headers or {}), method=method)
    try:
        urllib.request.urlopen(request, timeout=30).close()
    except urllib.error.HTTPError as error:
        with error:
            raise OSError(f"{method} {url}: {error.code} {error.read()[:500]!r}") from error


def output_spec(server: ObjectStoreServer, prefix: str = "out") -> OutputSpec:
    """Return an output in a bucket of its own."""
    return OutputSpec.model_validate(
        {"uri": f"{server.make_bucket()}/{prefix}", "storage": server.options}
    )


def input_spec(server: ObjectStoreServer, uri: str, **fields: Any) -> InputSpec:
    """Return an input in a bucket of the store."""
    return InputSpec.model_validate({"uri": uri, "storage": dict(server.options), **fields})


def upload(server: ObjectStoreServer, bucket: str, objects: Mapping[str, bytes]) -> None:
    """Put objects into a bucket that `make_bucket` has returned."""
    spec = input_spec(server, f"{bucket}/")
    store = open_bucket(spec.uri, spec.storage, server.mounts, field="input")

    def put(key: str, data: bytes) -> None:
        obstore.put(store, key, data, use_multipart=False)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda item: put(*item), objects.items()))
