"""A model's tensors, as its configuration or its metadata tells them. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

# model_config.proto's DataType, by number; strings are BYTES in requests.
_DATATYPES = {
    1: "BOOL",
    2: "UINT8",
    3: "UINT16",
    4: "UINT32",
    5: "UINT64",
    6: "INT8",
    7: "INT16",
    8: "INT32",
    9: "INT64",
    10: "FP16",
    11: "FP32",
    12: "FP64",
    13: "BYTES",
    14: "BF16",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Tensor:
    """An input or an output. `shape` is without the batch; -1 is any size."""

    name: str
    datatype: str
    shape: tuple[int, ...] = (1,)
    optional: bool = False

    def __str__(self) -> str:
        sizes = ", ".join(map(str, self.shape))
        return f"{self.name} {self.datatype}[{sizes}]"


@dataclasses.dataclass(frozen=True, slots=True)
class Signature:
    """What a model takes and gives.

    `batched`: each tensor has a batch dimension in front. `merges_requests`: the server may put
    requests that arrive together into one call of the model. `knows_optional`: whether `optional`
    of the inputs means anything.
    """

    model: str
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    batched: bool
    decoupled: bool
    merges_requests: bool
    knows_optional: bool = True

    def __str__(self) -> str:
        return (
            f"inputs {', '.join(map(str, self.inputs.values()))};"
            f" outputs {', '.join(map(str, self.outputs.values()))}"
        )


def from_config(config: Any) -> Signature:
    """Read a `ModelConfig` message."""
    inputs = {
        item.name: Tensor(
            item.name, _DATATYPES.get(item.data_type, "?"), tuple(item.dims), item.optional
        )
        for item in config.input
    }
    outputs = {
        item.name: Tensor(item.name, _DATATYPES.get(item.data_type, "?"), tuple(item.dims))
        for item in config.output
    }
    return Signature(
        config.name,
        inputs,
        outputs,
        batched=config.max_batch_size > 0,
        decoupled=config.model_transaction_policy.decoupled,
        merges_requests=config.max_batch_size > 1 and config.HasField("dynamic_batching"),
    )


def from_metadata(metadata: Any) -> Signature:
    """Read a `ModelMetadataResponse`, for servers that keep their configurations to themselves.

    It does not tell a batch dimension from others: an unknown first size, with more behind it, is
    taken for one. Whether answers are streamed is found out by asking.
    """
    tensors = [*metadata.inputs, *metadata.outputs]
    batched = bool(tensors) and all(len(t.shape) > 1 and t.shape[0] == -1 for t in tensors)

    def read(items: Any) -> dict[str, Tensor]:
        skip = 1 if batched else 0
        return {t.name: Tensor(t.name, t.datatype, tuple(t.shape)[skip:]) for t in items}

    return Signature(
        metadata.name,
        read(metadata.inputs),
        read(metadata.outputs),
        batched=batched,
        decoupled=False,
        merges_requests=batched,
        knows_optional=False,
    )
