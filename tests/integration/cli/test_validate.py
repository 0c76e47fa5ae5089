"""`kubesynth validate` finds everything that is wrong, each with its line."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from kubesynth_runner.cli.__main__ import main

JOB = """\
apiVersion: kubesynth.io/v1alpha1
kind: SyntheticDataJob
metadata:
  name: qa
spec:
  models:
    - name: generator
      external:
        url: https://host/v1
        model: m
  input:
    uri: file:///docs
  pipeline:
    - closedQA:
        questions: 5
  output:
    uri: file:///out
"""


def _validate(*paths: Path) -> int:
    return main(["validate", *map(str, paths)])


def test_valid_manifest_passes(
    write_manifest: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_manifest(JOB)
    assert _validate(path) == 0
    shown = capsys.readouterr()
    assert shown.out == f"{path}: qa is valid\n"
    [note] = shown.err.splitlines()
    assert note.startswith(f"{path}:17: spec.output.uri: on a cluster this is refused: a folder")


def test_what_suits_a_cluster_too_is_valid_without_a_note(
    write_manifest: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_manifest(JOB.replace("file:///out", "pvc://datasets/out"))
    assert _validate(path) == 0
    assert capsys.readouterr().err == ""


def test_a_url_that_may_lack_its_version_is_noted_and_valid(
    write_manifest: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_manifest(
        JOB.replace("file:///out", "pvc://datasets/out").replace("https://host/v1", "https://host")
    )
    assert _validate(path) == 0
    shown = capsys.readouterr()
    assert shown.out == f"{path}: qa is valid\n"
    assert shown.err == (
        f"{path}:9: spec.models[0].external.url: note: https://host has no /v1, which nearly all "
        "servers want: is it https://host/v1? Requests go to https://host/chat/completions\n"
    )


def test_all_problems_are_shown_with_their_lines(
    write_manifest: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    broken = JOB.replace("questions: 5", "questions: '5'").replace("external", "extrenal")
    path = write_manifest(broken.replace("    uri: file:///out", "    url: file:///out"))
    assert _validate(path) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        [f"{path}:8", "spec.models[0].extrenal"],
        [f"{path}:15", "spec.pipeline[0].closedQA.questions"],
        [f"{path}:16", "spec.output.uri"],
        [f"{path}:17", "spec.output.url"],
    ]


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        pytest.param("    - closedQA:\n        questions: 5\n", "    - id: x\n", "spec.pipeline[0]",
                     id="no-stage"),
        pytest.param("uri: file:///docs", "uri: ftp://host/docs", "spec.input.uri", id="scheme"),
        pytest.param("        model: m\n", "        model: m\n      embedded: {}\n",
                     "spec.models[0]", id="two-models-in-one"),
    ],
)  # fmt: skip
def test_what_the_schema_cannot_see_is_found(
    write_manifest: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
    old: str,
    new: str,
    field: str,
) -> None:
    assert _validate(write_manifest(JOB.replace(old, new))) == 1
    assert f": {field}: " in capsys.readouterr().err


def test_prompt_in_a_config_map_of_the_manifest_is_checked(
    write_manifest: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    job = JOB.replace(
        "        questions: 5\n",
        "        prompts: {user: {configMapKeyRef: {name: prompts, key: ask}}}\n",
    )
    config_map = (
        "---\nkind: ConfigMap\nmetadata: {name: prompts}\ndata: {ask: 'Ask about {{ documnt }}'}\n"
    )
    assert _validate(write_manifest(job)) == 0
    assert _validate(write_manifest(job + config_map)) == 1
    assert "must use {{ document }}" in capsys.readouterr().err


def test_every_file_is_checked(
    write_manifest: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write_manifest(JOB)
    empty, broken = tmp_path / "empty.yaml", tmp_path / "broken.yaml"
    empty.write_text("")
    broken.write_text("a: [")
    assert _validate(broken, empty, good) == 1
    printed = capsys.readouterr()
    assert f"{good}: qa is valid" in printed.out
    assert f"{broken}:1: no valid YAML" in printed.err
    assert f"{empty}: no document of kind SyntheticDataJob" in printed.err


def test_manifest_may_come_from_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(JOB))
    assert main(["validate", "-"]) == 0
    assert "qa is valid" in capsys.readouterr().out


TEMPLATE = """\
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: templates
data:
  refusing: "{{ raise_exception('never') if messages }}"
  fine: "{% for m in messages %}{{ m.content }}{% endfor %}"
"""


def _on_triton(key: str) -> str:
    return (
        JOB.replace("url: https://host/v1", "protocol: Triton\n        url: grpc://host:8001")
        .replace(
            "        model: m\n",
            "        model: m\n        triton: {chatTemplate: {jinja: {configMapKeyRef: "
            f"{{name: templates, key: {key}}}}}}}}}\n",
        )
        .rstrip("\n")
    )


def test_chat_template_that_fails_is_found_without_a_server(
    write_manifest: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _validate(write_manifest(f"{_on_triton('refusing')}\n{TEMPLATE}")) == 1
    error = capsys.readouterr().err
    assert "spec.models[0].external.triton.chatTemplate: fails on a sample" in error
    assert "never" in error
    assert _validate(write_manifest(f"{_on_triton('fine')}\n{TEMPLATE}")) == 0
    # The ConfigMap is somewhere else: nothing can be said.
    assert _validate(write_manifest(_on_triton("refusing"))) == 0
