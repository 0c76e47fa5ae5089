"""Every example of a stage that starts from nothing, or from a question, as a user runs it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from kubesynth_testing.cli_process import kubesynth
from kubesynth_testing.fake_llm import MODEL, FakeLlm
from kubesynth_testing.runs import read_rows

EXAMPLES = Path(__file__).parents[3] / "examples"
# A column that each of them makes.
MADE = {
    "coding": "question",
    "dialogue": "messages",
    "math": "question",
    "multilingual-qa": "question",
    "open-qa": "question",
    "preference-pairs": "chosen",
    "writing": "question",
}


@pytest.mark.parametrize("name", MADE)
async def test_example_makes_rows(
    write_manifest: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    text = (EXAMPLES / f"{name}.yaml").read_text()
    async with FakeLlm() as server:
        for url in ("http://llm:8000/v1", "http://judge:8000/v1"):
            text = text.replace(url, server.url)
        text = re.sub(r"( model: )\S+-instruct", rf"\1{MODEL}", text)
        code, _, err = await kubesynth(
            *("run", write_manifest(text)),
            *("--config", f"questions={EXAMPLES / 'data' / 'questions.jsonl'}"),
            *("--volume", f"datasets={tmp_path}"),
        )
    assert code == 0, err
    rows = read_rows(tmp_path / name)
    assert rows
    assert all(row[MADE[name]] for row in rows)
