"""Models and input behind an HTTP proxy that wants a user and a password."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from urllib.parse import quote

import pytest
import yarl
from aiohttp import web

from kubesynth_api.v1alpha1.storage import InputSpec
from kubesynth_runner import errors, telemetry
from kubesynth_runner.io import http_inputs, inputs
from kubesynth_runner.io.mounts import Mounts
from kubesynth_runner.llm.base import CompletionRequest, Message
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.openai import OpenAIChatClient, OpenAIEndpoint
from kubesynth_testing.fake_llm import MODEL, FakeLlm
from kubesynth_testing.http_proxy import PASSWORD, USER, HttpProxy
from kubesynth_testing.ports import free_port

Connect = Callable[[OpenAIEndpoint], OpenAIChatClient]
HELLO = CompletionRequest((Message("user", "Hello"),))
SIGNED = "http://data.example/a.jsonl?X-Amz-Signature=f00d"


def _use(
    monkeypatch: pytest.MonkeyPatch,
    proxy: HttpProxy,
    password: str = PASSWORD,
    scheme: str = "http://",
) -> None:
    user = f"{USER}:{quote(password, safe='')}"
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"{scheme}{user}@{proxy.url.removeprefix('http://')}")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


async def _refused(client: OpenAIChatClient) -> ClientError:
    with pytest.raises(ClientError) as caught:
        await client.complete(HELLO)
    return caught.value


@pytest.mark.parametrize("scheme", ["http://", ""])
async def test_a_model_is_asked_through_the_proxy_with_its_user(
    server: FakeLlm, connect: Connect, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    async with HttpProxy(yarl.URL(server.url).port or 0).serve() as proxy:
        _use(monkeypatch, proxy, scheme=scheme)
        client = connect(OpenAIEndpoint("http://llm.example/v1", MODEL))
        assert (await client.complete(HELLO)).text
        assert proxy.passed == ["POST http://llm.example/v1/chat/completions HTTP/1.1"]


async def test_a_proxy_that_refuses_is_named_without_its_password(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with HttpProxy(free_port()).serve() as proxy:
        _use(monkeypatch, proxy, "wr0ng")
        error = await _refused(connect(OpenAIEndpoint("https://llm.example/v1", MODEL)))
        assert error.kind is ErrorKind.AUTHENTICATION
        assert f"the proxy {proxy.url.removeprefix('http://')} answers 407" in str(error)
        assert "wr0ng" not in str(error)
        assert proxy.refused == 1


@pytest.fixture
async def data_port() -> AsyncIterator[int]:
    """Serve a small file at every path."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=b'{"text": "A mill."}\n', headers={"Accept-Ranges": "none"})

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield port
    await runner.cleanup()


def _find(uri: str) -> list[str]:
    spec = InputSpec.model_validate({"uri": uri, "format": "JSONL"})
    return [file.uri for file in inputs.find(inputs.open_source(spec, Mounts()), spec)]


@pytest.mark.parametrize("scheme", ["http://", ""])
async def test_input_comes_through_the_proxy_with_its_user(
    data_port: int, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    async with HttpProxy(data_port).serve() as proxy:
        _use(monkeypatch, proxy, scheme=scheme)
        assert await asyncio.to_thread(_find, SIGNED)
        assert proxy.passed
        assert not proxy.refused


async def test_input_that_the_proxy_refuses_says_what_it_wants(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with HttpProxy(free_port()).serve() as proxy:
        _use(monkeypatch, proxy, "wr0ng")
        with pytest.raises(errors.ConfigurationError) as caught:
            await asyncio.to_thread(_find, SIGNED)
        assert "the proxy wants a user and a password in its URL" in str(caught.value)
        assert "wr0ng" not in str(caught.value)


async def test_no_log_holds_the_signature_of_a_url(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        http_inputs, "RETRIES", http_inputs.RETRIES.new(total=2, backoff_factor=0.01)
    )
    root = logging.getLogger()
    before = root.handlers[:], root.level
    telemetry.configure("DEBUG")
    uri = f"http://127.0.0.1:{free_port()}/a.jsonl?X-Amz-Signature=f00d"
    try:
        with pytest.raises(errors.RetryLaterError):
            await asyncio.to_thread(_find, uri)
    finally:
        root.handlers[:], root.level = before[0], before[1]
    assert "f00d" not in capfd.readouterr().err
