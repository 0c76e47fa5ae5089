"""Images written without a Docker daemon have the format that `docker save` gives."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

from kubesynth_testing.cluster import image_archive
from kubesynth_testing.cluster.image_archive import Image


def read_json(archive: tarfile.TarFile, name: str) -> Any:
    member = archive.extractfile(name)
    assert member is not None
    return json.load(member)


def test_images_that_share_a_layer_store_it_once(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    below = image_archive.write_layer(tmp_path / "below.tar", {"/bin/sh": program})
    above = image_archive.write_layer(tmp_path / "above.tar", {}, {"/bin/ash": "sh"})
    archive = tmp_path / "images.tar"
    image_archive.write_archive(
        archive, [Image("a:1", [below]), Image("b:1", [below, above], ["/bin/ash"])]
    )

    with tarfile.open(archive) as content:
        names = content.getnames()
        manifest = read_json(content, "manifest.json")
        first, second = (read_json(content, entry["Config"]) for entry in manifest)
    assert len([name for name in names if name.endswith("layer.tar")]) == 2
    assert [entry["RepoTags"] for entry in manifest] == [["a:1"], ["b:1"]]
    assert manifest[1]["Layers"][0] == manifest[0]["Layers"][0]
    assert second["rootfs"]["diff_ids"][0] == first["rootfs"]["diff_ids"][0]
    assert second["config"]["Entrypoint"] == ["/bin/ash"]


def test_programs_in_a_layer_can_be_run_and_belong_to_root(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o600)
    layer = image_archive.write_layer(tmp_path / "layer.tar", {"/usr/bin/program": program})
    with tarfile.open(layer) as content:
        entry = content.getmember("usr/bin/program")
        assert (entry.mode, entry.uid, entry.gid) == (0o755, 0, 0)
        assert content.getmember("tmp").mode == 0o1777
