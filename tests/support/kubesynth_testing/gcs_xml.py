"""A fake: what fake-gcs-server lacks of Google's XML interface, put in front of it.

The emulator answers reads, ranges, listings and deletes of that interface, which is the one that
our client speaks, but takes writes through the JSON interface alone. This server translates the
writes: what makes a create exclusive, `x-goog-if-generation-match: 0`, becomes the emulator's own
`ifGenerationMatch=0`, and the emulator decides. Everything else is passed on as it is, except that
a missing bucket is 404 NoSuchBucket, as Google says it, where the emulator has a 500.

with serve("127.0.0.1:4443") as url:
    ...  # url is the endpoint
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import itertools
import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

_BOUNDARY = "kubesynth"
_NOT_PASSED_ON = frozenset({"connection", "content-length", "date", "server", "transfer-encoding"})


@dataclasses.dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


class _Emulator:
    """The emulator, and the uploads in parts that are under way."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.parts: dict[str, dict[int, bytes]] = {}
        self.numbers = itertools.count(1)
        self._local = threading.local()

    def ask(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> _Answer:
        """Send a request on this thread's connection."""
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = http.client.HTTPConnection(self.address)
        try:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            return _Answer(answer.status, answer.read(), dict(answer.getheaders()))
        except (http.client.HTTPException, OSError):
            connection.close()
            raise

    def close(self) -> None:
        """Close this thread's connection."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()

    def write(self, bucket: str, key: str, data: bytes, condition: str | None) -> _Answer:
        """Create or replace an object; the emulator makes the condition hold."""
        if self.ask("GET", f"/storage/v1/b/{bucket}", {}).status == 404:
            return _NO_BUCKET
        kind = {"Content-Type": f"multipart/related; boundary={_BOUNDARY}"}
        body = (
            f"--{_BOUNDARY}\r\nContent-Type: application/json\r\n\r\n{json.dumps({'name': key})}"
            f"\r\n--{_BOUNDARY}\r\nContent-Type: application/octet-stream\r\n\r\n"
        ).encode()
        body += data + f"\r\n--{_BOUNDARY}--\r\n".encode()
        query = "" if condition is None else f"&ifGenerationMatch={condition}"
        path = f"/upload/storage/v1/b/{bucket}/o?uploadType=multipart{query}"
        answer = self.ask("POST", path, kind, body)
        if answer.status != 200:
            return _Answer(answer.status, answer.body)
        made = json.loads(answer.body)
        headers = {"ETag": f'"{made["etag"]}"', "x-goog-generation": made["generation"]}
        return _Answer(200, b"", headers)

    def copy(self, origin: str, bucket: str, key: str) -> _Answer:
        """Copy an object; `origin` is its bucket and key."""
        source_bucket, _, source = unquote(origin).lstrip("/").partition("/")
        path = (
            f"/storage/v1/b/{source_bucket}/o/{quote(source, safe='')}"
            f"/rewriteTo/b/{bucket}/o/{quote(key, safe='')}"
        )
        answer = self.ask("POST", path, {"Content-Type": "application/json"}, b"{}")
        return _Answer(answer.status, b"" if answer.status == 200 else answer.body)


_NO_BUCKET = _Answer(404, b"<Error><Code>NoSuchBucket</Code></Error>")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    emulator: _Emulator  # set by `serve`

    def finish(self) -> None:
        super().finish()
        self.emulator.close()

    def _target(self) -> tuple[str, str, dict[str, list[str]]]:
        parts = urlsplit(self.path)
        bucket, _, key = parts.path.lstrip("/").partition("/")
        return unquote(bucket), unquote(key), parse_qs(parts.query, keep_blank_values=True)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, answer: _Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in _NOT_PASSED_ON:
                self.send_header(name, value)
        length = answer.headers.get("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def do_GET(self) -> None:
        """Pass a read or a listing on."""
        wanted = {
            name: self.headers[name] for name in ("Range", "If-Match") if name in self.headers
        }
        answer = self.emulator.ask(self.command, self.path, wanted)
        is_lost = answer.status == 500 and b"no bucket named" in answer.body
        self._send(_NO_BUCKET if is_lost else answer)

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        """Write an object or a part of one, or copy one."""
        bucket, key, query = self._target()
        data = self._body()
        if "uploadId" in query:
            self.emulator.parts[query["uploadId"][0]][int(query["partNumber"][0])] = data
            self._send(_Answer(200, b"", {"ETag": f'"{query["partNumber"][0]}"'}))
        elif "x-goog-copy-source" in self.headers:
            self._send(self.emulator.copy(self.headers["x-goog-copy-source"], bucket, key))
        else:
            condition = self.headers.get("x-goog-if-generation-match")
            self._send(self.emulator.write(bucket, key, data, condition))

    def do_POST(self) -> None:
        """Begin or complete an upload in parts."""
        bucket, key, query = self._target()
        self._body()
        if "uploads" in query:
            name = str(next(self.emulator.numbers))
            self.emulator.parts[name] = {}
            result = "InitiateMultipartUploadResult"
            text = f"<{result}><UploadId>{name}</UploadId></{result}>"
            self._send(_Answer(200, text.encode()))
            return
        parts = self.emulator.parts.pop(query["uploadId"][0])
        answer = self.emulator.write(bucket, key, b"".join(parts[n] for n in sorted(parts)), None)
        if answer.status == 200:
            result = "CompleteMultipartUploadResult"
            text = f"<{result}><ETag>{answer.headers['ETag']}</ETag></{result}>"
            answer = _Answer(200, text.encode(), answer.headers)
        self._send(answer)

    def do_DELETE(self) -> None:
        """Give an upload up, or pass a delete on."""
        _, _, query = self._target()
        if "uploadId" in query:
            self.emulator.parts.pop(query["uploadId"][0], None)
            self._send(_Answer(204))
        else:
            self._send(self.emulator.ask("DELETE", self.path, {}))

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serve(emulator: str) -> Iterator[str]:
    """Serve in front of an emulator at HOST:PORT; the value is the URL."""
    handler = type("Handler", (_Handler,), {"emulator": _Emulator(emulator)})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
