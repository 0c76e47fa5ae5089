"""What of an input folder cannot be read is told, and not left out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from kubesynth_api.conditions import Reason
from kubesynth_api.v1alpha1.storage import InputSpec
from kubesynth_runner import errors
from kubesynth_runner.io import inputs
from kubesynth_runner.io.mounts import Mounts


def found(uri: str) -> list[str]:
    spec = InputSpec(uri=uri)
    return [file.uri for file in inputs.find(inputs.open_source(spec, Mounts()), spec)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with one of another user's in it, and one of the file system's own."""
    for name in ("a", "b", "b/deeper", "lost+found", "_hidden"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.jsonl").write_text('{"text": "x"}\n')
    closed = {tmp_path / name for name in ("b", "lost+found", "_hidden")}
    scandir = os.scandir

    def refuse(path: Any = ".") -> Any:
        if Path(path) in closed:  # root, as whom tests may run, is refused nothing
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    return tmp_path


@pytest.mark.parametrize("pattern", ["", "/**/*.jsonl", "/*/*.jsonl", "/b", "/b/*.jsonl", "/**"])
def test_folder_that_cannot_be_read_is_named(folder: Path, pattern: str) -> None:
    with pytest.raises(errors.ConfigurationError) as caught:
        found(f"file://{folder}{pattern}")
    assert caught.value.reason is Reason.INPUT_UNREADABLE
    assert f"Permission denied: {folder}/b" in str(caught.value)


@pytest.mark.parametrize("pattern", ["/a", "/a/*.jsonl", "/a/**", "/b/x.jsonl", "/[a]/*.jsonl"])
def test_folders_that_are_not_meant_need_not_be_readable(folder: Path, pattern: str) -> None:
    assert len(found(f"file://{folder}{pattern}")) == 1


def test_what_the_file_system_keeps_for_itself_is_no_input(folder: Path) -> None:
    """Every claim on an ext4 disk has it, and only root may read it."""
    (folder / "b").rename(folder / "c")
    assert found(f"file://{folder}") == [
        f"file://{folder}/{name}" for name in ("a/x.jsonl", "c/deeper/x.jsonl", "c/x.jsonl")
    ]


def test_links_to_folders_are_followed_where_a_pattern_has_a_place_for_them(
    folder: Path,
) -> None:
    (folder / "a/itself").symlink_to(folder / "a")
    (folder / "a/gone.jsonl").symlink_to(folder / "nowhere")
    (folder / "a/round.jsonl").symlink_to(folder / "a/round.jsonl")
    assert found(f"file://{folder}/a/*/*.jsonl") == [f"file://{folder}/a/itself/x.jsonl"]
    assert found(f"file://{folder}/a") == [f"file://{folder}/a/x.jsonl"]


@pytest.mark.parametrize("name", [b"caf\xe9.jsonl", b"caf\xe9/x.jsonl"])
def test_name_that_is_no_text_is_told_escaped(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"text": "x"}\n')
    with pytest.raises(errors.ConfigurationError, match=r"caf\\xe9.* is not UTF-8") as caught:
        found(f"file://{tmp_path}")
    assert caught.value.reason is Reason.INPUT_UNREADABLE


def test_ending_that_is_no_text_is_counted_escaped(tmp_path: Path) -> None:
    for name in (b"x.jsonl", b"caf\xe9.csv", b"x.\xe9"):
        (tmp_path / os.fsdecode(name)).write_text('{"text": "x"}\n')
    source = inputs.open_source(InputSpec(uri=f"file://{tmp_path}"), Mounts())
    assert len(source.find()) == 1
    assert source.left_out == {".csv": 1, r".\xe9": 1}
