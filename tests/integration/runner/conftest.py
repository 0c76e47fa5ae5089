from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from kubesynth_testing.recording_llm import RecordingLlm
from kubesynth_testing.runner_process import Nursery

MEMORY = Path("/dev/shm")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Return a folder in memory, where there is such a thing.

    Processes die in these tests, machines do not: how long a busy disk takes to sync must not
    decide how long a process takes to stop.
    """
    parent = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="kubesynth-", dir=parent) as folder:
        yield Path(folder)


@pytest.fixture
async def server() -> AsyncIterator[RecordingLlm]:
    """Serve the OpenAI protocol; the answers are a pure function of the request."""
    async with RecordingLlm() as running:
        yield running


@pytest.fixture(scope="session")
def session_nursery() -> Iterator[Nursery]:
    with Nursery() as running:
        yield running


@pytest.fixture
def nursery(session_nursery: Nursery) -> Iterator[Nursery]:
    """Fork runners; whatever still runs at the end of the test is killed."""
    yield session_nursery
    session_nursery.kill_all()
