"""What the commands say of a model's url that may lack its /v1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kubesynth_runner.cli import job_run, mappings
from kubesynth_runner.cli.__main__ import main

LACKING = {"url": "http://llm:8000", "model": "m"}
SAID = (
    "note: http://llm:8000 has no /v1, which nearly all servers want: is it http://llm:8000/v1? "
    "Requests go to http://llm:8000/chat/completions"
)
QUESTIONS = [{"closedQA": {"questions": 2}}]


def manifest(
    folder: Path, model: dict[str, Any], pipeline: list[dict[str, Any]] = QUESTIONS
) -> str:
    (folder / "docs.txt").write_text("A river.")
    job = {
        "apiVersion": "kubesynth.io/v1alpha1",
        "kind": "SyntheticDataJob",
        "metadata": {"name": "qa"},
        "spec": {
            "models": [{"name": "writer", **model}],
            "input": {"uri": "file://docs.txt"},
            "pipeline": pipeline,
            "output": {"uri": "file://out"},
        },
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job, sort_keys=False))
    return str(path)


def notes(said: str) -> list[str]:
    return [line for line in said.splitlines() if "note: " in line]


def test_run_prints_the_note_before_anything_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = manifest(tmp_path, {"external": LACKING})
    job_run.prepare(path, mappings.Flags(), tmp_path)
    assert notes(capsys.readouterr().err) == [f"{path}:9: spec.models[0].external.url: {SAID}"]


@pytest.mark.parametrize("command", ["validate", "estimate"])
def test_what_asks_no_model_prints_it_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    path = manifest(tmp_path, {"external": LACKING})
    assert main([command, path]) == 0
    shown = capsys.readouterr()
    assert notes(shown.err) == [f"{path}:9: spec.models[0].external.url: {SAID}"]
    assert "note: " not in shown.out, "estimate --output json stays JSON"


@pytest.mark.parametrize(
    ("model", "name"),
    [
        pytest.param({"serverRef": {"name": "shared"}}, "shared", id="shared"),
        pytest.param(
            {"server": {"classRef": {"name": "vllm"}, "model": "m"}}, "writer", id="of-the-job"
        ),
    ],
)
def test_the_flag_that_gave_the_url_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], model: dict[str, Any], name: str
) -> None:
    path = manifest(tmp_path, model)
    flags = mappings.Flags(server=(f"{name}=http://llm:8000#m",))
    job_run.prepare(path, flags, tmp_path)
    assert notes(capsys.readouterr().err) == [f"--server {name}: {SAID}"]


@pytest.mark.parametrize(
    ("method", "is_noted"),
    [("Score", False), ("Pooling", False), ("Classify", False), ("Attributes", True)],
)
def test_what_is_asked_beside_the_v1_needs_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str, is_noted: bool
) -> None:
    score = {"method": method, "questionColumn": "text", "answerColumn": "text"}
    path = manifest(tmp_path, {"external": LACKING}, [{"score": score}])
    job_run.prepare(path, mappings.Flags(), tmp_path)
    assert (notes(capsys.readouterr().err) != []) == is_noted


def test_nothing_is_said_of_other_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models: list[dict[str, Any]] = [
        {"external": {**LACKING, "url": "http://llm:8000/v1/"}},
        {"external": {**LACKING, "url": "grpc://llm:8001", "protocol": "Triton"}},
        {"external": {**LACKING, "azure": {"apiVersion": "2024-10-21"}}},
        {"embedded": {}},
    ]
    for model in models:
        job_run.prepare(manifest(tmp_path, model), mappings.Flags(), tmp_path)
    assert notes(capsys.readouterr().err) == []
