"""A host gets the settings that it needs, and an ordinary one none but those of every host."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kubesynth_testing.cluster import host, kind


def patches() -> dict[str, Any]:
    """Return the patches of kubeadm's objects by their kind."""
    found = [json.loads(patch) for patch in configuration()["kubeadmConfigPatches"]]
    return {patch.pop("kind"): patch for patch in found}


def configuration(*, own_image: bool = False) -> dict[str, Any]:
    return kind.kind_configuration(own_image=own_image, shared=Path("/shared"))


@pytest.fixture
def ordinary_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "has_cgroup_v1", lambda: False)
    monkeypatch.setattr(host, "holds_sys_resource", lambda: True)


@pytest.mark.usefixtures("ordinary_host")
def test_ordinary_host_needs_no_patch_but_for_the_collector_of_go() -> None:
    (programs,) = patches().values()
    variables = [{"name": "GOGC", "value": "400"}]
    given = {"extraEnvs": variables}
    assert programs == {
        "apiServer": given,
        "controllerManager": given,
        "scheduler": given,
        "etcd": {"local": given},
    }


@pytest.mark.usefixtures("ordinary_host")
def test_stock_image_keeps_kinds_own_pod_network() -> None:
    assert configuration()["networking"]["disableDefaultCNI"] is False
    assert configuration(own_image=True)["networking"]["disableDefaultCNI"] is True


@pytest.mark.usefixtures("ordinary_host")
def test_cgroup_v1_makes_the_kubelet_accept_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "has_cgroup_v1", lambda: True)
    assert patches()["KubeletConfiguration"] == {"failCgroupV1": False}


def test_every_node_mounts_the_shared_folder() -> None:
    nodes = configuration()["nodes"]
    assert [node["role"] for node in nodes] == ["control-plane", "worker", "worker"]
    assert all(node["extraMounts"][0]["hostPath"] == "/shared" for node in nodes)
