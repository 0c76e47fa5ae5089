"""Input from web servers: with ranges, without, and with everything else that servers do."""

from __future__ import annotations

import asyncio
import functools
import gzip
import http.server
import json
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trustme
from aiohttp import web

from kubesynth_api.conditions import Reason
from kubesynth_api.v1alpha1.storage import InputSpec
from kubesynth_runner import errors
from kubesynth_runner.io import http_inputs, inputs, partition, source, survey
from kubesynth_runner.io.mounts import Mounts

ROWS = 20_000
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def lines(rows: int = ROWS) -> bytes:
    return b"".join(json.dumps({"text": f"text {n}"}).encode() + b"\n" for n in range(rows))


def texts(spec: InputSpec, shards: int = 1, mounts: Mounts | None = None) -> list[str]:
    origin = inputs.open_source(spec, mounts or Mounts())
    seen = survey.survey(origin, inputs.find(origin, spec), spec)
    found = []
    for part in partition.assign(seen.files, shards, None, []):
        pod = inputs.open_source(spec, mounts or Mounts())
        for item in source.read_partition(part, spec, pod, bytes(part.records // 8 + 1)):
            found.append(item.record.columns["text"])
    return found


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = http_inputs.RETRIES.new(total=3, backoff_factor=0.01, backoff_jitter=0)
    monkeypatch.setattr(http_inputs, "RETRIES", quick)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.jsonl").write_bytes(lines())
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines()))
    table = pa.table({"text": [f"text {n}" for n in range(ROWS)]})
    pq.write_table(table, tmp_path / "c.parquet", row_group_size=3000)
    (tmp_path / "empty.jsonl").write_bytes(b"")
    return tmp_path


class Server:
    """A web server in a thread; `asked` are the ranges of its requests."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.app = web.Application()
        self.asked: list[str | None] = []
        self.url = ""
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._runner: web.AppRunner | None = None
        self._thread = threading.Thread(target=self._loop.run_forever)

    def route(self, path: str, handler: Handler) -> None:
        self.app.router.add_get(path, handler, allow_head=False)

    def file(self, path: str, file: Path) -> None:
        async def send(request: web.Request) -> web.StreamResponse:
            self.asked.append(request.headers.get("Range"))
            return web.FileResponse(file)

        self.route(path, send)

    def start(self) -> str:
        async def start() -> int:
            self._runner = web.AppRunner(self.app)
            await self._runner.setup()
            site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls)
            await site.start()
            return int(self._runner.addresses[0][1])

        self._thread.start()
        port = asyncio.run_coroutine_threadsafe(start(), self._loop).result()
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{port}"
        return self.url

    def stop(self) -> None:
        if self._runner is not None:
            asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.stop()


@pytest.fixture
def plain(folder: Path) -> Iterator[str]:
    """A server without ranges and ETags."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_ranges_are_used_where_there_are_any(server: Server, folder: Path) -> None:
    for name in ("a.jsonl", "b.jsonl.gz", "c.parquet"):
        server.file(f"/{name}", folder / name)
    url = server.start()
    for name in ("a.jsonl", "b.jsonl.gz", "c.parquet"):
        for shards in (1, 5):
            assert texts(InputSpec(uri=f"{url}/{name}"), shards) == [
                f"text {n}" for n in range(ROWS)
            ]
    assert all(server.asked)


def test_files_are_downloaded_where_there_are_none(plain: str) -> None:
    for name in ("a.jsonl", "b.jsonl.gz", "c.parquet"):
        for shards in (1, 3):
            assert texts(InputSpec(uri=f"{plain}/{name}"), shards) == [
                f"text {n}" for n in range(ROWS)
            ]


def test_an_empty_file_is_a_file(server: Server, folder: Path, plain: str) -> None:
    server.file("/empty.jsonl", folder / "empty.jsonl")
    for url in (server.start(), plain):
        assert texts(InputSpec(uri=f"{url}/empty.jsonl")) == []


def test_a_download_has_a_greatest_size(plain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_inputs, "DOWNLOAD_MAX_BYTES", 1000)
    with pytest.raises(errors.ConfigurationError, match=r"input\.uri .*does not answer ranges"):
        texts(InputSpec(uri=f"{plain}/a.jsonl"))


def test_the_query_of_a_signed_url_is_sent_and_is_no_part_of_the_name(
    server: Server, folder: Path
) -> None:
    async def send(request: web.Request) -> web.StreamResponse:
        if request.query.get("signature") != "s3cret":
            raise web.HTTPForbidden
        return web.FileResponse(folder / "a.jsonl")

    server.route("/a.jsonl", send)
    spec = InputSpec(uri=f"{server.start()}/a.jsonl?signature=s3cret")
    origin = inputs.open_source(spec, Mounts())
    (file,) = origin.find()
    assert file.uri == f"{server.url}/a.jsonl"
    assert len(texts(spec)) == ROWS
    with pytest.raises(errors.ConfigurationError, match="403") as caught:
        texts(InputSpec(uri=f"{server.url}/a.jsonl?signature=wrong"))
    assert "wrong" not in str(caught.value)


def test_redirects_are_followed(server: Server, folder: Path) -> None:
    async def send(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("/real")

    async def loop(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("/loop.jsonl")

    server.route("/a.jsonl", send)
    server.route("/loop.jsonl", loop)
    server.file("/real", folder / "a.jsonl")
    url = server.start()
    assert len(texts(InputSpec(uri=f"{url}/a.jsonl"))) == ROWS
    with pytest.raises(errors.ConfigurationError, match="too many redirects"):
        texts(InputSpec(uri=f"{url}/loop.jsonl"))


def test_a_file_that_changes_is_refused_by_its_name(
    server: Server, folder: Path, plain: str
) -> None:
    server.file("/a.jsonl", folder / "a.jsonl")
    for url in (server.start(), plain):
        (folder / "a.jsonl").write_bytes(lines())
        spec = InputSpec(uri=f"{url}/a.jsonl")
        origin = inputs.open_source(spec, Mounts())
        seen = survey.survey(origin, origin.find(), spec)
        (part,) = partition.assign(seen.files, 1, None, [])
        rows = source.read_partition(
            part, spec, inputs.open_source(spec, Mounts()), bytes(part.records)
        )
        (folder / "a.jsonl").write_bytes(b'{"text": "other"}\n')
        with pytest.raises(errors.ConfigurationError, match=r"a\.jsonl has changed") as caught:
            list(rows)
        assert caught.value.reason is Reason.INPUT_CHANGED


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (404, errors.ConfigurationError, "there is no such file"),
        (401, errors.ConfigurationError, "no credentials"),
        (403, errors.ConfigurationError, "no credentials"),
        (418, errors.ConfigurationError, "418"),
        (503, errors.RetryLaterError, "503"),
        (429, errors.RetryLaterError, "429"),
    ],
)
def test_a_refusal_names_the_field(
    server: Server, status: int, kind: type[errors.RunnerError], said: str
) -> None:
    async def refuse(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    server.route("/a.jsonl", refuse)
    with pytest.raises(kind, match=rf"input\.uri .*a\.jsonl: .*{said}"):
        texts(InputSpec(uri=f"{server.start()}/a.jsonl"))


def test_what_passes_is_tried_again(server: Server) -> None:
    data, asked = lines(), 0

    async def stumble(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if asked % 3 == 1:
            return web.Response(status=503, headers={"Retry-After": "0"})
        wanted = request.http_range
        start, stop = wanted.start or 0, min(wanted.stop or len(data), len(data))
        part = data[start:stop]
        headers = {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}
        headers |= {"Content-Length": str(len(part)), "ETag": '"1"'}
        response = web.StreamResponse(status=206, headers=headers)
        await response.prepare(request)
        if asked % 3 == 2 and len(part) > 1 and request.transport is not None:
            await response.write(part[: len(part) // 2])
            request.transport.close()
            return response
        await response.write(part)
        return response

    server.route("/a.jsonl", stumble)
    assert len(texts(InputSpec(uri=f"{server.start()}/a.jsonl"))) == ROWS


def test_a_server_that_is_not_there_is_worth_trying_again() -> None:
    with pytest.raises(errors.RetryLaterError, match=r"input\.uri http://127\.0\.0\.1:9/a\.jsonl"):
        texts(InputSpec(uri="http://127.0.0.1:9/a.jsonl"))


def test_certificates_are_checked_against_the_bundle(folder: Path, tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = Server(context)
    server.file("/a.jsonl", folder / "a.jsonl")
    try:
        uri = f"{server.start()}/a.jsonl"
        with pytest.raises(errors.ConfigurationError, match=r"input\.storage\.caBundle"):
            texts(InputSpec(uri=uri))
        authority.cert_pem.write_to_path(tmp_path / "ca.crt")
        bundle = {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}}
        spec = InputSpec.model_validate({"uri": uri, "storage": {"caBundle": bundle}})
        assert len(texts(spec, mounts=Mounts(config_maps={"ca": tmp_path}))) == ROWS
    finally:
        server.stop()


def test_urls_that_cannot_work_are_said() -> None:
    for uri, said in (
        ("https://user:secret@host/a.jsonl", "must not hold a user"),
        ("https://host/data", "set input.format"),
    ):
        with pytest.raises(errors.ConfigurationError, match=said) as caught:
            texts(InputSpec(uri=uri))
        assert "secret" not in str(caught.value)
