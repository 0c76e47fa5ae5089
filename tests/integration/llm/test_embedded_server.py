"""The embedded server as a process: it starts, stops, dies with its parent, and says why."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kubesynth_runner import errors
from kubesynth_runner.embedded import process, weights
from kubesynth_runner.llm.base import CompletionRequest, Message
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.openai import OpenAIChatClient, OpenAIEndpoint

Connect = Callable[[OpenAIEndpoint], OpenAIChatClient]
SMALL = process.EmbeddedOptions(slots=1, context_tokens=512)
# Without ignore_eos, a field of llama.cpp's, some stories end with their first sentence.
STORY = CompletionRequest(
    (Message("user", "Tell a very long story."),), {"max_tokens": 400, "ignore_eos": True}
)

PARENT = """
import asyncio, sys
from kubesynth_runner.embedded import process, weights

async def main():
    options = process.EmbeddedOptions(slots=1, context_tokens=512)
    server = process.EmbeddedServer(weights.locate(weights.model_folder()), options)
    await server.start()
    print(server.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def smollm2() -> weights.Weights:
    return weights.pull(weights.model_folder())


async def test_server_is_gone_after_its_context(smollm2: weights.Weights) -> None:
    async with process.EmbeddedServer(smollm2, SMALL) as server:
        pid = server.pid
        assert server.failure() is None
    assert not _is_running(pid)


async def loses_an_answer(
    server: process.EmbeddedServer, connect: Connect, number: signal.Signals
) -> None:
    """Send a server a signal while it answers; the request fails soon, as a lost connection."""
    client = connect(OpenAIEndpoint(server.url, server.model))
    story = asyncio.create_task(client.complete(STORY))
    await asyncio.sleep(0.5)
    os.kill(server.pid, number)
    with pytest.raises(ClientError) as caught:
        await asyncio.wait_for(story, 20)  # after SIGTERM it might be never
    assert caught.value.kind is ErrorKind.CONNECTION


async def test_killed_server_fails_its_request_and_shows_its_log(
    smollm2: weights.Weights, connect: Connect
) -> None:
    async with process.EmbeddedServer(smollm2, SMALL) as server:
        await loses_an_answer(server, connect, signal.SIGKILL)
        failure = await server.wait_failed()
    assert isinstance(failure, errors.RetryLaterError)
    assert "SIGKILL" in str(failure)
    assert "serving smollm2-135m-instruct" in str(failure)


async def test_server_that_is_told_to_end_does_so_with_an_answer_under_way(
    smollm2: weights.Weights, connect: Connect
) -> None:
    async with process.EmbeddedServer(smollm2, SMALL) as server:
        await loses_an_answer(server, connect, signal.SIGTERM)


async def test_server_dies_with_its_parent(smollm2: weights.Weights) -> None:
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert _is_running(pid)
        parent.kill()
    deadline = time.monotonic() + 10
    while _is_running(pid):
        assert time.monotonic() < deadline, "the server outlived its parent by 10 s"
        await asyncio.sleep(0.05)


async def test_interrupt_from_the_terminal_does_not_reach_the_server(
    smollm2: weights.Weights,
) -> None:
    async with process.EmbeddedServer(smollm2, SMALL) as server:
        assert os.getpgid(server.pid) != os.getpgrp()


async def test_broken_weights_fail_with_the_servers_own_words(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\xff" * 4096)
    server = process.EmbeddedServer(weights.from_file(broken), SMALL)
    with pytest.raises(errors.ConfigurationError, match="model loading error"):
        await server.start()


async def test_server_that_takes_too_long_is_ended(smollm2: weights.Weights) -> None:
    options = process.EmbeddedOptions(slots=1, context_tokens=512, startup_timeout_seconds=0)
    server = process.EmbeddedServer(smollm2, options)
    with pytest.raises(errors.RetryLaterError, match="not ready within 0 s"):
        await server.start()


async def test_missing_package_names_the_extra(
    smollm2: weights.Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "PACKAGE", "a_package_that_is_not_there")
    with pytest.raises(errors.ConfigurationError, match="extra `local`"):
        await process.EmbeddedServer(smollm2, SMALL).start()


def _is_running(pid: int) -> bool:
    """Tell whether a process is there and no zombie that its new parent has yet to reap."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
