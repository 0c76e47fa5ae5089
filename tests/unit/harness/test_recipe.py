"""The versions of the cluster's programs agree with each other."""

from __future__ import annotations

import re
from pathlib import Path

from kubesynth_testing.cluster import recipe


def test_staging_modules_have_the_version_of_kubernetes() -> None:
    expected = recipe.kubernetes_version().replace("v1.", "v0.", 1)
    go_mod = (recipe.GO_SOURCE / "go.mod").read_text()
    replaced = re.findall(r"^\s+(k8s\.io/\S+) => (\S+) (\S+)$", go_mod, re.MULTILINE)
    assert len(replaced) > 25
    assert {(new, version) for _, new, version in replaced} == {
        (old, expected) for old, _, _ in replaced
    }


def test_every_program_comes_from_a_module_that_go_mod_requires() -> None:
    go_mod = (recipe.GO_SOURCE / "go.mod").read_text()
    modules = re.findall(r"^\s(\S+) v\S+", go_mod, re.MULTILINE)
    own = "kubesynth.io/testing/cluster"
    strangers = [
        package
        for package in recipe.PACKAGES.values()
        if not any(package.startswith(module) for module in (*modules, own))
    ]
    assert strangers == []


def test_linker_stamps_the_version_that_clients_see() -> None:
    assert f"gitVersion={recipe.kubernetes_version()}" in recipe.build_flags()[-1]


def test_content_key_depends_on_names_contents_and_facts(tmp_path: Path) -> None:
    file, other = tmp_path / "a", tmp_path / "b"
    file.write_text("1")
    other.write_text("1")
    keys = {
        recipe.content_key(tmp_path, [file]),
        recipe.content_key(tmp_path, [other]),
        recipe.content_key(tmp_path, [file], "fact"),
    }
    assert len(keys) == 3
