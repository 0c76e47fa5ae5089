"""Which client a model of the manifest gets, and what it is told."""

from __future__ import annotations

from typing import Any

import pytest

from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_runner import clients, errors
from kubesynth_runner.environment import RunEnvironment
from kubesynth_runner.io.mounts import Mounts
from kubesynth_runner.llm.base import ChatClient, Message
from kubesynth_runner.llm.openai import OpenAIChatClient
from kubesynth_runner.llm.triton.client import TritonChatClient
from kubesynth_runner.llm.triton.endpoint import TritonEndpoint
from kubesynth_testing.manifests import SMALL, edited

TRITON = {"protocol": "Triton", "url": "grpc://triton", "model": "m"}


def connect(external: dict[str, Any], edits: dict[str, Any] | None = None) -> ChatClient:
    manifest = edited(SMALL, {"spec.models[0].external": external, **(edits or {})})
    spec = SyntheticDataJobSpec.model_validate(manifest["spec"])
    model = spec.models[0]
    assert model.external is not None
    environment = RunEnvironment(Mounts(), {"judge": "k"})
    return clients.connect(spec, model, model.external, environment, 4)


def endpoint(client: ChatClient) -> TritonEndpoint:
    assert isinstance(client, TritonChatClient)
    return client._endpoint


def test_protocol_decides() -> None:
    assert isinstance(connect({"url": "http://llm/v1", "model": "m"}), OpenAIChatClient)
    assert isinstance(connect(TRITON), TritonChatClient)


def test_triton_is_told_what_the_manifest_says() -> None:
    options = {
        "contract": "TextGeneration",
        "modelVersion": "2",
        "chatTemplate": {"jinja": {"inline": "{{ messages | map(attribute='content') | join }}"}},
        "connections": 3,
    }
    told = endpoint(connect(TRITON | {"triton": options, "extraBody": {"lora_uids": "1"}}))
    assert (told.address, told.has_tls) == ("triton:8001", False)
    assert (told.contract, told.model_version, told.connections) == ("TextGeneration", "2", 3)
    assert set(told.extra_body) == {"lora_uids"}
    assert told.render is not None
    assert told.render((Message("user", "a"), Message("user", "b"))) == "ab"


def test_triton_is_told_the_sampling_of_all_stages() -> None:
    sampling = {
        "spec.models[0].sampling": {"maxTokens": 9, "choices": 1},
        "spec.pipeline[1].answer.sampling": {"topP": 0.5},
    }
    assert endpoint(connect(TRITON, sampling)).sampling_fields == {"max_tokens", "top_p"}


def test_without_a_template_the_server_has_to_apply_its_own() -> None:
    told = endpoint(connect(TRITON))
    assert (told.render, told.contract) == (None, None)


def test_failing_template_names_its_field() -> None:
    template = {"jinja": {"inline": "{{ raise_exception('never') if messages }}"}}
    with pytest.raises(errors.ConfigurationError, match=r"triton\.chatTemplate: never"):
        connect(TRITON | {"triton": {"chatTemplate": template}})


def test_missing_key_names_its_field() -> None:
    key = {"secretKeyRef": {"name": "s", "key": "k"}}
    with pytest.raises(errors.ConfigurationError, match=r"external\.apiKey: Secret 's' has no key"):
        connect(TRITON | {"apiKey": key})


@pytest.mark.parametrize(
    ("url", "address", "loopback"),
    [
        ("grpc://triton:9", "triton:9", False),
        ("grpcs://triton.example.com/", "triton.example.com:8001", False),
        ("127.0.0.1:7", "127.0.0.1:7", True),
        ("grpc://[::1]", "[::1]:8001", True),
        ("[fe80::1]:5", "[fe80::1]:5", False),
    ],
)
def test_address_of_a_url(url: str, address: str, loopback: bool) -> None:
    told = TritonEndpoint(url, "m")
    assert (told.address, told.is_loopback) == (address, loopback)
