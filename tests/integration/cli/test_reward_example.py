"""The example with a reward model, against a fake one that speaks the wire protocol."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from kubesynth_testing.fake_llm import MODEL, FakeLlm
from kubesynth_testing.fake_rewards import FakeRewards

EXAMPLES = Path(__file__).parents[3] / "examples"


async def test_example_scores_pairs_with_a_reward_model(
    write_manifest: Callable[[str], Path], tmp_path: Path
) -> None:
    text = (EXAMPLES / "reward-model.yaml").read_text()
    async with FakeLlm() as server, FakeRewards() as rewards:
        text = text.replace("http://llm:8000/v1", server.url).replace(
            "llama-3.1-8b-instruct", MODEL
        )
        text = text.replace("http://reward:8000/v1", rewards.url)
        text = text.replace("nvidia/nemotron-4-340b-reward", MODEL)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "kubesynth_runner.cli", "run", str(write_manifest(text))),
            *("--config", f"questions={EXAMPLES / 'data' / 'questions.jsonl'}"),
            *("--volume", f"datasets={tmp_path}"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        _, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    parts = sorted((tmp_path / "reward-model" / "data").glob("*.parquet"))
    rows = [row for part in parts for row in pq.read_table(part).to_pylist()]
    assert rows
    for row in rows:
        assert row["chosen_score"] > row["rejected_score"]
        assert 0 <= row["score_correctness"] <= 4
    assert set(rewards.statistics.statuses) == {"200"}
