"""Copies within a bucket take as long as they take: longer than any other request may."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kubesynth_api.v1alpha1.storage import OutputSpec
from kubesynth_runner.io import object_stores
from kubesynth_runner.io.locations import open_storage
from kubesynth_runner.io.mounts import Mounts

COPY_SECONDS = 1.5


class _SlowlyCopying(BaseHTTPRequestHandler):
    """A fake of the S3 protocol that takes everything, and its time for copies."""

    protocol_version = "HTTP/1.1"
    copies = 0

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "x-amz-copy-source" not in self.headers:
            self._answer(b"")
            return
        _SlowlyCopying.copies += 1
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
    _SlowlyCopying.copies = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), _SlowlyCopying) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_slow_copy_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setattr(object_stores, "REQUEST_SECONDS", COPY_SECONDS / 2)
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        (tmp_path / key).write_text("key")
    options = {
        "endpoint": url,
        "pathStyle": True,
        "credentials": {"secretRef": {"name": "store"}},
    }
    output = OutputSpec.model_validate({"uri": "s3://bucket/out", "storage": options})
    storage = open_storage(output, Mounts(secrets={"store": tmp_path}))
    storage.put("staged", b"row")
    storage.publish("staged", "final")
    assert _SlowlyCopying.copies == 1
