"""What stands before a Triton: TLS, tokens, refusals, secrets, limits on messages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
import trustme

from kubesynth_runner.llm.base import CompletionRequest, Message
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.triton.client import TritonChatClient
from kubesynth_runner.llm.triton.endpoint import TritonEndpoint
from kubesynth_testing.triton.gateway import MODEL, Behaviour, Gateway

Connect = Callable[[TritonEndpoint], TritonChatClient]
REQUEST = CompletionRequest((Message("user", "Hello there"),))


def endpoint(server: Gateway, **facts: object) -> TritonEndpoint:
    return TritonEndpoint(server.url, MODEL, render=lambda _: "an echo", **facts)  # type: ignore[arg-type]


async def refused(client: TritonChatClient) -> ClientError:
    with pytest.raises(ClientError) as caught:
        await client.complete(REQUEST)
    return caught.value


def credentials(authority: trustme.CA, host: str = "127.0.0.1") -> grpc.ServerCredentials:
    certificate = authority.issue_cert(host)
    chain = b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
    pair = (certificate.private_key_pem.bytes(), chain)
    return grpc.ssl_server_credentials([pair])


def bundle(authority: trustme.CA, folder: Path) -> Path:
    path = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


async def test_authority_of_the_bundle_is_trusted(connect: Connect, tmp_path: Path) -> None:
    authority = trustme.CA()
    async with Gateway(Behaviour(decoupled=True), credentials(authority)) as server:
        ca_bundle_path = bundle(authority, tmp_path)
        client = connect(endpoint(server, ca_bundle_path=ca_bundle_path))
        assert (await client.complete(REQUEST)).text == "You said: an echo "


@pytest.mark.parametrize("case", ["another authority", "no bundle", "another host"])
async def test_other_certificates_are_not_and_the_field_is_named(
    connect: Connect, tmp_path: Path, case: str
) -> None:
    authority = trustme.CA()
    host = "llm.example.com" if case == "another host" else "127.0.0.1"
    trusted = trustme.CA() if case == "another authority" else authority
    path = None if case == "no bundle" else bundle(trusted, tmp_path)
    async with Gateway(Behaviour(), credentials(authority, host)) as server:
        error = await refused(connect(endpoint(server, ca_bundle_path=path)))
    assert error.kind is ErrorKind.AUTHENTICATION, error
    assert "set caBundle" in str(error)


def test_bundle_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("no certificate")
    with pytest.raises(ClientError, match=r"caBundle .*ca\.pem holds no certificate") as caught:
        TritonChatClient(TritonEndpoint("grpcs://localhost", MODEL, ca_bundle_path=path))
    assert caught.value.kind is ErrorKind.AUTHENTICATION


async def test_token_and_headers_go_along_with_every_call(connect: Connect) -> None:
    async with Gateway(Behaviour(token="s3cret", decoupled=True)) as server:
        client = connect(endpoint(server, token="s3cret\n", headers={"X-Team": "data"}))
        await client.probe()
        await client.complete(REQUEST)
    assert all(call["authorization"] == "Bearer s3cret" for call in server.calls)
    assert all(call["x-team"] == "data" for call in server.calls)


async def test_wrong_token_ends_the_run_and_is_not_repeated(connect: Connect) -> None:
    async with Gateway(Behaviour(token="s3cret")) as server:
        error = await refused(connect(endpoint(server, token="wr0ng")))
    assert error.kind is ErrorKind.AUTHENTICATION
    assert "(apiKey)" in str(error)
    assert "wr0ng" not in str(error) + error.body


async def test_refusal_says_how_long_to_wait(connect: Connect) -> None:
    refusal = Behaviour(
        code=grpc.StatusCode.RESOURCE_EXHAUSTED,
        details="slow down",
        trailing={"grpc-retry-pushback-ms": "1500"},
    )
    async with Gateway(refusal) as server:
        error = await refused(connect(endpoint(server)))
    assert (error.kind, error.retry_after_seconds) == (ErrorKind.RATE_LIMITED, 1.5)


async def test_model_that_is_not_ready_is_waited_for(connect: Connect) -> None:
    async with Gateway(Behaviour(ready=False)) as server:
        error = await refused(connect(endpoint(server)))
        assert error.kind is ErrorKind.OVERLOADED
        assert "not ready" in str(error)


async def test_model_that_was_there_is_coming_back(connect: Connect) -> None:
    async with Gateway(Behaviour()) as server:
        client = connect(endpoint(server))
        await client.complete(REQUEST)
        server.behaviour.code = grpc.StatusCode.NOT_FOUND
        server.behaviour.details = "Request for unknown model: 'echo' is not found"
        assert (await refused(client)).kind is ErrorKind.OVERLOADED
        assert (await refused(connect(endpoint(server)))).kind is ErrorKind.OVERLOADED
        server.behaviour.code = grpc.StatusCode.UNIMPLEMENTED
        assert (await refused(client)).kind is ErrorKind.MODEL_NOT_FOUND


async def test_secret_configuration_is_read_from_the_metadata(connect: Connect) -> None:
    async with Gateway(Behaviour(tells_config=False, decoupled=True)) as server:
        # Nothing says that it streams: the first call finds out.
        assert (await connect(endpoint(server)).complete(REQUEST)).text == "You said: an echo "


async def test_stream_that_breaks_off_gives_no_half_answer(connect: Connect) -> None:
    broken = Behaviour(decoupled=True, stream_error="the engine is gone")
    async with Gateway(broken) as server:
        error = await refused(connect(endpoint(server)))
    assert error.kind is ErrorKind.SERVER_ERROR
    assert "the engine is gone" in str(error)


async def test_message_over_the_limit_names_the_field(connect: Connect) -> None:
    async with Gateway(Behaviour(decoupled=True)) as server:
        client = connect(
            TritonEndpoint(server.url, MODEL, render=lambda _: "x" * 9000, max_message_bytes=4096)
        )
        error = await refused(client)
    assert error.kind is ErrorKind.BAD_REQUEST
    assert "raise triton.maxMessageBytes" in str(error)
