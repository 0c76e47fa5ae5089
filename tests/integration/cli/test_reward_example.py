"""The example with a reward model, against fakes that speak the wire protocols."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kubesynth_testing.cli_process import kubesynth
from kubesynth_testing.fake_llm import MODEL, FakeLlm
from kubesynth_testing.fake_rewards import FakeRewards, FakeScores
from kubesynth_testing.runs import read_rows

EXAMPLES = Path(__file__).parents[3] / "examples"


async def run(manifest: Path, folder: Path) -> list[dict[str, Any]]:
    """Run a version of the example and return its rows."""
    code, _, err = await kubesynth(
        *("run", manifest),
        *("--config", f"questions={EXAMPLES / 'data' / 'questions.jsonl'}"),
        *("--volume", f"datasets={folder}"),
    )
    assert code == 0, err
    return read_rows(folder / "reward-model")


def example(chat: str, reward: str) -> str:
    """Return the example, with the addresses of two servers."""
    text = (EXAMPLES / "reward-model.yaml").read_text()
    for old, new in (
        ("http://llm:8000/v1", chat),
        ("http://reward:8000/v1", reward),
        ("llama-3.1-8b-instruct", MODEL),
        ("nvidia/nemotron-4-340b-reward", MODEL),
    ):
        assert old in text
        text = text.replace(old, new)
    return text


async def test_example_scores_pairs_with_a_reward_model(
    write_manifest: Callable[[str], Path], tmp_path: Path
) -> None:
    async with FakeLlm() as server, FakeRewards() as rewards:
        rows = await run(write_manifest(example(server.url, rewards.url)), tmp_path)
    assert rows
    for row in rows:
        assert row["chosen_score"] > row["rejected_score"]
        assert 0 <= row["score_correctness"] <= 4
    assert set(rewards.statistics.statuses) == {"200"}


@pytest.mark.parametrize("method", ["Score", "Pooling", "Classify"])
async def test_scores_come_from_other_apis(
    method: str, write_manifest: Callable[[str], Path], tmp_path: Path
) -> None:
    async with FakeLlm() as server, FakeScores() as scores:
        text = example(server.url, scores.url)
        text = text.replace("method: Attributes", f"method: {method}")
        text = text.replace("        attributes: [correctness, coherence]\n", "")
        rows = await run(write_manifest(text), tmp_path)
    assert rows
    for row in rows:
        # The chosen answer is scored again, and the same request gets the same number.
        assert row["score"] == row["chosen_score"] > row["rejected_score"]
    # Four answers each, the chosen one again, and what the server can do was asked once.
    assert scores.received.total() == 5 * len(rows) + 1
