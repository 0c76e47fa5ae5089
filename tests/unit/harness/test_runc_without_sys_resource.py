"""A privileged container loses the one capability that the host lacks, and nothing else."""

from __future__ import annotations

import pytest

from kubesynth_testing.cluster import runc_without_sys_resource as runc


def test_the_capability_goes_from_every_set() -> None:
    process = {
        "cwd": "/",
        "capabilities": {
            "bounding": ["CAP_CHOWN", "CAP_SYS_RESOURCE"],
            "effective": ["CAP_SYS_RESOURCE"],
        },
    }
    assert runc.without_missing(process) == {
        "cwd": "/",
        "capabilities": {"bounding": ["CAP_CHOWN"], "effective": []},
    }


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--root", "/r", "create", "--bundle", "/b", "id"], id="two-words"),
        pytest.param(["create", "--bundle=/b", "id"], id="equals"),
        pytest.param(["create", "-b", "/b", "id"], id="short"),
    ],
)
def test_bundle_is_found_however_it_is_given(arguments: list[str]) -> None:
    assert runc.option(arguments, "--bundle", "-b") == "/b"


def test_missing_option_is_none() -> None:
    assert runc.option(["exec", "id"], "--process", "-p") is None
