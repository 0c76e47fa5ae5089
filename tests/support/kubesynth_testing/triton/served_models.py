"""The models of the test's Triton server, in an environment of their own with PyTriton.

    python served_models.py --grpc PORT --http PORT --metrics PORT --llm http://127.0.0.1:PORT ...

The server, its gRPC endpoint, batching and streams are Triton's own. The tensors are those of NeMo
Deploy's backends and of Triton's vLLM and TensorRT-LLM backends. What generates is the small real
model that llama.cpp serves at --llm, or a pure function of the prompt where a test needs one.

    megatron      NeMo Deploy in the framework: sentences, apply_chat_template, merged requests
    huggingface   NeMo Deploy, Hugging Face: errors come as sentences
    trtllm        NeMo Deploy, TensorRT-LLM: outputs, two flags that must be there
    vllm          Triton's vLLM backend: decoupled, sampling as JSON, counts tokens
    ensemble      TensorRT-LLM: max_tokens must be there, the prompt comes back unless refused
    words         decoupled, one response a word: a pure function
    pure          NeMo Deploy in the framework: a pure function, after --latency seconds
    numbers       text_input of numbers: fits nothing
    late          is bound when a line comes in on standard input
"""

# mypy: disable-error-code="untyped-decorator,no-any-return"
from __future__ import annotations

import argparse
import hashlib
import json
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from pytriton.decorators import batch, first_value
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

Array = Any
POOL = ThreadPoolExecutor(16)
LOADED_AT_ONCE = 4
FAIL = "PLEASE FAIL"
# Added to the logits of tokens: strings of JSON end sooner, and white space gets rarer.
TERSE = [['"', 6], ["\n", -20], ["\t", -20]]
LLM = ""


def complete(prompt: str, **sampling: Any) -> dict[str, Any]:
    """Return what llama.cpp makes of a prompt as it is."""
    return _post("/completion", {"prompt": prompt, **sampling})


def chat(messages: str, **sampling: Any) -> str:
    """Return what llama.cpp makes of messages with the model's own chat template."""
    rendered = _post("/apply-template", {"messages": json.loads(messages)})
    content: str = complete(rendered["prompt"], **sampling)["content"]
    return content


def _post(path: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        LLM + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            document: dict[str, Any] = json.load(answer)
            return document
    except urllib.error.HTTPError as error:
        with error:
            raise RuntimeError(json.load(error)["error"]["message"]) from error


def texts(array: Array) -> list[str]:
    """Return the prompts of a batch, shape (N, 1)."""
    return [row[0].decode() for row in array]


def column(items: list[str]) -> Array:
    """Return texts as a batch, shape (N, 1)."""
    return np.array([[item.encode()] for item in items], dtype=object)


def optional(*items: tuple[str, Any]) -> list[Tensor]:
    return [Tensor(name=name, shape=(-1,), dtype=kind, optional=True) for name, kind in items]


def required(*items: tuple[str, Any]) -> list[Tensor]:
    return [Tensor(name=name, shape=(-1,), dtype=kind) for name, kind in items]


MEGATRON_INPUTS = required(("prompts", bytes)) + optional(
    ("max_length", np.int64),
    ("max_batch_size", np.int64),
    ("top_k", np.int64),
    ("top_p", np.float32),
    ("temperature", np.float32),
    ("random_seed", np.int64),
    ("compute_logprob", np.bool_),
    ("apply_chat_template", np.bool_),
    ("n_top_logprobs", np.int64),
    ("echo", np.bool_),
)
MEGATRON_OUTPUTS = required(
    ("sentences", bytes), ("log_probs", np.float32), ("top_logprobs", bytes)
)
FIRST_VALUES = ("max_length", "top_k", "top_p", "temperature", "random_seed", "apply_chat_template")


@batch
@first_value(*FIRST_VALUES)
def megatron(
    prompts: Array,
    max_length: int = 256,
    top_k: int = 1,
    top_p: float = 0.0,
    temperature: float = 1.0,
    apply_chat_template: bool = False,
    **others: Array,
) -> dict[str, Array]:
    """Greedy unless told otherwise, as in the framework; refuses top_k and top_p together."""
    if top_k > 0 and top_p > 0:
        raise ValueError("Cannot have top-p and top-k both greater than zero")
    sampling = {
        "n_predict": int(max_length),
        "top_k": int(top_k),
        "top_p": float(top_p) or 1.0,
        "temperature": float(temperature),
    }

    def one(prompt: str) -> str:
        if apply_chat_template:
            return chat(prompt, **sampling)
        text: str = complete(prompt, **sampling)["content"]
        return text

    return {"sentences": column(list(POOL.map(one, texts(prompts))))}


@batch
def huggingface(
    prompts: Array, max_length: Array | None = None, **others: Array
) -> dict[str, Array]:
    """Whatever goes wrong is told as the generated text."""
    limit = 256 if max_length is None else int(max_length[0][0])
    items = texts(prompts)
    try:
        answers = [_or_fail(item, limit) for item in items]
    except RuntimeError as error:
        answers = [f"An error occurred: {error}"] * len(items)
    return {"sentences": column(answers)}


def _or_fail(prompt: str, limit: int) -> str:
    if FAIL in prompt:
        raise RuntimeError("CUDA error: device-side assert triggered")
    text: str = complete(prompt, n_predict=limit, temperature=0)["content"]
    return text


@batch
def trtllm(
    prompts: Array,
    output_context_logits: Array,
    output_generation_logits: Array,
    max_output_len: Array | None = None,
    **others: Array,
) -> dict[str, Array]:
    """Requires its two flags, which the tests set to false."""
    if output_context_logits.any() or output_generation_logits.any():
        raise ValueError("no logits here")
    limit = 256 if max_output_len is None else int(max_output_len[0][0])
    answers = [complete(item, n_predict=limit, temperature=0)["content"] for item in texts(prompts)]
    return {"outputs": column(answers)}


def vllm(requests: list[Any]) -> Iterator[list[dict[str, Array]]]:
    """One response if `stream` is false; the prompt comes first unless it is excluded."""
    (request,) = requests
    data = request.data
    prompt = data["text_input"][0].decode()
    fields = json.loads(data["sampling_parameters"][0]) if "sampling_parameters" in data else {}
    guide = short(json.loads(fields.pop("guided_decoding", "{}")).get("json"))
    sampling = {name: value for name, value in fields.items() if name != "max_tokens"}
    answer = complete(
        prompt,
        n_predict=fields.get("max_tokens", 16),
        **sampling,
        **({"json_schema": guide, "logit_bias": TERSE} if guide else {}),
    )
    text = answer["content"]
    if not data.get("exclude_input_in_output", [False])[0]:
        text = prompt + text
    yield [
        {
            "text_output": np.array([text.encode()], dtype=object),
            "finish_reason": np.array([_reason(answer)], dtype=object),
            "num_input_tokens": np.array([answer["tokens_evaluated"]], dtype=np.uint32),
            "num_output_tokens": np.array([answer["tokens_predicted"]], dtype=np.uint32),
        }
    ]


def short(schema: Any) -> Any:
    """Return a JSON schema with an end to every text: so small a model knows none by itself."""
    if isinstance(schema, list):
        return [short(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: short(value) for name, value in schema.items()}
    return {**found, "maxLength": 40} if found.get("type") == "string" else found


def _reason(answer: dict[str, Any]) -> bytes:
    return b"length" if answer["stop_type"] == "limit" else b"stop"


VLLM_INPUTS = [
    Tensor(name="text_input", shape=(1,), dtype=bytes),
    Tensor(name="sampling_parameters", shape=(1,), dtype=bytes, optional=True),
    *(
        Tensor(name=name, shape=(1,), dtype=np.bool_, optional=True)
        for name in (
            "stream",
            "exclude_input_in_output",
            "return_finish_reason",
            "return_num_input_tokens",
            "return_num_output_tokens",
        )
    ),
]
VLLM_OUTPUTS = [
    Tensor(name="text_output", shape=(-1,), dtype=bytes),
    Tensor(name="finish_reason", shape=(-1,), dtype=bytes),
    Tensor(name="num_input_tokens", shape=(1,), dtype=np.uint32),
    Tensor(name="num_output_tokens", shape=(-1,), dtype=np.uint32),
]


@batch
def ensemble(
    text_input: Array,
    max_tokens: Array,
    exclude_input_in_output: Array | None = None,
    **others: Array,
) -> dict[str, Array]:
    """Gives the prompt back before the completion, unless that is excluded."""
    answers = []
    for index, prompt in enumerate(texts(text_input)):
        text = complete(prompt, n_predict=int(max_tokens[index][0]), temperature=0)["content"]
        excluded = exclude_input_in_output is not None and exclude_input_in_output[index][0]
        answers.append(text if excluded else prompt + text)
    return {"text_output": column(answers)}


def words(requests: list[Any]) -> Iterator[list[dict[str, Array]]]:
    """Give the prompt back, turned around, word by word."""
    (request,) = requests
    prompt = request.data["text_input"][0].decode()
    if FAIL in prompt:
        raise RuntimeError("the engine has died")
    for word in reversed(prompt.split()):
        yield [{"text_output": np.array([f"{word} ".encode()], dtype=object)}]


def make_pure(latency_seconds: float) -> Callable[..., dict[str, Array]]:
    @batch
    @first_value("max_length", "top_k", "top_p", "temperature", "random_seed")
    def pure(prompts: Array, max_length: int = 0, **others: Array) -> dict[str, Array]:
        """Numbered lines, as a list of questions has them, out of the prompt's hash."""
        time.sleep(latency_seconds)
        answers = []
        for prompt in texts(prompts):
            digest = hashlib.sha256(f"{prompt} {max_length}".encode()).hexdigest()
            lines = (f"{n + 1}. What does {digest[8 * n : 8 * n + 8]} mean?" for n in range(3))
            answers.append("\n".join(lines))
        return {"sentences": column(answers)}

    return pure


@batch
def numbers(text_input: Array) -> dict[str, Array]:
    return {"text_output": text_input}


def bind_all(triton: Triton, names: set[str], latency_seconds: float) -> None:
    """Load models into the server, which runs."""
    merged = ModelConfig(
        max_batch_size=128, batcher=DynamicBatcher(max_queue_delay_microseconds=2000)
    )
    decoupled = ModelConfig(batching=False, decoupled=True)
    sentences = required(("sentences", bytes))
    answer = [Tensor(name="text_output", shape=(1,), dtype=bytes)]
    question = [Tensor(name="text_input", shape=(1,), dtype=bytes)]
    limits = optional(("top_k", np.int64), ("top_p", np.float32), ("temperature", np.float32))
    flags = required(("output_context_logits", np.bool_), ("output_generation_logits", np.bool_))
    models: dict[str, tuple[Any, list[Tensor], list[Tensor], ModelConfig]] = {
        "megatron": (megatron, MEGATRON_INPUTS, MEGATRON_OUTPUTS, merged),
        "huggingface": (
            huggingface,
            required(("prompts", bytes)) + limits + optional(("max_length", np.int64)),
            sentences,
            merged,
        ),
        "trtllm": (
            trtllm,
            required(("prompts", bytes))
            + limits
            + flags
            + optional(("max_output_len", np.int64), ("stop_words_list", bytes)),
            required(("outputs", bytes)),
            merged,
        ),
        "vllm": (vllm, VLLM_INPUTS, VLLM_OUTPUTS, decoupled),
        "ensemble": (
            ensemble,
            [
                *question,
                Tensor(name="max_tokens", shape=(1,), dtype=np.int32),
                Tensor(name="exclude_input_in_output", shape=(1,), dtype=np.bool_, optional=True),
                Tensor(name="temperature", shape=(1,), dtype=np.float32, optional=True),
            ],
            answer,
            merged,
        ),
        "words": (words, question, answer, decoupled),
        "pure": (make_pure(latency_seconds), MEGATRON_INPUTS, sentences, merged),
        "numbers": (
            numbers,
            [Tensor(name="text_input", shape=(1,), dtype=np.int32)],
            [Tensor(name="text_output", shape=(1,), dtype=np.int32)],
            merged,
        ),
        "late": (make_pure(0), MEGATRON_INPUTS, sentences, merged),
    }

    def bind(name: str) -> None:
        function, inputs, outputs, config = models[name]
        triton.bind(name, function, inputs, outputs, config=config)

    # Each starts an interpreter of its own, and waits for it.
    with ThreadPoolExecutor(LOADED_AT_ONCE) as loading:
        list(loading.map(bind, names))


def main() -> None:
    """Serve until SIGTERM."""
    global LLM
    parser = argparse.ArgumentParser()
    for name in ("grpc", "http", "metrics"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--llm", default="")
    parser.add_argument("--workspace", required=True)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("models", nargs="+")
    arguments = parser.parse_args()
    LLM = arguments.llm
    # PyTriton prints what tritonserver says, in pieces: nobody must look for a line among them.
    told, sys.stdout = sys.stdout, sys.stderr
    # A signal would end the parent alone: its tritonserver would go on without it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    config = TritonConfig(
        **{f"{name}_address": "127.0.0.1" for name in ("grpc", "http", "metrics")},
        **{f"{name}_port": getattr(arguments, name) for name in ("grpc", "http", "metrics")},
    )
    with Triton(config=config, workspace=arguments.workspace) as triton:
        bind_all(triton, set(arguments.models), arguments.latency)
        print("the models are ready", file=told, flush=True)
        for line in sys.stdin:
            bind_all(triton, {line.strip()}, arguments.latency)
            print("the models are ready", file=told, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
