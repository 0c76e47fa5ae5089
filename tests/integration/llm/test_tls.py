"""Certificates of a private authority: trusted through caBundle, and only through it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trustme

from kubesynth_runner.llm.base import CompletionRequest, Message
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.openai import OpenAIChatClient, OpenAIEndpoint
from kubesynth_testing.fake_llm import MODEL, FakeLlm

Connect = Callable[[OpenAIEndpoint], OpenAIChatClient]
REQUEST = CompletionRequest((Message("user", "Hello"),))


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def tls_server(authority: trustme.CA) -> AsyncIterator[FakeLlm]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with FakeLlm(tls=context) as server:
        yield server


async def test_bundle_with_the_authority_is_trusted(
    tls_server: FakeLlm, authority: trustme.CA, connect: Connect, tmp_path: Path
) -> None:
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    client = connect(OpenAIEndpoint(tls_server.url, MODEL, ca_bundle_path=bundle))
    assert (await client.complete(REQUEST)).text


async def test_bundle_of_another_authority_is_not(
    tls_server: FakeLlm, connect: Connect, tmp_path: Path
) -> None:
    bundle = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(bundle))
    client = connect(OpenAIEndpoint(tls_server.url, MODEL, ca_bundle_path=bundle))
    with pytest.raises(ClientError, match="not trusted by caBundle") as caught:
        await client.complete(REQUEST)
    assert caught.value.kind is ErrorKind.AUTHENTICATION


async def test_private_authority_without_a_bundle_names_the_field(
    tls_server: FakeLlm, connect: Connect
) -> None:
    with pytest.raises(ClientError, match="set caBundle") as caught:
        await connect(OpenAIEndpoint(tls_server.url, MODEL)).complete(REQUEST)
    assert caught.value.kind is ErrorKind.AUTHENTICATION


async def test_certificate_for_another_host_is_refused(
    authority: trustme.CA, connect: Connect, tmp_path: Path
) -> None:
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("llm.example.com").configure_cert(context)
    async with FakeLlm(tls=context) as server:
        client = connect(OpenAIEndpoint(server.url, MODEL, ca_bundle_path=bundle))
        with pytest.raises(ClientError, match="mismatch") as caught:
            await client.complete(REQUEST)
    assert caught.value.kind is ErrorKind.AUTHENTICATION


async def test_tls_spoken_to_a_plain_server_is_a_connection_error(
    server: FakeLlm, connect: Connect
) -> None:
    client = connect(OpenAIEndpoint(server.url.replace("http:", "https:"), MODEL))
    with pytest.raises(ClientError) as caught:
        await client.complete(REQUEST)
    assert caught.value.kind is ErrorKind.CONNECTION


@pytest.mark.parametrize("content", [pytest.param(None, id="missing"), pytest.param("x", id="no")])
def test_bundle_that_is_none_is_named(tmp_path: Path, content: str | None) -> None:
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_text(content)
    with pytest.raises(ClientError, match=r"caBundle .*ca\.pem") as caught:
        OpenAIChatClient(OpenAIEndpoint("https://localhost/v1", MODEL, ca_bundle_path=bundle))
    assert caught.value.kind is ErrorKind.AUTHENTICATION
