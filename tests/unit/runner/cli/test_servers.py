"""Servers of a cluster, replaced by endpoints."""

from __future__ import annotations

from typing import Any

import pytest

from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_runner.cli.errors import CommandError
from kubesynth_runner.cli.mappings import with_servers

SHARED = {"name": "generator", "serverRef": {"name": "llama-70b"}}
INLINE = {"name": "generator", "server": {"classRef": {"name": "vllm"}, "model": "meta/llama"}}
ON_TRITON = {
    "name": "generator",
    "server": {
        "classRef": {"name": "nemo-deploy"},
        "model": "meta/llama",
        "triton": {"chatTemplate": {"builtIn": "Phi4"}, "connections": 3},
    },
}


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
    ("model", "flag", "url", "template"),
    [
        pytest.param(SHARED, "grpc://h:8001#m", "grpc://h:8001", None, id="by-the-server"),
        pytest.param(
            SHARED, "grpcs://h?chatTemplate=ChatML#m", "grpcs://h", "ChatML", id="by-the-flag"
        ),
        pytest.param(ON_TRITON, "grpc://h:8001#m", "grpc://h:8001", "Phi4", id="by-the-job"),
        pytest.param(
            ON_TRITON, "grpc://h?chatTemplate=Llama3#m", "grpc://h", "Llama3", id="flag-wins"
        ),
    ],
)
def test_triton_server_becomes_an_endpoint(
    model: dict[str, Any], flag: str, url: str, template: str | None
) -> None:
    name = "llama-70b" if model is SHARED else "generator"
    external = with_servers(_spec(model), [f"{name}={flag}"]).models[0].external
    assert external is not None
    assert (external.protocol, external.url, external.model) == ("Triton", url, "m")
    assert external.triton is not None
    found = external.triton.chat_template
    assert (found.built_in if found else None) == template
    assert external.triton.connections == (3 if model is ON_TRITON else 1)


def test_openai_endpoint_in_the_place_of_a_triton_server_takes_no_template() -> None:
    changed = with_servers(_spec(ON_TRITON), ["generator=http://h/v1"]).models[0]
    assert changed.external is not None
    assert (changed.external.protocol, changed.external.triton) == ("OpenAI", None)


@pytest.mark.parametrize(
    ("model", "flags", "message"),
    [
        pytest.param(SHARED, [], "--server llama-70b=URL#MODEL", id="shared-not-mapped"),
        pytest.param(INLINE, [], "--server generator=URL", id="inline-not-mapped"),
        pytest.param(SHARED, ["llama-70b=http://h/v1"], "name the model too", id="no-model"),
        pytest.param(SHARED, ["llama-70b=h:8000#m"], "is no URL of the form", id="no-url"),
        pytest.param(SHARED, ["llama-70b=grpc://h"], "name the model too", id="no-model-grpc"),
        pytest.param(
            SHARED, ["llama-70b=grpc://h/v1#m"], "is no URL of the form", id="path-in-grpc"
        ),
        pytest.param(
            SHARED,
            ["llama-70b=grpc://h?chatTemplate=Lama#m"],
            "'Lama' is no built-in chat template; there are ChatML",
            id="no-such-template",
        ),
        pytest.param(
            SHARED,
            ["llama-70b=http://h/v1?chatTemplate=Llama3#m"],
            "chatTemplate belongs to grpc://",
            id="template-for-openai",
        ),
        pytest.param(SHARED, ["llama-70b"], "expected --server NAME=", id="no-value"),
    ],
)
def test_what_cannot_be_mapped_names_the_flag(
    model: dict[str, Any], flags: list[str], message: str
) -> None:
    with pytest.raises(CommandError, match=message):
        with_servers(_spec(model), flags)
