"""Which tensors a model is asked with, and what its answers mean. Pure.

NeMoDeploy      `prompts` in; `outputs` (TensorRT-LLM, vLLM of 2025) or `sentences` (Megatron,
                Hugging Face, vLLM, TensorRT-LLM's LLM API) out. Export-Deploy, nemo_deploy and
                nemo_export, versions 0.1 to 0.6.
TextGeneration  `text_input` in, `text_output` out: Triton's vLLM backend (sampling as JSON in
                `sampling_parameters`), TensorRT-LLM's ensemble and BLS models, and its LLM API
                backend (`sampling_param_*`). vllm_backend src/model.py, TensorRT-LLM
                triton_backend/all_models.

Within a contract every server has tensors of its own, so requests are put together from what the
model says it takes: a parameter goes to the first of its names that the model has as an input.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from kubesynth_runner.llm.base import CompletionRequest
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.triton.signature import Signature, Tensor
from kubesynth_runner.llm.triton.tensors import TensorProblem, Value, encode

NEMO_DEPLOY = "NeMoDeploy"
TEXT_GENERATION = "TextGeneration"
_PROMPT = {NEMO_DEPLOY: "prompts", TEXT_GENERATION: "text_input"}
_COMPLETION = {NEMO_DEPLOY: ("sentences", "outputs"), TEXT_GENERATION: ("text_output",)}
_JSON_SAMPLING = "sampling_parameters"
_SERVER_TEMPLATE = "apply_chat_template"
_GUIDE_TYPE, _GUIDE = "guided_decoding_guide_type", "guided_decoding_guide"
_MAX_TOKENS = (
    "max_tokens",
    "max_length",
    "max_output_len",
    "max_output_token",
    "request_output_len",
    "sampling_param_max_tokens",
)
# Wire fields of the chat completions API, and the inputs that mean the same.
_INPUTS: Mapping[str, tuple[str, ...]] = {
    "max_tokens": _MAX_TOKENS,
    "max_completion_tokens": _MAX_TOKENS,
    "seed": ("seed", "random_seed", "sampling_param_seed"),
    "stop": ("stop_words", "stop_words_list", "stop", "sampling_param_stop"),
}
# Completions per request and log probabilities: asking for one completion is asking for nothing.
_NOTHING_ASKED: Mapping[str, Any] = {"n": 1, "logprobs": False, "top_logprobs": 0}
# What is always sent where a model takes it: the completion alone, in one piece, and its counts.
_ALWAYS: Mapping[str, Value] = {
    "exclude_input_in_output": True,
    "sampling_param_exclude_input_from_output": True,
    "stream": False,
    "streaming": False,
    "output_context_logits": False,
    "output_generation_logits": False,
}
# Asked for where there is an output of the name.
_COUNTS: Mapping[str, str] = {
    "return_finish_reason": "finish_reason",
    "return_num_input_tokens": "num_input_tokens",
    "return_num_output_tokens": "num_output_tokens",
}
ANSWER_OUTPUTS = tuple(_COUNTS.values())


@dataclasses.dataclass(frozen=True, slots=True)
class EncodedInput:
    """An input as it is sent."""

    name: str
    datatype: str
    shape: list[int]
    content: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Contract:
    """How one model is asked."""

    name: str
    signature: Signature
    prompt: Tensor
    completion: str

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs that are read; no others are asked for: logits are megabytes."""
        known = self.signature.outputs
        return (self.completion, *(name for name in ANSWER_OUTPUTS if name in known))

    @property
    def takes_messages(self) -> bool:
        """Whether the server can apply its model's own chat template."""
        return self._input(_SERVER_TEMPLATE, "BOOL") is not None

    @property
    def constrains(self) -> bool:
        """Whether there is a way to ask for an answer that fits a JSON schema."""
        return self._takes_json_sampling or self._input(_GUIDE, "BYTES") is not None

    @property
    def echoes(self) -> bool:
        """Whether an answer may begin with its prompt, because nothing can be said against it."""
        return self.name == TEXT_GENERATION and not any(
            name in self.signature.inputs for name in _ALWAYS if "exclude_input" in name
        )

    @property
    def stops_early(self) -> bool:
        """Whether completions end after 16 tokens unless a limit is set, as in the vLLM backend."""
        return self._takes_json_sampling

    @property
    def shares_sampling(self) -> bool:
        """Whether requests that the server merges all get the sampling of the first of them.

        NeMo Deploy does so (PyTriton's `@batch` with `@first_value`), or fails all of them.
        """
        return self.name == NEMO_DEPLOY and self.signature.merges_requests

    def missing(self, fields: Collection[str]) -> list[str]:
        """Return the sampling parameters among `fields` that the model cannot be given.

        A seed and stop texts are not among them: the one is left out, the others are cut off here.
        """
        if self._takes_json_sampling:
            return sorted(set(fields) & {"reasoning_effort", *_NOTHING_ASKED})
        return sorted(
            field
            for field in fields
            if field not in ("seed", "stop")
            and (field in _NOTHING_ASKED or self._target(field) is None)
        )

    def unmet(self, given: Collection[str]) -> list[Tensor]:
        """Return the inputs that the model requires and requests with `given` ones lack."""
        if not self.signature.knows_optional:
            return []
        return [
            tensor
            for tensor in self.signature.inputs.values()
            if not tensor.optional and tensor.name != self.prompt.name and tensor.name not in given
        ]

    def values(self, request: CompletionRequest, *, server_template: bool) -> dict[str, Value]:
        """Return the value of each input but the prompt.

        Raises:
            ClientError: BAD_REQUEST, there is no input for something that the request asks for.
        """
        sampling = asked(request.sampling)
        for field in self.missing(sampling):
            raise _no_input(field, self.signature)
        values: dict[str, Value] = {
            name: value for name, value in _ALWAYS.items() if name in self.signature.inputs
        }
        for switch, output in _COUNTS.items():
            if switch in self.signature.inputs and output in self.signature.outputs:
                values[switch] = True
        if server_template:
            values[_SERVER_TEMPLATE] = True
        if self._takes_json_sampling:
            values[_JSON_SAMPLING] = self._json_sampling(request, sampling)
        else:
            values.update(self._tensor_sampling(sampling))
            if request.response_format is not None and self.constrains:
                values[_GUIDE_TYPE] = "json_schema"
                values[_GUIDE] = json.dumps(dict(request.response_format.schema))
        values.update(self._own(request.extra_body))
        return values

    def encode(self, values: Mapping[str, Value], prompt: str) -> list[EncodedInput]:
        """Return the inputs of a request, the prompt first.

        Raises:
            ClientError: BAD_REQUEST, a value does not go into its tensor.
        """
        return [
            self._encode(self.prompt, prompt),
            *(self._encode(self.signature.inputs[name], values[name]) for name in sorted(values)),
        ]

    @property
    def _takes_json_sampling(self) -> bool:
        return self._input(_JSON_SAMPLING, "BYTES") is not None

    def _encode(self, tensor: Tensor, value: Value) -> EncodedInput:
        try:
            shape, content = encode(tensor, value, batched=self.signature.batched)
        except TensorProblem as problem:
            raise ClientError(ErrorKind.BAD_REQUEST, str(problem)) from problem
        return EncodedInput(tensor.name, tensor.datatype, shape, content)

    def _input(self, name: str, datatype: str) -> Tensor | None:
        tensor = self.signature.inputs.get(name)
        return tensor if tensor is not None and tensor.datatype == datatype else None

    def _target(self, field: str) -> str | None:
        """Return the input that a sampling parameter goes into."""
        for name in _INPUTS.get(field, (field, f"sampling_param_{field}")):
            tensor = self.signature.inputs.get(name)
            # TensorRT-LLM has a `stop` that cancels: a BOOL, where stop texts are BYTES.
            if tensor is not None and (tensor.datatype == "BYTES") == (field == "stop"):
                return name
        return None

    def _json_sampling(self, request: CompletionRequest, sampling: Mapping[str, Any]) -> str:
        fields = dict(sampling)
        limit = fields.pop("max_completion_tokens", None)
        if limit is not None:
            fields.setdefault("max_tokens", limit)
        if request.response_format is not None:
            # As text: what vllm_backend has taken since 24.12, and still does.
            fields["guided_decoding"] = json.dumps({"json": dict(request.response_format.schema)})
        own = {
            name: value
            for name, value in request.extra_body.items()
            if name not in self.signature.inputs
        }
        return json.dumps({**fields, **own}, sort_keys=True)

    def _tensor_sampling(self, sampling: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
        fields = _spelled_out(sampling)
        if self.shares_sampling:
            fields.pop("seed", None)
        for field, value in fields.items():
            target = self._target(field)
            if target is None:
                continue  # a seed, or what was only spelled out
            if field != "stop":
                yield target, value
            elif self.name == TEXT_GENERATION or len(value) == 1:
                # NeMo Deploy has room for one; all are cut off here again.
                yield target, tuple(value)

    def _own(self, extra: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
        for name, value in extra.items():
            if name in self.signature.inputs:
                yield name, value
            elif not self._takes_json_sampling:
                raise ClientError(
                    ErrorKind.BAD_REQUEST,
                    f"extraBody.{name}: the model has no such input; it has {self.signature}",
                )


def asked(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """Return sampling parameters without those that ask for nothing, such as one completion."""
    return {
        field: value
        for field, value in sampling.items()
        if field not in _NOTHING_ASKED or _NOTHING_ASKED[field] != value
    }


def choose(signature: Signature, wanted: str | None) -> Contract:
    """Return the contract of a model, the wanted one if one is.

    Raises:
        ClientError: BAD_REQUEST, the model's tensors are not those of the contract.
    """
    names = [wanted] if wanted else [NEMO_DEPLOY, TEXT_GENERATION]
    name = next((name for name in names if _PROMPT[name] in signature.inputs), names[0])
    if not wanted and _PROMPT[name] not in signature.inputs:
        raise _misfit(
            signature,
            "it has neither an input prompts (NeMo Deploy) nor text_input (vLLM, TensorRT-LLM)",
        )
    prompt = signature.inputs.get(_PROMPT[name])
    if prompt is None:
        raise _misfit(signature, f"contract {name} needs an input {_PROMPT[name]} of BYTES")
    completion = next((item for item in _COMPLETION[name] if item in signature.outputs), None)
    if completion is None:
        expected = " or ".join(_COMPLETION[name])
        raise _misfit(signature, f"contract {name} needs an output {expected} of BYTES")
    for what, tensor in (("input", prompt), ("output", signature.outputs[completion])):
        if tensor.datatype != "BYTES":
            raise _misfit(signature, f"{what} {tensor} must be of datatype BYTES")
        if what == "input" and any(size not in (-1, 1) for size in tensor.shape):
            raise _misfit(signature, f"{what} {tensor} must take a single text")
    return Contract(name, signature, prompt, completion)


def _spelled_out(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """Return sampling parameters with what OpenAI's API implies and these servers do not.

    Their defaults are greedy: top_k 1 (NeMo Deploy), or top_k 0 with top_p 0 (TensorRT-LLM), and
    a temperature alone changes nothing. Megatron refuses top_k and top_p together.
    """
    fields = dict(sampling)
    temperature = fields.get("temperature")
    if temperature == 0:
        fields["top_k"] = 1
        fields.pop("top_p", None)
    elif fields.get("top_k", 0) in (-1, 0) and (temperature is not None or "top_p" in fields):
        fields["top_k"] = 0
        fields.setdefault("top_p", 1.0)
    return fields


def _no_input(field: str, signature: Signature) -> ClientError:
    return ClientError(
        ErrorKind.BAD_REQUEST,
        f"the model has no input for the sampling parameter {field}; remove it. It has {signature}",
    )


def _misfit(signature: Signature, what: str) -> ClientError:
    return ClientError(
        ErrorKind.BAD_REQUEST,
        f"the model {signature.model!r} cannot be asked: {what}. It has {signature}",
    )
