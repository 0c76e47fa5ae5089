"""The client against a real Triton: NeMo Deploy's backends and text models, over a real LLM."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from kubesynth_runner.llm import chat_prompts
from kubesynth_runner.llm.base import CompletionRequest, JsonSchemaFormat, Message
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.triton import discovery
from kubesynth_runner.llm.triton.client import TritonChatClient
from kubesynth_runner.llm.triton.endpoint import TritonEndpoint
from kubesynth_testing.triton.server import TritonServer

Connect = Callable[[TritonEndpoint], TritonChatClient]
FRANCE = (
    Message("system", "You know the capitals of all countries."),
    Message("user", "What is the capital of France? Answer in one word."),
)
CHAT_ML = chat_prompts.built_in("ChatML")
PASS_THROUGH = chat_prompts.built_in("PassThrough")
GREEDY = {"temperature": 0, "max_tokens": 24}
LIMIT = frozenset({"max_tokens"})
FAIL = (Message("user", "PLEASE FAIL"),)


async def refused(client: TritonChatClient, request: CompletionRequest) -> ClientError:
    with pytest.raises(ClientError) as caught:
        await client.complete(request)
    return caught.value


async def refused_probe(client: TritonChatClient) -> ClientError:
    with pytest.raises(ClientError) as caught:
        await client.probe()
    return caught.value


async def test_template_applied_here_and_on_the_server_give_the_same(
    triton: TritonServer, connect: Connect
) -> None:
    here = connect(TritonEndpoint(triton.url, "megatron", render=CHAT_ML))
    there = connect(TritonEndpoint(triton.url, "megatron"))
    assert (await there.probe()).json_schema is False
    request = CompletionRequest(FRANCE, GREEDY | {"seed": 7})
    answers = await asyncio.gather(here.complete(request), there.complete(request))
    assert "Paris" in answers[0].text
    assert answers[0].text == answers[1].text
    assert answers[0].usage.estimated
    assert answers[0].usage.total_tokens > 20


async def test_sampling_reaches_the_model(triton: TritonServer, connect: Connect) -> None:
    # Alone, a temperature would leave Megatron's own top_k of 1 in place: greedy.
    client = connect(TritonEndpoint(triton.url, "megatron", render=CHAT_ML))
    request = CompletionRequest((Message("user", "Tell me a story."),), {"temperature": 2.0})
    request = CompletionRequest(request.messages, {"temperature": 2.0, "max_tokens": 24})
    texts = {(await client.complete(request)).text for _ in range(3)}
    assert len(texts) > 1


async def test_errors_told_as_sentences_are_errors(triton: TritonServer, connect: Connect) -> None:
    client = connect(TritonEndpoint(triton.url, "huggingface", render=CHAT_ML))
    assert "Paris" in (await client.complete(CompletionRequest(FRANCE, GREEDY))).text
    error = await refused(client, CompletionRequest(FAIL, GREEDY))
    assert error.kind is ErrorKind.SERVER_ERROR
    assert "device-side assert" in str(error)
    long = CompletionRequest((Message("user", "word " * 3000),), GREEDY)
    assert (await refused(client, long)).kind is ErrorKind.CONTEXT_OVERFLOW


async def test_nemo_tensorrt_llm_answers_in_outputs(triton: TritonServer, connect: Connect) -> None:
    client = connect(TritonEndpoint(triton.url, "trtllm", render=CHAT_ML))
    await client.probe()
    request = CompletionRequest(FRANCE, GREEDY | {"stop": ["."]})
    completion = await client.complete(request)
    assert "Paris" in completion.text
    assert "." not in completion.text
    assert completion.finish_reason == "stop"


async def test_vllm_backend_counts_constrains_and_leaves_the_prompt_out(
    triton: TritonServer, connect: Connect
) -> None:
    client = connect(TritonEndpoint(triton.url, "vllm", render=CHAT_ML, sampling_fields=LIMIT))
    assert (await client.probe()).json_schema is True
    story = (Message("user", "Tell a long story."),)
    cut = await client.complete(CompletionRequest(story, GREEDY | {"max_tokens": 8}))
    assert (cut.finish_reason, cut.usage.completion_tokens) == ("length", 8)
    assert cut.usage.prompt_tokens > 8
    assert not cut.usage.estimated
    assert "Tell a long story" not in cut.text
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
    }
    held = await client.complete(
        CompletionRequest(
            FRANCE, {"max_tokens": 48, "temperature": 0}, JsonSchemaFormat("city", schema)
        )
    )
    assert isinstance(json.loads(held.text)["city"], str)


async def test_tensorrt_llm_wants_a_limit_and_gives_no_prompt_back(
    triton: TritonServer, connect: Connect
) -> None:
    without = connect(TritonEndpoint(triton.url, "ensemble", render=CHAT_ML))
    error = await refused_probe(without)
    assert error.kind is ErrorKind.BAD_REQUEST
    assert "requires max_tokens INT32[1]" in str(error)
    client = connect(TritonEndpoint(triton.url, "ensemble", render=CHAT_ML, sampling_fields=LIMIT))
    await client.probe()
    text = (await client.complete(CompletionRequest(FRANCE, GREEDY))).text
    assert "Paris" in text
    assert "system" not in text


async def test_words_of_a_stream_become_one_text(triton: TritonServer, connect: Connect) -> None:
    client = connect(TritonEndpoint(triton.url, "words", render=PASS_THROUGH))
    await client.probe()
    requests = [
        CompletionRequest((Message("user", f"one two three {number}"),)) for number in range(20)
    ]
    completions = await asyncio.gather(*map(client.complete, requests))
    assert [completion.text for completion in completions] == [
        f"{number} three two one " for number in range(20)
    ]
    error = await refused(client, CompletionRequest(FAIL))
    assert error.kind is ErrorKind.SERVER_ERROR
    assert "the engine has died" in str(error)


async def test_model_that_does_not_fit_is_described(triton: TritonServer, connect: Connect) -> None:
    error = await refused_probe(connect(TritonEndpoint(triton.url, "numbers", render=CHAT_ML)))
    assert error.kind is ErrorKind.BAD_REQUEST
    assert "input text_input INT32[1] must be of datatype BYTES" in str(error)
    # A run that has begun is not to blame its records for that.
    client = connect(TritonEndpoint(triton.url, "numbers", render=CHAT_ML))
    error = await refused(client, CompletionRequest(FRANCE))
    assert error.kind is ErrorKind.MODEL_NOT_FOUND


@pytest.mark.parametrize(
    ("model", "facts", "message"),
    [
        ("huggingface", {"render": None}, "set triton.chatTemplate"),
        ("megatron", {"sampling_fields": frozenset({"min_p"})}, "no input for sampling min_p"),
        ("vllm", {"contract": "NeMoDeploy", "render": CHAT_ML}, "needs an input prompts"),
        ("vllm", {"render": CHAT_ML}, "would end each completion after 16 tokens"),
    ],
)
async def test_wrong_options_are_told_before_the_first_record(
    triton: TritonServer, connect: Connect, model: str, facts: dict[str, Any], message: str
) -> None:
    error = await refused_probe(connect(TritonEndpoint(triton.url, model, **facts)))
    assert error.kind is ErrorKind.BAD_REQUEST
    assert message in str(error)


async def test_model_that_comes_late_is_waited_for_and_a_wrong_name_is_not(
    triton: TritonServer, connect: Connect
) -> None:
    now = 0.0
    client = TritonChatClient(TritonEndpoint(triton.url, "late"), clock=lambda: now)
    error = await refused_probe(client)
    assert error.kind is ErrorKind.OVERLOADED
    assert "does not have the model (yet)" in str(error)
    now = discovery.UNKNOWN_MODEL_SECONDS + 1
    assert (await refused_probe(client)).kind is ErrorKind.MODEL_NOT_FOUND
    await asyncio.to_thread(triton.bind, "late")
    await client.probe()
    await client.close()


async def test_deadline_and_cancellation_end_a_call(triton: TritonServer, connect: Connect) -> None:
    hasty = connect(TritonEndpoint(triton.url, "pure", request_timeout_seconds=10))
    await hasty.probe()
    short = TritonEndpoint(triton.url, "pure", request_timeout_seconds=0.02)
    error = await refused(_with_contract(connect(short), hasty), CompletionRequest(FRANCE))
    assert error.kind is ErrorKind.TIMEOUT
    assert "0.02 s (requestTimeoutSeconds)" in str(error)
    call = asyncio.create_task(hasty.complete(CompletionRequest(FRANCE)))
    await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await hasty.complete(CompletionRequest(FRANCE))).text


def _with_contract(client: TritonChatClient, other: TritonChatClient) -> TritonChatClient:
    """Let a client know what another one has found out."""
    client._contract = other._contract
    return client


def _stories(temperature: float, count: int) -> list[CompletionRequest]:
    return [
        CompletionRequest(
            (Message("user", f"Story {number}"),), {"temperature": temperature, "seed": number}
        )
        for number in range(count)
    ]


async def test_requests_of_different_sampling_never_meet_in_one_batch(
    triton: TritonServer, connect: Connect
) -> None:
    client = connect(TritonEndpoint(triton.url, "pure"))
    mixed = [*_stories(0.3, 40), *_stories(0.9, 40)]
    before = await settled_inferences(triton, "pure")
    completions = await asyncio.gather(*map(client.complete, mixed))
    assert len({completion.text for completion in completions}) == 40
    assert await settled_inferences(triton, "pure", least=before + 80) - before == 80


async def settled_inferences(triton: TritonServer, model: str, least: int = 0) -> int:
    """Return how many answers were counted: the server counts one after it has sent it."""
    deadline = time.monotonic() + 10
    counted, seen = triton.inferences(model), -1
    while counted != seen or (counted < least and time.monotonic() < deadline):
        await asyncio.sleep(0.5)
        counted, seen = triton.inferences(model), counted
    return counted


async def test_server_fails_mixed_batches_of_clients_that_do_not_know_of_each_other(
    triton: TritonServer, connect: Connect
) -> None:
    """The reason for the test above: what is prevented there happens."""
    clients = [connect(TritonEndpoint(triton.url, "pure")) for _ in range(2)]
    calls = [
        client.complete(request)
        for client, temperature in zip(clients, (0.3, 0.9), strict=True)
        for request in _stories(temperature, 40)
    ]
    results = await asyncio.gather(*calls, return_exceptions=True)
    errors = [result for result in results if isinstance(result, ClientError)]
    assert errors
    assert all(error.kind is ErrorKind.SERVER_ERROR for error in errors)
    # In the body: in the message of a large batch it is in the middle, which is left out.
    assert "values on the 'temperature' input are not equal" in errors[0].body


async def test_several_connections_share_the_work(triton: TritonServer, connect: Connect) -> None:
    client = connect(TritonEndpoint(triton.url, "words", render=PASS_THROUGH, connections=3))
    texts = await asyncio.gather(
        *(client.complete(CompletionRequest((Message("user", f"a {n}"),))) for n in range(12))
    )
    assert [completion.text for completion in texts] == [f"{n} a " for n in range(12)]


async def test_nobody_at_the_port_is_no_connection(connect: Connect) -> None:
    error = await refused_probe(connect(TritonEndpoint("127.0.0.1:9", "megatron")))
    assert error.kind is ErrorKind.CONNECTION
