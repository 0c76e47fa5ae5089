"""The real small language model as a server, once for all tests of a folder.

Import `real_llm` into a conftest.py to use it as a fixture. The weights are pulled into the user's
cache the first time (93 MB to fetch).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from kubesynth_runner.embedded import process, weights

SLOTS = 4
CONTEXT_TOKENS = 2048


@pytest.fixture(scope="package")
def real_llm() -> Iterator[process.EmbeddedServer]:
    """Serve SmolLM2-135M-Instruct on a free loopback port until they are done."""
    server = process.EmbeddedServer(
        weights.pull(weights.model_folder()),
        process.EmbeddedOptions(slots=SLOTS, context_tokens=CONTEXT_TOKENS),
    )
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())
