from __future__ import annotations

from pathlib import Path

import pytest

from kubesynth_api.v1alpha1.storage import OutputSpec
from kubesynth_runner import errors
from kubesynth_runner.io.locations import local_path, open_storage
from kubesynth_runner.io.mounts import Mounts

POD = Mounts(in_pod=True)
LAPTOP = Mounts(claims={"c": Path("/data/c")}, base_folder=Path("/home/me/jobs"))


@pytest.mark.parametrize(
    ("uri", "mounts", "path"),
    [
        ("/a/b", LAPTOP, "/a/b"),
        ("a/b", LAPTOP, "/home/me/jobs/a/b"),
        ("file:///a/b", LAPTOP, "/a/b"),
        ("file://a/b", LAPTOP, "/home/me/jobs/a/b"),
        ("pvc://c/a/b", LAPTOP, "/data/c/a/b"),
        ("pvc://c/a/b", POD, "/mnt/kubesynth/pvc/c/a/b"),
        ("configmap://m/k.jsonl", POD, "/mnt/kubesynth/configmap/m/k.jsonl"),
    ],
)
def test_uris_stand_for_paths(uri: str, mounts: Mounts, path: str) -> None:
    assert local_path(uri, mounts) == Path(path)


@pytest.mark.parametrize(
    ("uri", "mounts", "problem"),
    [
        ("pvc://other/a", LAPTOP, "--volume other=PATH"),
        ("configmap://m/k", LAPTOP, "--config m=PATH"),
        ("pvc://c/../a", LAPTOP, "out of its volume"),
        ("pvc://c/a/../../b", POD, "out of its volume"),
        ("s3://bucket/a", POD, "s3:// is not available"),
    ],
)
def test_what_leads_nowhere_is_a_configuration_error(
    uri: str, mounts: Mounts, problem: str
) -> None:
    with pytest.raises(errors.ConfigurationError, match=problem):
        local_path(uri, mounts)


def test_secrets_are_found_like_the_rest() -> None:
    assert POD.secret("s") == Path("/mnt/kubesynth/secret/s")
    with pytest.raises(errors.ConfigurationError, match="--secret s=PATH"):
        LAPTOP.secret("s")


def test_storage_keeps_the_uri_for_messages() -> None:
    assert open_storage(OutputSpec(uri="pvc://c/out/"), POD).uri == "pvc://c/out"
    assert open_storage(OutputSpec(uri="s3://bucket/out/"), POD).uri == "s3://bucket/out"
