"""What the flags of `run` and `estimate` make of objects: where they are written, and where not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import yaml

from kubesynth_runner.cli import manifests, mappings
from kubesynth_runner.cli.errors import CommandError


def read(folder: Path, *documents: Mapping[str, object]) -> manifests.Manifest:
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    return manifests.read(str(path))


def mapped(folder: Path, config: Sequence[str] = (), secret: Sequence[str] = ()) -> mappings.Mapped:
    scratch = folder / "scratch"
    return mappings.map_objects(read(folder), mappings.Flags(config, secret), scratch)


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
@pytest.mark.parametrize("name", ["/tmp/x", "../x", "a/b", "A", "", None])
def test_an_object_is_written_nowhere_but_under_a_name_of_a_cluster(
    tmp_path: Path, kind: str, name: str | None
) -> None:
    document = {"kind": kind, "metadata": {"name": name}, "data": {}}
    with pytest.raises(CommandError, match=r"job.yaml:\d+: metadata.name: .* no name of an object"):
        read(tmp_path, document)


@pytest.mark.parametrize("key", ["..", ".", "a/b", "../x", "/x", ""])
def test_a_key_of_an_object_is_a_file_of_its_folder(tmp_path: Path, key: str) -> None:
    document = {"kind": "ConfigMap", "metadata": {"name": "x"}, "data": {key: "text"}}
    with pytest.raises(CommandError, match=r"job.yaml:\d+: data\..*: no key of a ConfigMap"):
        read(tmp_path, document)


@pytest.mark.parametrize("flag", ["config", "secret"])
def test_a_flag_names_objects_of_a_cluster(tmp_path: Path, flag: str) -> None:
    (tmp_path / "a.env").write_text("A=1")
    with pytest.raises(CommandError, match=f"--{flag} .*: '../x' is no name of an object"):
        mapped(tmp_path, **{flag: [f"../x={tmp_path}/a.env"]})


def test_the_keys_of_an_environment_file_are_files_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "a.env").write_text("..=1")
    with pytest.raises(CommandError, match=r"a\.env:1: expected KEY=VALUE"):
        mapped(tmp_path, secret=[f"x={tmp_path}/a.env"])


def test_several_files_are_keys_of_one_config_map(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name)
    flags = [f"p={tmp_path}/{name}" for name in ("a.txt", "b.txt", "a.txt")]
    folder = mapped(tmp_path, flags).config_maps["p"]
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "a.txt": "a.txt",
        "b.txt": "b.txt",
    }


def test_files_that_cannot_be_one_config_map_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("a.txt", "folder/a.txt"):
        (tmp_path / name).write_text(name)
    for other in ("folder/a.txt", "folder"):
        flags = [f"p={tmp_path}/a.txt", f"p={tmp_path}/{other}"]
        with pytest.raises(CommandError, match=r"--config p=.*: one folder, or files of different"):
            mapped(tmp_path, flags)
        with pytest.raises(CommandError, match=r"--config p=.*: one folder, or files of different"):
            mapped(tmp_path, flags[::-1])
