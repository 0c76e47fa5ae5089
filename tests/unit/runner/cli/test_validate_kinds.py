"""`kubesynth validate` on what is not a job: model servers, classes, and what is not ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubesynth_runner.cli.__main__ import main

SERVER = """\
apiVersion: kubesynth.io/v1alpha1
kind: ModelServer
metadata:
  name: llama
spec:
  model: meta/llama
  classRef: {name: vllm}
"""
CLASS = """\
apiVersion: kubesynth.io/v1alpha1
kind: ClusterModelServerClass
metadata:
  name: mine
spec:
  engine: vllm
  image: "registry/vllm:{vresion}"
  command: [serve]
"""
CLAIM = "---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: datasets}\n"
EXAMPLES = Path(__file__).parents[4] / "examples"


def validate(folder: Path, text: str) -> int:
    path = folder / "it.yaml"
    path.write_text(text)
    return main(["validate", str(path)])


def test_a_server_is_checked_and_others_are_skipped_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert validate(tmp_path, SERVER + CLAIM) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[2] for line in lines] == [
        "ModelServer llama is valid",
        "skipped: PersistentVolumeClaim datasets",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (SERVER.replace("model: meta", "modle: meta"), ":6: spec.modle: there is no such field"),
        (SERVER.replace("name: llama", "name: Llama"), ":4: metadata.name: "),
        (CLASS, "spec.image: {vresion} is no placeholder of a class; there are {"),
        (
            SERVER.replace("ModelServer", "ModelSrever"),
            ":2: kind: 'ModelSrever' is no kind of kubesynth.io; there are SyntheticDataJob, ",
        ),
        (
            SERVER.replace("kubesynth.io/v1alpha1", "v1").replace(
                "ModelServer", "SyntheticDatajob"
            ),
            ":2: kind: 'SyntheticDatajob' is no kind of kubesynth.io",
        ),
        (SERVER.replace("kind: ModelServer\n", ""), "kind: is required; there are"),
        ("just text", "kind: is required"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, problem: str
) -> None:
    assert validate(tmp_path, text) == 1
    assert problem in capsys.readouterr().err


def test_all_examples_can_be_given_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", *map(str, sorted(EXAMPLES.glob("*.yaml")))]) == 0
    assert "PersistentVolumeClaim" in capsys.readouterr().out


def test_run_says_what_there_is_instead_of_a_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "it.yaml").write_text(SERVER)
    assert main(["run", str(tmp_path / "it.yaml")]) != 0
    said = capsys.readouterr().err
    assert "no document of kind SyntheticDataJob, only ModelServer" in said
