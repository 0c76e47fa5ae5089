from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from kubesynth_runner.embedded.process import EmbeddedServer
from kubesynth_runner.llm.triton.client import TritonChatClient
from kubesynth_runner.llm.triton.endpoint import TritonEndpoint
from kubesynth_testing.real_llm import real_llm
from kubesynth_testing.triton import environment
from kubesynth_testing.triton.server import TritonServer

__all__ = ["real_llm"]

Connect = Callable[[TritonEndpoint], TritonChatClient]
MODELS = ("megatron", "huggingface", "trtllm", "vllm", "ensemble", "words", "numbers", "pure")
LATENCY_SECONDS = 0.05


@pytest.fixture(scope="package")
def triton(
    tmp_path_factory: pytest.TempPathFactory, real_llm: EmbeddedServer
) -> Iterator[TritonServer]:
    """Serve all models but the late one, over the small real language model."""
    origin = real_llm.url.removesuffix("/v1")
    folder = tmp_path_factory.mktemp("triton")
    try:
        environment.python()
    except environment.NoPythonError as exc:
        pytest.skip(reason=str(exc))
    with TritonServer(folder, MODELS, llm_url=origin, latency_seconds=LATENCY_SECONDS) as running:
        yield running


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Make clients that are closed after the test."""
    clients: list[TritonChatClient] = []

    def make(endpoint: TritonEndpoint) -> TritonChatClient:
        clients.append(TritonChatClient(endpoint))
        return clients[-1]

    yield make
    for client in clients:
        await client.close()
