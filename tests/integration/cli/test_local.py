"""`kubesynth local`: the weights, and the model as a server for other programs."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from kubesynth_runner.cli.__main__ import main
from kubesynth_runner.embedded import weights
from kubesynth_runner.llm.base import CompletionRequest, Message
from kubesynth_runner.llm.openai import OpenAIChatClient, OpenAIEndpoint


async def test_serve_answers_until_it_is_asked_to_stop(pulled_weights: weights.Weights) -> None:
    arguments = ["--port", "0", "--slots", "1", "--context-tokens", "512"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kubesynth_runner.cli", "local", "serve", *arguments),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    words = (await process.stdout.readline()).decode().split()
    assert words[:3] == ["serving", pulled_weights.model, "at"]
    client = OpenAIChatClient(OpenAIEndpoint(words[3], pulled_weights.model))
    request = CompletionRequest((Message("user", "Hello"),), {"max_tokens": 4, "temperature": 0})
    completion = await client.complete(request)
    await client.close()
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 20) == 0
    assert completion.text


def test_pull_prints_where_the_weights_are(
    pulled_weights: weights.Weights, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["local", "pull"]) == 0
    assert capsys.readouterr().out == f"{pulled_weights.model}: {pulled_weights.path}\n"


def test_pull_takes_a_file_of_the_users_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.gguf"
    own.write_bytes(b"GGUF")
    folder = tmp_path / "models"
    assert main(["local", "pull", "--dir", str(folder), "--gguf", str(own)]) == 0
    assert capsys.readouterr().out.startswith("own: ")


def test_serve_without_weights_names_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["local", "serve", "--dir", str(tmp_path)]) == 64
    assert "kubesynth local pull" in capsys.readouterr().err
