"""What a model is asked before its records."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kubesynth_runner.llm import chat_prompts
from kubesynth_runner.llm.triton import contracts
from kubesynth_runner.llm.triton.answers import Answer
from kubesynth_runner.llm.triton.client import TritonChatClient
from kubesynth_runner.llm.triton.contracts import Contract
from kubesynth_runner.llm.triton.endpoint import TritonEndpoint
from kubesynth_runner.llm.triton.signature import Signature, Tensor

INPUTS = {"text_input": "BYTES", "max_tokens": "INT32", "lora_task_id": "UINT64", "top_k": "INT32"}
SIGNATURE = Signature(
    "ensemble",
    {name: Tensor(name, datatype, (1,), False) for name, datatype in INPUTS.items()},
    {"text_output": Tensor("text_output", "BYTES")},
    batched=True,
    decoupled=False,
    merges_requests=False,
)


def test_the_probe_has_what_a_model_requires_of_every_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endpoint = TritonEndpoint(
        "grpc://triton",
        "ensemble",
        render=chat_prompts.built_in("PassThrough"),
        sampling_fields=frozenset({"top_k", "max_tokens"}),
        sampling={"top_k": 3, "max_tokens": 900},
        extra_body={"lora_task_id": 7},
    )
    sent: list[dict[str, bytes]] = []

    async def find() -> Contract:
        return contracts.choose(SIGNATURE, None)

    async def infer(request: Any, _: str) -> Answer:
        names = (tensor.name for tensor in request.inputs)
        sent.append(dict(zip(names, request.raw_input_contents, strict=True)))
        return Answer("Yes.")

    async def main() -> None:
        client = TritonChatClient(endpoint)
        monkeypatch.setattr(client._discovery, "find", find)
        monkeypatch.setattr(client._link, "infer", infer)
        await client.probe()
        await client.close()

    asyncio.run(main())
    (asked,) = sent
    assert asked.keys() == INPUTS.keys()
    numbers = {name: int.from_bytes(asked[name], "little") for name in INPUTS if "text" not in name}
    assert numbers == {"top_k": 3, "lora_task_id": 7, "max_tokens": 16}
