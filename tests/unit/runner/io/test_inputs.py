from __future__ import annotations

import os
from pathlib import Path

import pytest

from kubesynth_api.conditions import Reason
from kubesynth_api.v1alpha1.storage import InputSpec
from kubesynth_runner import errors
from kubesynth_runner.io import input_files, inputs
from kubesynth_runner.io.mounts import Mounts
from kubesynth_runner.io.plan_file import InputFile

FILES = (
    "a.jsonl",
    "b.ndjson.gz",
    "notes.txt",
    "readme.MD",
    "table.parquet",
    "picture.png",
    ".hidden.jsonl",
    "_SUCCESS",
    "part [1].jsonl",
    "deep/c.jsonl",
    "deep/er/d.jsonl",
    "deep/.cache/e.jsonl",
    "_temporary/f.jsonl",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    # Itself below a hidden folder: what the user has spelled out is meant.
    root = tmp_path / ".store/_corpus"
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text('{"text": "x"}\n')
    return root


def found(uri: str, folder: Path, mounts: Mounts | None = None, **spec: str) -> list[str]:
    wire = {"uri": uri.replace("ROOT", str(folder)), **spec}
    options = InputSpec.model_validate(wire)
    files = inputs.find(inputs.open_source(options, mounts or Mounts()), options)
    return [file.uri.replace(str(folder), "ROOT") for file in files]


def found_one(options: InputSpec, mounts: Mounts) -> tuple[inputs.InputSource, InputFile]:
    source = inputs.open_source(options, mounts)
    (file,) = inputs.find(source, options)
    return source, file


@pytest.mark.parametrize(
    ("uri", "names"),
    [
        pytest.param("file://ROOT/a.jsonl", ["a.jsonl"], id="one-file"),
        pytest.param("file://ROOT/*.jsonl", ["a.jsonl", "part [1].jsonl"], id="star"),
        pytest.param("file://ROOT/?.jsonl", ["a.jsonl"], id="question-mark"),
        pytest.param(
            "file://ROOT/**/*.jsonl",
            ["a.jsonl", "deep/c.jsonl", "deep/er/d.jsonl", "part [1].jsonl"],
            id="two-stars",
        ),
        pytest.param("file://ROOT/deep/**", ["deep/c.jsonl", "deep/er/d.jsonl"], id="all-below"),
        pytest.param("file://ROOT/deep", ["deep/c.jsonl", "deep/er/d.jsonl"], id="folder"),
        pytest.param("file://ROOT/deep/", ["deep/c.jsonl", "deep/er/d.jsonl"], id="folder-slash"),
        pytest.param("file://ROOT/part [1].jsonl", ["part [1].jsonl"], id="brackets-in-a-name"),
        pytest.param("file://ROOT/_temporary/*.jsonl", ["_temporary/f.jsonl"], id="spelled-out"),
        pytest.param("file://ROOT/.hidden.jsonl", [".hidden.jsonl"], id="hidden-by-name"),
    ],
)
def test_pattern_finds_files_in_order(folder: Path, uri: str, names: list[str]) -> None:
    assert found(uri, folder) == [f"file://ROOT/{name}" for name in names]


def test_folder_means_every_file_of_a_known_format(folder: Path) -> None:
    assert found("file://ROOT", folder) == [
        f"file://ROOT/{name}"
        for name in (
            "a.jsonl",
            "b.ndjson.gz",
            "deep/c.jsonl",
            "deep/er/d.jsonl",
            "notes.txt",
            "part [1].jsonl",
            "readme.MD",
            "table.parquet",
        )
    ]


def test_paths_without_a_scheme_are_absolute_or_below_the_manifest(folder: Path) -> None:
    assert found("ROOT/a.jsonl", folder) == ["ROOT/a.jsonl"]
    assert found("file://deep/*.jsonl", folder, Mounts(base_folder=folder)) == [
        "file://deep/c.jsonl"
    ]


def test_volume_claims_are_named_in_uris(folder: Path) -> None:
    mounts = Mounts(claims={"corpus": folder})
    assert found("pvc://corpus/deep/**/*.jsonl", folder, mounts) == [
        "pvc://corpus/deep/c.jsonl",
        "pvc://corpus/deep/er/d.jsonl",
    ]


def config_map(root: Path, version: str, **files: str) -> Path:
    """Lay a ConfigMap out as the kubelet mounts it: symbolic links through ..data."""
    (root / version).mkdir(parents=True)
    for name, text in files.items():
        (root / version / name).write_text(text)
        link = root / name
        if not link.is_symlink():
            link.symlink_to(f"..data/{name}")
    data = root / "..data"
    data.unlink(missing_ok=True)
    data.symlink_to(version)
    return root


def test_config_map_files_are_found_once(tmp_path: Path) -> None:
    root = config_map(tmp_path / "docs", "..2026_01", **{"a.jsonl": "{}", "b.jsonl": "{}"})
    mounts = Mounts(config_maps={"docs": root})
    assert found("configmap://docs/*.jsonl", root, mounts) == [
        "configmap://docs/a.jsonl",
        "configmap://docs/b.jsonl",
    ]


def test_config_map_mounted_again_is_the_same_input(tmp_path: Path) -> None:
    first = config_map(tmp_path / "1", "..2026_01", **{"a.jsonl": "same"})
    second = config_map(tmp_path / "2", "..2026_02", **{"a.jsonl": "same"})
    os.utime(second / "a.jsonl", (1, 1))
    spec = InputSpec(uri="configmap://docs/a.jsonl")
    _, file = found_one(spec, Mounts(config_maps={"docs": first}))
    again = inputs.open_source(spec, Mounts(config_maps={"docs": second}))
    with again.open(file).open() as content:
        assert content.read() == b"same"


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        pytest.param("file://ROOT/*.csv", "matches no file", id="no-match"),
        pytest.param("file://ROOT/nothing.jsonl", "there is no such file", id="missing"),
        pytest.param("file://ROOT/nowhere/*.jsonl", "matches no file", id="missing-folder"),
        pytest.param(
            "file://ROOT/*.png", r"picture\.png has none of the known", id="unknown-ending"
        ),
        pytest.param("file://ROOT/empty", "there is no such file", id="empty-folder"),
        pytest.param(
            "file://ROOT/tables/*.*",
            r"a\.csv: \.csv is not read; convert it to Parquet or JSONL",
            id="convert",
        ),
        pytest.param(
            "file://ROOT/tables",
            r"holds no file with a known ending \(.*\), only 2 \.csv, 1 without an ending, 1 "
            r"\.csv\.gz \(\.csv is not read; convert",
            id="nothing-known",
        ),
        pytest.param("file://ROOT/**.jsonl", "no usable pattern", id="bad-pattern"),
        pytest.param("pvc://other/a.jsonl", "--volume other=PATH", id="unmapped-claim"),
        pytest.param("pvc://corpus/../../etc/passwd", "out of its volume", id="out-of-the-volume"),
    ],
)
def test_unusable_input_is_a_configuration_error_that_names_it(
    folder: Path, uri: str, problem: str
) -> None:
    (folder / "empty").mkdir()
    (folder / "tables").mkdir()
    for name in ("a.csv", "b.CSV", "c.csv.gz", "README"):
        (folder / "tables" / name).write_text("x")
    with pytest.raises(errors.ConfigurationError, match=problem):
        found(uri, folder, Mounts(claims={"corpus": folder}))


def test_format_can_be_set_where_the_ending_says_nothing(folder: Path) -> None:
    (folder / "dump").write_text('{"text": "x"}\n')
    _, file = found_one(InputSpec(uri=f"file://{folder}/dump", format="JSONL"), Mounts())
    assert file.format == "JSONL"


def test_changed_file_is_refused_by_its_name(folder: Path) -> None:
    source, file = found_one(InputSpec(uri=f"file://{folder}/a.jsonl"), Mounts())
    assert source.open(file).open_anywhere() == folder / "a.jsonl"
    (folder / "a.jsonl").write_text('{"text": "another"}\n')
    with pytest.raises(errors.ConfigurationError, match=r"a\.jsonl has changed") as caught:
        source.open(file)
    assert caught.value.reason is Reason.INPUT_CHANGED


def test_file_that_is_gone_is_refused_by_its_name(folder: Path) -> None:
    source, file = found_one(InputSpec(uri=f"file://{folder}/a.jsonl"), Mounts())
    (folder / "a.jsonl").unlink()
    with pytest.raises(errors.ConfigurationError, match=r"a\.jsonl") as caught:
        source.open(file)
    assert caught.value.reason is Reason.INPUT_UNREADABLE


def test_what_is_left_out_of_a_folder_is_counted(tmp_path: Path) -> None:
    for name in ("a.txt", "e.TXT", "b.pdf", "c.csv", "d.json", "f.html", ".hidden.csv"):
        (tmp_path / name).write_text("x")
    source = inputs.open_source(InputSpec(uri=f"file://{tmp_path}"), Mounts())
    for _ in range(2):
        assert len(source.find()) == 2
        assert source.left_out == {".pdf": 1, ".csv": 1, ".json": 1, ".html": 1}
    assert input_files.describe_left_out(source.left_out).startswith(
        "1 .csv, 1 .html, 1 .json, 1 .pdf (.csv is not read; convert it"
    )


def test_what_is_left_out_is_told_at_bounded_length() -> None:
    many = {f".{number:02}{'x' * 200}": 2 for number in range(30)}
    told = input_files.describe_left_out({".csv": 9, **many})
    assert told.startswith(f"9 .csv, 2 .00{'x' * 17}, ")
    assert ", 50 with other endings (.csv is not read; " in told
    assert len(told) < 500
