"""The stages for documents and a plugin, as a user runs them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from kubesynth_testing.cli_process import kubesynth
from kubesynth_testing.fake_llm import MODEL, FakeLlm
from kubesynth_testing.runs import read_rows

EXAMPLES = Path(__file__).parents[3] / "examples"


async def test_pages_are_routed_by_quality(
    write_manifest: Callable[[str], Path], tmp_path: Path
) -> None:
    text = (EXAMPLES / "nemotron-cc.yaml").read_text()
    async with FakeLlm() as server:
        text = text.replace("http://llm:8000/v1", server.url)
        text = text.replace("smollm2-135m-instruct", MODEL)
        pages = EXAMPLES / "data" / "web-pages.jsonl"
        code, out, err = await kubesynth(
            "run",
            write_manifest(text),
            *("--config", f"web-pages={pages}", "--volume", f"datasets={tmp_path}"),
        )
        # A call for each poor page, four for each good one, and the probe.
        assert (code, server.statistics.answered.total()) == (0, 4 + 8 * 4 + 1), err
    assert "complete: 12 rows from 12 of 12 input records" in out
    for row in read_rows(tmp_path / "nemotron-cc"):
        is_poor = int(str(row["quality"])) <= 11
        assert (row["rewritten"] is not None) <= is_poor
        assert all(row[name] is None for name in ("distilled", "knowledge", "facts")) >= is_poor


# What each example makes, and in how many rows at least.
EXAMPLES_OF_RECORDS = {
    "classify-entities": ("label", 16),
    "distill": ("distilled", 20),
    "translate": ("text_translated", 12),
}


@pytest.mark.parametrize("name", EXAMPLES_OF_RECORDS)
async def test_example_makes_rows_of_records(
    write_manifest: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    text = (EXAMPLES / f"{name}.yaml").read_text()
    async with FakeLlm() as server:
        text = text.replace("http://llm:8000/v1", server.url)
        text = text.replace("llama-3.1-8b-instruct", MODEL)
        files = ((key, EXAMPLES / "data" / f"{key}.jsonl") for key in ("documents", "entities"))
        configs = (f"--config={key}={path}" for key, path in files)
        code, _, err = await kubesynth(
            "run", write_manifest(text), *configs, "--volume", f"datasets={tmp_path}"
        )
    assert code == 0, err
    column, at_least = EXAMPLES_OF_RECORDS[name]
    rows = read_rows(tmp_path / name)
    assert len(rows) >= at_least
    assert all(row[column] for row in rows)


def a_tokenizer() -> Tokenizer:
    """Return one like those of current models, byte-pair encoding, if of a small vocabulary."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    lines = (EXAMPLES / "data" / "documents.jsonl").read_text().splitlines()
    trainer = trainers.BpeTrainer(vocab_size=400, show_progress=False)
    made.train_from_iterator((json.loads(line)["text"] for line in lines), trainer)
    return made


async def test_segments_are_as_long_as_the_jobs_tokenizer_says(
    write_manifest: Callable[[str], Path], tmp_path: Path
) -> None:
    tokenizer = a_tokenizer()
    (tmp_path / "tokenizer.json.gz").write_bytes(gzip.compress(tokenizer.to_str().encode()))
    text = (EXAMPLES / "tokenizer.yaml").read_text()
    async with FakeLlm() as server:
        text = text.replace("http://llm:8000/v1", server.url)
        text = text.replace("smollm2-135m-instruct", MODEL)
        code, _, err = await kubesynth(
            *("run", write_manifest(text)),
            *("--config", f"documents={EXAMPLES / 'data' / 'documents.jsonl'}"),
            *("--config", f"tokenizer={tmp_path / 'tokenizer.json.gz'}"),
            *("--volume", f"datasets={tmp_path}"),
        )
    assert code == 0, err
    rows = read_rows(tmp_path / "tokenizer")
    assert all(row["knowledge"] for row in rows)
    lengths = [len(tokenizer.encode(str(row["text"])).ids) for row in rows]
    # As the estimate counts them, segments would have nearly twice the tokens of this vocabulary.
    assert 50 < max(lengths) <= 64


async def test_plugin_out_of_a_file_runs_like_any_stage(
    write_manifest: Callable[[str], Path], tmp_path: Path
) -> None:
    text = (EXAMPLES / "plugin.yaml").read_text()
    async with FakeLlm() as server:
        text = text.replace("http://llm:8000/v1", server.url)
        text = text.replace("smollm2-135m-instruct", MODEL)
        arguments = (
            write_manifest(text),
            *("--config", f"documents={EXAMPLES / 'data' / 'documents.jsonl'}"),
            *("--config", f"plugins={EXAMPLES / 'data' / 'headlines.py'}"),
            *("--volume", f"datasets={tmp_path}"),
        )
        code, _, err = await kubesynth("run", *arguments)
        asked = server.statistics.answered.total()
        again, _, _ = await kubesynth("run", *arguments)
        assert (code, again, asked, server.statistics.answered.total()) == (0, 0, 7, 7), err
    rows = read_rows(tmp_path / "plugin")
    assert len(rows) == 12
    assert all(row["characters"] == len(str(row["headline"])) for row in rows)
