"""Servers of a cluster, replaced by endpoints."""

from __future__ import annotations

from typing import Any

import pytest

from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_runner.cli.errors import CommandError
from kubesynth_runner.cli.mappings import with_servers

SHARED = {"name": "generator", "serverRef": {"name": "llama-70b"}}
INLINE = {"name": "generator", "server": {"classRef": {"name": "vllm"}, "model": "meta/llama"}}


def _spec(model: dict[str, Any]) -> SyntheticDataJobSpec:
    return SyntheticDataJobSpec.model_validate(
        {
            "models": [model],
            "input": {"uri": "file:///in"},
            "pipeline": [{"closedQA": {}}],
            "output": {"uri": "file:///out"},
        }
    )


@pytest.mark.parametrize(
    ("model", "flag", "expected"),
    [
        pytest.param(
            SHARED, "llama-70b=http://h:1/v1#m", ("http://h:1/v1", "m"), id="shared-by-its-name"
        ),
        pytest.param(
            INLINE, "generator=http://h:1/v1", ("http://h:1/v1", "meta/llama"), id="inline-by-role"
        ),
        pytest.param(INLINE, "generator=http://h/v1#m2", ("http://h/v1", "m2"), id="other-model"),
    ],
)
def test_server_becomes_an_endpoint(
    model: dict[str, Any], flag: str, expected: tuple[str, str]
) -> None:
    changed = with_servers(_spec(model), [flag]).models[0]
    assert changed.external is not None
    assert (changed.external.url, changed.external.model) == expected
    assert (changed.server, changed.server_ref) == (None, None)


@pytest.mark.parametrize(
    ("model", "flags", "message"),
    [
        pytest.param(SHARED, [], "--server llama-70b=URL#MODEL", id="shared-not-mapped"),
        pytest.param(INLINE, [], "--server generator=URL", id="inline-not-mapped"),
        pytest.param(SHARED, ["llama-70b=http://h/v1"], "name the model too", id="no-model"),
        pytest.param(SHARED, ["llama-70b=h:8000#m"], "no http:// or https:// URL", id="no-url"),
        pytest.param(SHARED, ["llama-70b"], "expected --server NAME=", id="no-value"),
    ],
)
def test_what_cannot_be_mapped_names_the_flag(
    model: dict[str, Any], flags: list[str], message: str
) -> None:
    with pytest.raises(CommandError, match=message):
        with_servers(_spec(model), flags)
