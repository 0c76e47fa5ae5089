"""The client against a server that speaks the real protocol, well and badly."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from kubesynth_runner.llm.base import CompletionRequest, JsonSchemaFormat, Message
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.openai import OpenAIChatClient, OpenAIEndpoint
from kubesynth_testing.fake_llm import MODEL, FakeLlm, Faults

Connect = Callable[[OpenAIEndpoint], OpenAIChatClient]
SCHEMA = JsonSchemaFormat(
    "questions",
    {
        "type": "object",
        "properties": {"questions": {"type": "array", "items": {"type": "string"}}},
        "required": ["questions"],
        "additionalProperties": False,
    },
)


def _ask(prompt: str = "Hello", **sampling: Any) -> CompletionRequest:
    return CompletionRequest((Message("user", prompt),), sampling)


def _endpoint(server: FakeLlm, **fields: Any) -> OpenAIEndpoint:
    return OpenAIEndpoint(server.url, MODEL, **fields)


async def _fail(client: OpenAIChatClient, request: CompletionRequest | None = None) -> ClientError:
    with pytest.raises(ClientError) as caught:
        await client.complete(request or _ask())
    return caught.value


async def test_equal_requests_get_equal_completions(server: FakeLlm, connect: Connect) -> None:
    client = connect(_endpoint(server))
    first, second = await client.complete(_ask(seed=1)), await client.complete(_ask(seed=1))
    other = await client.complete(_ask(seed=2))
    assert first == second
    assert first.text != other.text
    assert first.usage.completion_tokens > 0
    assert list(server.statistics.received.values()) == [2, 1]


async def test_requests_share_a_pool_of_the_size_of_the_concurrency(
    server: FakeLlm, connect: Connect
) -> None:
    server.set_faults(Faults(latency_seconds=0.05))
    client = connect(_endpoint(server, max_connections=8))
    await asyncio.gather(*(client.complete(_ask(seed=seed)) for seed in range(24)))
    assert server.statistics.in_flight_peak == 8
    assert server.statistics.answered.total() == 24


async def test_probe_finds_schema_support_and_models(server: FakeLlm, connect: Connect) -> None:
    capabilities = await connect(_endpoint(server)).probe()
    assert (capabilities.json_schema, capabilities.models) == (True, (MODEL,))
    assert server.statistics.received.total() == 1


async def test_probe_finds_that_schemas_are_not_understood(
    server: FakeLlm, connect: Connect
) -> None:
    server.set_faults(Faults(strict_mode="None"))
    assert (await connect(_endpoint(server)).probe()).json_schema is False
    assert server.statistics.answered.total() == 1


async def test_probe_finds_that_strict_schemas_may_have_no_bounds(
    server: FakeLlm, connect: Connect
) -> None:
    assert (await connect(_endpoint(server)).probe()).schema_bounds is True
    server.set_faults(Faults(strict_mode="Azure"))
    capabilities = await connect(_endpoint(server)).probe()
    assert (capabilities.json_schema, capabilities.schema_bounds) == (True, False)
    assert server.statistics.answered.total() == 2, "more than one answer is paid for"


async def test_schema_that_is_more_than_strict_mode_takes_says_what_to_do(
    server: FakeLlm, connect: Connect
) -> None:
    schema = {"type": "object", "properties": {}, "required": [], "default": {}}
    request = CompletionRequest(
        (Message("user", "Go."),), response_format=JsonSchemaFormat("f", schema, strict=True)
    )
    with pytest.raises(
        ClientError, match=r"output.jsonSchema.*'default' is not permitted"
    ) as caught:
        await connect(_endpoint(server)).complete(request)
    assert caught.value.kind is ErrorKind.SCHEMA_REFUSED


async def test_probe_does_without_a_model_list(server: FakeLlm, connect: Connect) -> None:
    server.set_faults(Faults(model_list=False))
    assert (await connect(_endpoint(server)).probe()).models == ()


async def test_probe_names_what_is_served_instead(server: FakeLlm, connect: Connect) -> None:
    client = connect(OpenAIEndpoint(server.url, "other-model"))
    with pytest.raises(ClientError, match=f"it serves {MODEL}") as caught:
        await client.probe()
    assert caught.value.kind is ErrorKind.MODEL_NOT_FOUND


async def test_probe_fails_like_any_request_when_the_server_is_in_trouble(
    server: FakeLlm, connect: Connect
) -> None:
    server.set_faults(Faults(error_rate=1))
    with pytest.raises(ClientError) as caught:
        await connect(_endpoint(server)).probe()
    assert caught.value.kind is ErrorKind.OVERLOADED


async def test_schema_reaches_the_server(server: FakeLlm, connect: Connect) -> None:
    request = CompletionRequest((Message("user", "Ask."),), {}, SCHEMA)
    completion = await connect(_endpoint(server)).complete(request)
    assert completion.text.startswith('{"questions": ["')


@pytest.mark.parametrize(
    ("faults", "kind"),
    [
        pytest.param(Faults(error_rate=1), ErrorKind.OVERLOADED, id="503"),
        pytest.param(Faults(error_rate=1, error_status=500), ErrorKind.SERVER_ERROR, id="500"),
        pytest.param(Faults(half_closed_rate=1), ErrorKind.CONNECTION, id="half-closed"),
        pytest.param(Faults(garbage_rate=1), ErrorKind.MALFORMED_RESPONSE, id="garbage"),
        pytest.param(Faults(empty_choices_rate=1), ErrorKind.EMPTY_COMPLETION, id="no-choices"),
        pytest.param(Faults(null_content_rate=1), ErrorKind.EMPTY_COMPLETION, id="null-content"),
        pytest.param(Faults(hang_rate=1), ErrorKind.TIMEOUT, id="hang"),
        pytest.param(Faults(drip_rate=1, drip_seconds=30), ErrorKind.TIMEOUT, id="slow-drip"),
        pytest.param(Faults(context_tokens=1), ErrorKind.CONTEXT_OVERFLOW, id="overflow"),
        pytest.param(Faults(api_key="right"), ErrorKind.AUTHENTICATION, id="wrong-key"),
    ],
)
async def test_every_fault_has_its_kind(
    server: FakeLlm, connect: Connect, faults: Faults, kind: ErrorKind
) -> None:
    server.set_faults(faults)
    client = connect(_endpoint(server, request_timeout_seconds=0.5))
    assert (await _fail(client)).kind is kind
    server.set_faults(Faults())
    assert (await client.complete(_ask())).text


async def test_rate_limit_says_how_long_to_wait(server: FakeLlm, connect: Connect) -> None:
    server.set_faults(Faults(requests_per_second=2, retry_after_seconds=1.5))
    client = connect(_endpoint(server))
    await client.complete(_ask())
    error = await _fail(client)
    assert (error.kind, error.status_code) == (ErrorKind.RATE_LIMITED, 429)
    assert error.retry_after_seconds == 1.5


async def test_answer_given_slowly_but_in_time_is_whole(server: FakeLlm, connect: Connect) -> None:
    expected = await connect(_endpoint(server)).complete(_ask())
    server.set_faults(Faults(drip_rate=1, drip_seconds=0.2))
    assert await connect(_endpoint(server)).complete(_ask()) == expected


async def test_reasoning_and_missing_usage(server: FakeLlm, connect: Connect) -> None:
    server.set_faults(Faults(reasoning="Let me see.", usage=False))
    completion = await connect(_endpoint(server)).complete(_ask())
    assert completion.reasoning == "Let me see."
    assert "think" not in completion.text
    assert completion.usage.total_tokens == 0


async def test_api_key_is_sent_without_the_line_break_of_its_file(
    server: FakeLlm, connect: Connect
) -> None:
    server.set_faults(Faults(api_key="s3cret"))
    assert (await connect(_endpoint(server, api_key="s3cret\n")).complete(_ask())).text


async def test_redirect_is_not_followed(server: FakeLlm, connect: Connect) -> None:
    async with FakeLlm() as elsewhere:
        server.set_faults(Faults(redirect_to=f"{elsewhere.url}/chat/completions"))
        error = await _fail(connect(_endpoint(server, api_key="s3cret")))
        assert elsewhere.statistics.received.total() == 0
    assert error.kind is ErrorKind.MODEL_NOT_FOUND
    assert elsewhere.url in str(error)


async def test_key_never_shows(server: FakeLlm, connect: Connect) -> None:
    endpoint = _endpoint(server, api_key="s3cret")
    server.set_faults(Faults(redirect_to="http://127.0.0.1/?key=other"))
    error = await _fail(connect(endpoint))
    assert "s3cret" not in f"{endpoint!r} {error} {error.body}"


async def test_streamed_answer_says_to_remove_stream(connect: Connect) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 0\r\n\r\n"
    async with await _raw_server(answer) as raw:
        error = await _fail(connect(_raw_endpoint(raw)))
    assert (error.kind, "extraBody" in str(error)) == (ErrorKind.BAD_REQUEST, True)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        pytest.param(b"", ErrorKind.CONNECTION, id="closed-without-a-word"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n\r\n", ErrorKind.MALFORMED_RESPONSE, id="no-http"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", ErrorKind.CONNECTION, id="half"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
            ErrorKind.MALFORMED_RESPONSE,
            id="broken-chunk",
        ),
    ],
)
async def test_broken_http_is_a_client_error(
    connect: Connect, answer: bytes, kind: ErrorKind
) -> None:
    async with await _raw_server(answer) as raw:
        assert (await _fail(connect(_raw_endpoint(raw)))).kind is kind


@pytest.mark.parametrize(
    "unsendable", [{"api_key": "two\nlines"}, {"headers": {"X-Team": "two\r\nlines"}}]
)
async def test_line_break_in_a_header_is_nothing_to_wait_for(
    server: FakeLlm, connect: Connect, unsendable: dict[str, Any]
) -> None:
    error = await _fail(connect(OpenAIEndpoint(server.url, MODEL, **unsendable)))
    assert error.kind is ErrorKind.BAD_REQUEST
    assert "cannot be sent" in str(error)


async def test_whatever_else_goes_wrong_below_http_may_pass(
    server: FakeLlm, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("no addresses")

    client = connect(OpenAIEndpoint(server.url, MODEL, api_key="key\n"))
    monkeypatch.setattr(aiohttp.TCPConnector, "connect", fail)
    error = await _fail(client)
    assert error.kind is ErrorKind.CONNECTION
    assert "no addresses" in str(error)


async def test_nobody_listening_is_a_connection_error(connect: Connect) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        error = await _fail(connect(OpenAIEndpoint(url, MODEL)))
    assert error.kind is ErrorKind.CONNECTION
    assert str(error).startswith("connection refused: ")


async def test_host_without_an_address_is_named(connect: Connect) -> None:
    error = await _fail(connect(OpenAIEndpoint("http://nowhere.invalid/v1", MODEL)))
    assert error.kind is ErrorKind.CONNECTION
    assert "the host nowhere.invalid is not known" in str(error)


@pytest.mark.parametrize("has_version", [True, False])
async def test_url_without_a_version_is_asked_about_where_there_is_no_api(
    server: FakeLlm, connect: Connect, has_version: bool
) -> None:
    base = server.url.removesuffix("/v1") + ("/no/v1" if has_version else "")
    error = await _fail(connect(OpenAIEndpoint(base, MODEL)))
    assert error.kind is ErrorKind.MODEL_NOT_FOUND
    assert (f"{base} has no /v1, which nearly all servers want" in str(error)) != has_version


async def test_connection_that_is_never_accepted_is_given_up_early(connect: Connect) -> None:
    with socket.socket() as full, socket.socket() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting.connect(full.getsockname())  # fills the queue: further SYNs are dropped
        endpoint = OpenAIEndpoint(
            f"http://127.0.0.1:{full.getsockname()[1]}/v1", MODEL, connect_timeout_seconds=0.3
        )
        error = await _fail(connect(endpoint))
    assert (error.kind, "no connection within 0.3 s" in str(error)) == (ErrorKind.CONNECTION, True)


async def test_header_with_a_line_break_is_a_bad_request(server: FakeLlm, connect: Connect) -> None:
    error = await _fail(connect(_endpoint(server, headers={"X-Team": "a\nb"})))
    assert error.kind is ErrorKind.BAD_REQUEST


async def _raw_server(answer: bytes) -> asyncio.Server:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    return await asyncio.start_server(respond, "127.0.0.1", 0)


def _raw_endpoint(raw: asyncio.Server) -> OpenAIEndpoint:
    host, port = raw.sockets[0].getsockname()[:2]
    return OpenAIEndpoint(f"http://{host}:{port}/v1", MODEL, request_timeout_seconds=5)


async def test_azure_deployment_is_asked_with_its_version_and_key(
    server: FakeLlm, connect: Connect
) -> None:
    server.set_faults(Faults(api_key="secret", model_list=False))
    resource = dataclasses.replace(
        _endpoint(server, api_key="secret\n", azure_api_version="2024-10-21"), url=server.origin
    )
    deployment = f"{server.origin}/openai/deployments/{MODEL}/"
    for endpoint in (resource, dataclasses.replace(resource, url=deployment)):
        client = connect(endpoint)
        assert (await client.probe()).json_schema
        assert (await client.complete(_ask())).text
    other = connect(dataclasses.replace(resource, model="other model"))
    assert (await _fail(other)).kind is ErrorKind.MODEL_NOT_FOUND
    stranger = connect(dataclasses.replace(resource, api_key="wrong"))
    assert (await _fail(stranger)).kind is ErrorKind.AUTHENTICATION


async def test_choices_and_log_probabilities_come_over_the_wire(
    server: FakeLlm, connect: Connect
) -> None:
    server.set_faults(Faults(reasoning="I wonder."))
    client = connect(_endpoint(server))
    completion = await client.complete(_ask(n=3, logprobs=True, top_logprobs=2))
    texts = [completion.text, *(choice.text for choice in completion.others)]
    assert len(set(texts)) == 3
    assert {choice.reasoning for choice in completion.others} == {"I wonder."}
    assert completion.logprobs is not None
    assert completion.logprobs.top is not None
    assert {len(top) for top in completion.logprobs.top} == {2}
