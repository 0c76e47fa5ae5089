"""The client against a real language model: SmolLM2 in llama.cpp's server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from kubesynth_runner.embedded.process import EmbeddedServer
from kubesynth_runner.llm.base import CompletionRequest, JsonSchemaFormat, Message
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.openai import OpenAIChatClient, OpenAIEndpoint

Connect = Callable[[OpenAIEndpoint], OpenAIChatClient]
LIST = JsonSchemaFormat(
    "cities",
    {
        "type": "object",
        "properties": {
            "cities": {"type": "array", "items": {"type": "string", "maxLength": 40}, "maxItems": 3}
        },
        "required": ["cities"],
        "additionalProperties": False,
    },
)


@pytest.fixture
def client(real_llm: EmbeddedServer, connect: Connect) -> OpenAIChatClient:
    return connect(OpenAIEndpoint(real_llm.url, real_llm.model))


def _ask(prompt: str, **sampling: Any) -> CompletionRequest:
    return CompletionRequest((Message("user", prompt),), {"max_tokens": 24} | sampling)


async def test_probe_finds_the_model_and_its_grammar(
    client: OpenAIChatClient, real_llm: EmbeddedServer
) -> None:
    capabilities = await client.probe()
    assert (capabilities.json_schema, capabilities.models) == (True, (real_llm.model,))


async def test_greedy_answer_has_text_and_usage(
    client: OpenAIChatClient, real_llm: EmbeddedServer
) -> None:
    prompt = "What is the capital of France? Answer in one word."
    completion = await client.complete(_ask(prompt, temperature=0))
    assert "Paris" in completion.text
    assert completion.model == real_llm.model
    assert 0 < completion.usage.completion_tokens <= 24 < completion.usage.prompt_tokens


async def test_same_seed_gives_the_same_text(client: OpenAIChatClient) -> None:
    request = _ask("Tell me about a river.", temperature=1.0, seed=5)
    first, second = await client.complete(request), await client.complete(request)
    other = await client.complete(_ask("Tell me about a river.", temperature=1.0, seed=6))
    assert first.text == second.text != other.text


async def test_schema_constrains_the_answer(client: OpenAIChatClient) -> None:
    request = CompletionRequest(
        (Message("user", "Name three cities."),), {"max_tokens": 160, "temperature": 0}, LIST
    )
    completion = await client.complete(request)
    assert all(isinstance(city, str) for city in json.loads(completion.text)["cities"])


async def test_more_requests_than_slots_are_all_answered(client: OpenAIChatClient) -> None:
    requests = [_ask(f"Say something about {n}.", max_tokens=8, temperature=0) for n in range(12)]
    completions = await asyncio.gather(*map(client.complete, requests))
    assert all(completion.usage.completion_tokens > 0 for completion in completions)


async def test_long_prompt_overflows_the_context(client: OpenAIChatClient) -> None:
    with pytest.raises(ClientError) as caught:
        await client.complete(_ask("word " * 3000))
    assert caught.value.kind is ErrorKind.CONTEXT_OVERFLOW
