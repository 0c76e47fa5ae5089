from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from kubesynth_runner.llm.openai import OpenAIChatClient, OpenAIEndpoint
from kubesynth_testing.fake_llm import FakeLlm
from kubesynth_testing.real_llm import real_llm

__all__ = ["real_llm"]

Connect = Callable[[OpenAIEndpoint], OpenAIChatClient]


@pytest.fixture
async def server() -> AsyncIterator[FakeLlm]:
    """Serve the OpenAI protocol without a model, and without faults to begin with."""
    async with FakeLlm() as running:
        yield running


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Make clients that are closed after the test."""
    clients: list[OpenAIChatClient] = []

    def make(endpoint: OpenAIEndpoint) -> OpenAIChatClient:
        clients.append(OpenAIChatClient(endpoint))
        return clients[-1]

    yield make
    for client in clients:
        await client.close()
