"""What stores do that those of the integration tests do not: slow copies, names like no path."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from kubesynth_api.conditions import Reason
from kubesynth_api.v1alpha1.storage import InputSpec, OutputSpec
from kubesynth_runner import errors
from kubesynth_runner.io import inputs, object_stores
from kubesynth_runner.io.locations import open_storage
from kubesynth_runner.io.mounts import Mounts

COPY_SECONDS = 1.5


class _FakeS3(BaseHTTPRequestHandler):
    """A fake of the S3 protocol that takes everything, and its time for copies."""

    protocol_version = "HTTP/1.1"
    copies = 0
    keys: tuple[str, ...] = ()

    def do_HEAD(self) -> None:
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        listed = (
            f"<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            "<ETag>e</ETag><Size>1</Size></Contents>"
            for key in self.keys
        )
        body = f"<ListBucketResult>{''.join(listed)}<IsTruncated>false</IsTruncated>"
        self._answer(f"{body}</ListBucketResult>".encode())

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "x-amz-copy-source" not in self.headers:
            self._answer(b"")
            return
        _FakeS3.copies += 1
        time.sleep(COPY_SECONDS)
        self._answer(
            b"<CopyObjectResult><ETag>e</ETag>"
            b"<LastModified>2026-01-01T00:00:00.000Z</LastModified></CopyObjectResult>"
        )

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        deleted = b"<Deleted><Key>out/staged</Key></Deleted>"
        self._answer(b"<DeleteResult>" + deleted + b"</DeleteResult>")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("ETag", "e")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    _FakeS3.copies = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), _FakeS3) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def options(url: str) -> dict[str, Any]:
    credentials = {"secretRef": {"name": "store"}}
    return {"endpoint": url, "pathStyle": True, "credentials": credentials}


def mounts(folder: Path) -> Mounts:
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        (folder / key).write_text("key")
    return Mounts(secrets={"store": folder})


def test_a_slow_copy_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setattr(object_stores, "REQUEST_SECONDS", COPY_SECONDS / 2)
    output = OutputSpec.model_validate({"uri": "s3://bucket/out", "storage": options(url)})
    storage = open_storage(output, mounts(tmp_path))
    storage.put("staged", b"row")
    storage.publish("staged", "final")
    assert _FakeS3.copies == 1


@pytest.mark.parametrize("key", ["in/sub//a.jsonl", "in/./a.jsonl"])
def test_a_name_that_is_no_path_is_for_a_person_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, key: str
) -> None:
    monkeypatch.setattr(_FakeS3, "keys", ("in/b.jsonl", key))
    spec = InputSpec.model_validate({"uri": "s3://bucket/in", "storage": options(url)})
    source = inputs.open_source(spec, mounts(tmp_path))
    with pytest.raises(errors.ConfigurationError, match="rename the object") as caught:
        source.find()
    assert caught.value.reason is Reason.INPUT_UNREADABLE
    assert key in str(caught.value)
