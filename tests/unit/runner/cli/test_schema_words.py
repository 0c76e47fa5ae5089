"""The commonest slips in a manifest, and what is said about them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubesynth_runner.cli import manifests

JOB = """\
apiVersion: kubesynth.io/v1alpha1
kind: SyntheticDataJob
metadata: {{name: qa}}
spec:
  models:
    - name: generator
      external: {{url: {url}, model: m{external}}}
  input: {{uri: "file:///in/*.txt"}}
  pipeline:
    {pipeline}
  output: {{uri: "file:///out"}}
  runner: {runner}
"""
URL = "http://llm:8000/v1"


def _said(
    folder: Path,
    *,
    url: str = URL,
    external: str = "",
    pipeline: str = "- closedQA: {}",
    runner: str = "{}",
) -> list[str]:
    """Return what is said against a job with one slip, as `path: message`."""
    path = folder / "job.yaml"
    path.write_text(JOB.format(url=url, external=external, pipeline=pipeline, runner=runner))
    manifest = manifests.read(str(path))
    found = manifests.check(manifest, manifest.jobs[0])
    return [f"{problem.path.removeprefix('spec.')}: {problem.message}" for problem in found]


def test_a_good_job_has_nothing_said_against_it(tmp_path: Path) -> None:
    assert _said(tmp_path) == []


@pytest.mark.parametrize(
    ("pipeline", "said"),
    [
        pytest.param(
            "- answer:",
            "pipeline[0]: answer is empty; if it has nothing to be set, write `answer: {}`",
            id="null",
        ),
        pytest.param(
            "- {closedQA: {}, answer: {}}",
            "pipeline[0]: closedQA and answer are set in one place, where only one may be; each "
            "stage needs a - of its own",
            id="two-in-one",
        ),
        pytest.param(
            "- closedQa: {}",
            "pipeline[0].closedQa: there is no such field; is it closedQA?",
            id="case",
        ),
        pytest.param(
            "- closedQA: {question: 2}",
            "pipeline[0].closedQA.question: there is no such field; is it questions?",
            id="field",
        ),
        pytest.param(
            "- closedQA: {}\n      input: {}",
            "pipeline[0].input: there is no such field; is it mistyped, or indented wrongly?",
            id="indent",
        ),
    ],
)
def test_slips_in_a_stage(tmp_path: Path, pipeline: str, said: str) -> None:
    assert _said(tmp_path, pipeline=pipeline) == [said]


def test_an_empty_stage_is_told_the_names(tmp_path: Path) -> None:
    (said,) = _said(tmp_path, pipeline="- id: first")
    assert said.startswith("pipeline[0]: exactly one of openQA, ")


@pytest.mark.parametrize(
    ("external", "runner", "said"),
    [
        pytest.param(
            ", apiKey: openai",
            "{}",
            "models[0].external.apiKey: must be an object: write "
            "{secretKeyRef: {name: SECRET, key: KEY}}",
            id="secret",
        ),
        pytest.param(
            "",
            "{imagePullSecrets: [regcred]}",
            "runner.imagePullSecrets[0]: must be an object: write {name: NAME}",
            id="pull-secret",
        ),
        pytest.param(
            "",
            "{resources: {limits: {memory: 2GB}}}",
            "runner.resources.limits.memory: must be a quantity such as 500m, 2 or 2Gi "
            "(there is no GB)",
            id="quantity",
        ),
        pytest.param(
            "",
            "{resources: {limit: {memory: 2Gi}}}",
            "runner.resources.limit: there is no such field; is it limits?",
            id="nested-field",
        ),
    ],
)
def test_values_of_another_shape(tmp_path: Path, external: str, runner: str, said: str) -> None:
    assert _said(tmp_path, external=external, runner=runner) == [said]


@pytest.mark.parametrize("end", ["/chat/completions", "/chat/completions/", "/completions"])
def test_a_url_of_a_request_is_refused(tmp_path: Path, end: str) -> None:
    (said,) = _said(tmp_path, url=URL + end)
    assert said.startswith("models[0].external.url: url must be the base URL, ")
    assert "leave out /chat/completions" in said
