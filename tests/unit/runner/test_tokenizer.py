"""Counting tokens with a tokenizer.json, made here: each character is a token, and spaces none."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

from kubesynth_api.conditions import Reason
from kubesynth_api.run_spec import RunSpec
from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_runner import errors, run, tokenizer
from kubesynth_runner.io.mounts import Mounts
from kubesynth_testing import runs

TEXT = "The mill is old.\nIt has 2 wheels, and both of them turn.\n"


@pytest.fixture
def made() -> str:
    """Return a tokenizer's JSON, with the things that must not change a count."""
    model = models.WordLevel({"<s>": 0, "<unk>": 1}, unk_token="<unk>")
    built = Tokenizer(model)
    built.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("."), "isolated")]
    )
    built.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    built.enable_truncation(8)
    built.enable_padding(length=64)
    return str(built.to_str())


def job(folder: Path, uri: str) -> RunSpec:
    (folder / "in").mkdir(exist_ok=True)
    (folder / "in" / "a.txt").write_text(TEXT)
    return runs.a_run(
        folder,
        input={"uri": f"file://{folder}/in/*.txt"},
        pipeline=[{"segment": {"maxTokens": 20, "minTokens": 0}}],
        tokenizer={"uri": uri},
    )


@pytest.mark.parametrize("is_zipped", [False, True])
async def test_segments_are_as_long_as_the_tokenizer_says(
    tmp_path: Path, made: str, is_zipped: bool
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(gzip.compress(made.encode()) if is_zipped else made.encode())
    context = runs.a_context(job(tmp_path, f"file://{path}"))
    await run.run_phase(context, run.PhaseRequest(RunnerPhase.ALL))
    found = sorted(runs.read_rows(tmp_path / "out"), key=lambda row: int(row["segment_id"]))
    texts = [row["text"] for row in found]
    assert texts == ["The mill is old.", "It has 2 wheels,", "and both of them turn."]
    assert " ".join(texts).split() == TEXT.split()


def test_a_key_of_a_config_map_is_read(tmp_path: Path, made: str) -> None:
    (tmp_path / "small.json").write_text(made)
    spec = job(tmp_path, "configmap://tokenizers/small.json").spec
    count = tokenizer.load(spec, Mounts(config_maps={"tokenizers": tmp_path}))
    assert count("a bc " * 30) == 90
    assert count("") == 0


@pytest.mark.parametrize(
    ("content", "reason", "message"),
    [
        (None, Reason.REFERENCE_NOT_FOUND, "No such file"),
        (b"{}", Reason.INVALID_SPEC, "is no tokenizer.json: "),
        (b"\x1f\x8bnothing", Reason.INVALID_SPEC, "is no tokenizer.json: "),
        (b"\xff\xfe", Reason.INVALID_SPEC, "is no tokenizer.json: "),
    ],
)
async def test_what_is_no_tokenizer_is_refused_before_anything_is_read(
    tmp_path: Path, content: bytes | None, reason: Reason, message: str
) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_bytes(content)
    context = runs.a_context(job(tmp_path, f"file://{path}"))
    with pytest.raises(errors.ConfigurationError, match=message) as caught:
        await run.run_phase(context, run.PhaseRequest(RunnerPhase.ALL))
    assert caught.value.reason == reason
    assert f"tokenizer.uri: file://{path}" in str(caught.value)


def test_without_the_library_it_says_what_to_install(
    tmp_path: Path, made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(made)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(errors.ConfigurationError, match="extra `tokenizers`"):
        tokenizer.load(job(tmp_path, f"file://{path}").spec, Mounts())
