from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kubesynth_testing.recording_llm import RecordingLlm
from kubesynth_testing.runner_process import Nursery


@pytest.fixture
async def server() -> AsyncIterator[RecordingLlm]:
    """Serve the OpenAI protocol; the answers are a pure function of the request."""
    async with RecordingLlm() as running:
        yield running


@pytest.fixture
async def nursery() -> AsyncIterator[Nursery]:
    """Fork runners; whatever still runs at the end of the test is killed."""
    async with Nursery() as running:
        yield running
