"""Which tensors a model is asked with: the signatures of every backend that is known."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kubesynth_runner.llm.base import CompletionRequest, JsonSchemaFormat
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.triton import contracts, signature, wire
from kubesynth_runner.llm.triton.signature import Signature, Tensor

NEMO_LIMITS = {"top_k": "INT64", "top_p": "FP32", "temperature": "FP32"}
MEGATRON = {
    **NEMO_LIMITS,
    "max_length": "INT64",
    "random_seed": "INT64",
    "apply_chat_template": "BOOL",
    "compute_logprob": "BOOL",
}
SAMPLING = {"max_tokens": 32, "temperature": 0.7, "top_p": 0.9, "seed": 5}
SCHEMA = JsonSchemaFormat("list", {"type": "object"})


def a_signature(
    prompt: str,
    completion: str,
    optional: dict[str, str],
    required: dict[str, str] | None = None,
    **facts: Any,
) -> Signature:
    inputs = {prompt: Tensor(prompt, "BYTES", (-1,))}
    inputs |= {name: Tensor(name, kind, (-1,), True) for name, kind in optional.items()}
    inputs |= {name: Tensor(name, kind, (1,)) for name, kind in (required or {}).items()}
    outputs = {name: Tensor(name, "BYTES", (-1,)) for name in (completion, "log_probs")}
    outputs |= {name: Tensor(name, "UINT32") for name in facts.pop("counts", ())}
    defaults = {"batched": True, "decoupled": False, "merges_requests": False}
    return Signature("m", inputs, outputs, **(defaults | facts))


def nemo(optional: dict[str, str], completion: str = "sentences", **facts: Any) -> Signature:
    return a_signature("prompts", completion, optional, **facts)


def text_model(optional: dict[str, str], **facts: Any) -> Signature:
    return a_signature("text_input", "text_output", optional, **facts)


def values(
    described: Signature, sampling: dict[str, Any], *, server_template: bool = False, **more: Any
) -> dict[str, Any]:
    request = CompletionRequest((), sampling, **more)
    contract = contracts.choose(described, None)
    return dict(contract.values(request, server_template=server_template))


BACKENDS: dict[str, tuple[Signature, dict[str, Any]]] = {
    "megatron": (
        nemo(MEGATRON),
        {"max_length": 32, "temperature": 0.7, "top_p": 0.9, "top_k": 0, "random_seed": 5},
    ),
    "hugging-face": (
        nemo(NEMO_LIMITS | {"max_length": "INT64", "random_seed": "INT64"}),
        {"max_length": 32, "temperature": 0.7, "top_p": 0.9, "top_k": 0, "random_seed": 5},
    ),
    "nemo-vllm": (
        nemo(NEMO_LIMITS | {"max_tokens": "INT64", "seed": "INT64"}),
        {"max_tokens": 32, "temperature": 0.7, "top_p": 0.9, "top_k": 0, "seed": 5},
    ),
    "nemo-vllm-0.1": (
        nemo(NEMO_LIMITS | {"max_output_len": "INT64"}, completion="outputs"),
        {"max_output_len": 32, "temperature": 0.7, "top_p": 0.9, "top_k": 0},
    ),
    "nemo-tensorrt-llm": (
        nemo(
            NEMO_LIMITS | {"max_output_len": "INT64", "random_seed": "INT64"},
            completion="outputs",
            required={"output_context_logits": "BOOL", "output_generation_logits": "BOOL"},
        ),
        {
            "max_output_len": 32,
            "temperature": 0.7,
            "top_p": 0.9,
            "top_k": 0,
            "random_seed": 5,
            "output_context_logits": False,
            "output_generation_logits": False,
        },
    ),
    "vllm": (
        text_model(
            {
                "sampling_parameters": "BYTES",
                "stream": "BOOL",
                "exclude_input_in_output": "BOOL",
                "return_num_output_tokens": "BOOL",
            },
            counts=("num_output_tokens",),
            batched=False,
            decoupled=True,
        ),
        {
            "sampling_parameters": json.dumps(SAMPLING, sort_keys=True),
            "stream": False,
            "exclude_input_in_output": True,
            "return_num_output_tokens": True,
        },
    ),
    "tensorrt-llm": (
        text_model(
            {
                **dict.fromkeys(("temperature", "top_p"), "FP32"),
                "top_k": "INT32",
                "seed": "UINT64",
                "stream": "BOOL",
                "exclude_input_in_output": "BOOL",
            },
            required={"max_tokens": "INT32"},
        ),
        {
            "max_tokens": 32,
            "temperature": 0.7,
            "top_p": 0.9,
            "top_k": 0,
            "seed": 5,
            "stream": False,
            "exclude_input_in_output": True,
        },
    ),
    "tensorrt-llm-llm-api": (
        text_model(
            {
                "sampling_param_max_tokens": "INT32",
                "sampling_param_temperature": "FP32",
                "sampling_param_top_p": "FP32",
                "sampling_param_seed": "UINT64",
                "sampling_param_exclude_input_from_output": "BOOL",
                "streaming": "BOOL",
                "stop": "BOOL",
            }
        ),
        {
            "sampling_param_max_tokens": 32,
            "sampling_param_temperature": 0.7,
            "sampling_param_top_p": 0.9,
            "sampling_param_seed": 5,
            "sampling_param_exclude_input_from_output": True,
            "streaming": False,
        },
    ),
}


@pytest.mark.parametrize("backend", BACKENDS)
def test_sampling_goes_into_the_backends_own_tensors(backend: str) -> None:
    described, expected = BACKENDS[backend]
    assert values(described, SAMPLING) == expected
    contract = contracts.choose(described, None)
    assert contract.missing(SAMPLING) == []
    assert contract.unmet(expected) == []


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        pytest.param({"temperature": 0}, {"temperature": 0, "top_k": 1}, id="greedy"),
        pytest.param(
            {"temperature": 0, "top_p": 0.9}, {"temperature": 0, "top_k": 1}, id="greedy, top_p"
        ),
        pytest.param(
            {"temperature": 0.7}, {"temperature": 0.7, "top_k": 0, "top_p": 1.0}, id="temperature"
        ),
        pytest.param({"top_p": 0.5}, {"top_k": 0, "top_p": 0.5}, id="top_p"),
        pytest.param({"top_k": 4}, {"top_k": 4}, id="top_k"),
        pytest.param({"top_k": -1}, {"top_k": -1}, id="all tokens, nothing else"),
        pytest.param({}, {}, id="the server's own"),
        pytest.param({"n": 1, "logprobs": False}, {}, id="what asks for nothing"),
    ],
)
def test_what_openai_implies_is_spelled_out(
    sampling: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert values(nemo(MEGATRON), sampling) == expected


def test_parameter_without_an_input_is_refused_by_name() -> None:
    described = nemo(NEMO_LIMITS)
    assert contracts.choose(described, None).missing(["top_p", "min_p", "seed", "stop"]) == [
        "min_p"
    ]
    with pytest.raises(
        ClientError, match=r"no input for .* min_p; remove it.*top_p FP32"
    ) as caught:
        values(described, {"min_p": 0.1})
    assert caught.value.kind is ErrorKind.BAD_REQUEST


def test_merged_requests_share_their_sampling_so_no_seed_is_sent() -> None:
    merged = contracts.choose(nemo(MEGATRON, merges_requests=True), None)
    assert merged.shares_sampling
    assert "random_seed" not in values(merged.signature, SAMPLING)
    assert not contracts.choose(nemo(MEGATRON), None).shares_sampling
    assert not contracts.choose(text_model({}, merges_requests=True), None).shares_sampling


def test_stop_texts_are_sent_where_there_is_room() -> None:
    one, two = {"stop": ("a",)}, {"stop": ("a", "b")}
    described = nemo({"stop_words_list": "BYTES"})
    assert values(described, one) == {"stop_words_list": ("a",)}
    assert values(described, two) == {}
    assert values(text_model({"stop_words": "BYTES"}), two) == {"stop_words": ("a", "b")}
    assert values(text_model({"stop": "BOOL"}), one) == {}


def test_server_that_applies_the_template_is_told_to() -> None:
    described = nemo(MEGATRON)
    assert contracts.choose(described, None).takes_messages
    assert values(described, {}, server_template=True) == {"apply_chat_template": True}
    assert not contracts.choose(nemo(NEMO_LIMITS), None).takes_messages


def test_schema_goes_to_servers_that_can_be_held_to_one() -> None:
    guided = text_model({"guided_decoding_guide_type": "BYTES", "guided_decoding_guide": "BYTES"})
    assert values(guided, {}, response_format=SCHEMA) == {
        "guided_decoding_guide_type": "json_schema",
        "guided_decoding_guide": '{"type": "object"}',
    }
    vllm = BACKENDS["vllm"][0]
    sent = json.loads(values(vllm, {}, response_format=SCHEMA)["sampling_parameters"])
    assert json.loads(sent["guided_decoding"]) == {"json": {"type": "object"}}
    assert contracts.choose(vllm, None).constrains
    assert not contracts.choose(nemo(MEGATRON), None).constrains


def test_extra_body_are_inputs_by_name_and_win() -> None:
    described = nemo(NEMO_LIMITS | {"lora_uids": "BYTES"})
    extra = {"lora_uids": "7", "top_k": 3}
    assert values(described, {"top_k": 1}, extra_body=extra) == {"lora_uids": "7", "top_k": 3}
    with pytest.raises(ClientError, match=r"extraBody\.lora: the model has no such input"):
        values(described, {}, extra_body={"lora": "7"})
    sent = values(BACKENDS["vllm"][0], {}, extra_body={"lora_name": "a"})["sampling_parameters"]
    assert json.loads(sent) == {"lora_name": "a"}


def test_input_that_nothing_fills_is_named() -> None:
    described = text_model({}, required={"max_tokens": "INT32", "image": "FP32"})
    contract = contracts.choose(described, None)
    assert [str(tensor) for tensor in contract.unmet({"max_tokens"})] == ["image FP32[1]"]
    unknown = text_model({}, required={"image": "FP32"}, knows_optional=False)
    assert contracts.choose(unknown, None).unmet(()) == []


def test_prompt_is_taken_off_only_where_it_cannot_be_refused() -> None:
    assert contracts.choose(text_model({}), None).echoes
    assert not contracts.choose(BACKENDS["vllm"][0], None).echoes
    assert not contracts.choose(nemo({}), None).echoes


@pytest.mark.parametrize(
    ("described", "wanted", "message"),
    [
        (a_signature("INPUT0", "OUTPUT0", {}), None, "neither an input prompts"),
        (a_signature("text_input", "text_output", {}), "NeMoDeploy", "needs an input prompts"),
        (a_signature("prompts", "embeddings", {}), None, "needs an output sentences or outputs"),
        (
            Signature(
                "m",
                {"text_input": Tensor("text_input", "INT32", (4,))},
                {"text_output": Tensor("text_output", "BYTES")},
                batched=False,
                decoupled=False,
                merges_requests=False,
            ),
            None,
            r"input text_input INT32\[4\] must be of datatype BYTES",
        ),
        (
            Signature(
                "m",
                {"text_input": Tensor("text_input", "BYTES", (4,))},
                {"text_output": Tensor("text_output", "BYTES")},
                batched=False,
                decoupled=False,
                merges_requests=False,
            ),
            None,
            r"text_input BYTES\[4\] must take a single text",
        ),
    ],
)
def test_model_that_does_not_fit_is_described(
    described: Signature, wanted: str | None, message: str
) -> None:
    with pytest.raises(ClientError, match=message) as caught:
        contracts.choose(described, wanted)
    assert caught.value.kind is ErrorKind.BAD_REQUEST
    assert "It has inputs" in str(caught.value)


def test_contract_can_be_stated() -> None:
    both = a_signature("prompts", "sentences", {"text_input": "BYTES"})
    outputs = {**both.outputs, "text_output": Tensor("text_output", "BYTES")}
    both = Signature("m", both.inputs, outputs, False, False, False)
    assert contracts.choose(both, None).completion == "sentences"
    assert contracts.choose(both, "TextGeneration").completion == "text_output"


def test_only_outputs_that_are_read_are_asked_for() -> None:
    contract = contracts.choose(BACKENDS["vllm"][0], None)
    assert contract.outputs == ("text_output", "num_output_tokens")


def test_signature_is_read_from_a_configuration() -> None:
    config = wire.MESSAGES["ModelConfig"](name="m", max_batch_size=8)
    config.input.add(name="prompts", data_type=13, dims=[-1])
    config.input.add(name="top_k", data_type=9, dims=[1], optional=True)
    config.output.add(name="sentences", data_type=13, dims=[-1])
    config.dynamic_batching.SetInParent()
    described = signature.from_config(config)
    assert str(described) == (
        "inputs prompts BYTES[-1], top_k INT64[1]; outputs sentences BYTES[-1]"
    )
    assert (described.batched, described.merges_requests, described.decoupled) == (
        True,
        True,
        False,
    )
    assert [tensor.optional for tensor in described.inputs.values()] == [False, True]


def test_signature_is_read_from_metadata_where_there_is_nothing_else() -> None:
    metadata = wire.MESSAGES["ModelMetadataResponse"](name="m")
    metadata.inputs.add(name="text_input", datatype="BYTES", shape=[-1, 1])
    metadata.outputs.add(name="text_output", datatype="BYTES", shape=[-1, -1])
    described = signature.from_metadata(metadata)
    assert (described.batched, described.knows_optional) == (True, False)
    assert described.inputs["text_input"].shape == (1,)
    metadata.inputs.add(name="stream", datatype="BOOL", shape=[1])
    assert not signature.from_metadata(metadata).batched
