"""Values to the bytes of a tensor and back. Pure.

Numbers are little endian, one after the other; each element of BYTES is its length (uint32) and
its content. Source: Triton, "Binary data extension"; KServe's `raw_input_contents`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from kubesynth_runner.llm.triton.signature import Tensor

Scalar = str | bytes | bool | int | float
Value = Scalar | Sequence[Scalar]

_FORMATS = {
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
_LENGTH = struct.Struct("<I")


class TensorProblem(ValueError):
    """A value does not go into a tensor, or bytes are none; the message names the tensor."""


def encode(tensor: Tensor, value: Value, *, batched: bool) -> tuple[list[int], bytes]:
    """Return the shape and the content of a tensor that holds `value`, for a batch of one.

    Raises:
        TensorProblem: the value is not of the tensor's datatype, or does not fit its shape.
    """
    elements = list(value) if isinstance(value, list | tuple) else [value]
    shape = [1, *_shape(tensor, len(elements))] if batched else _shape(tensor, len(elements))
    try:
        return shape, b"".join(_element(tensor.datatype, element) for element in elements)
    except (struct.error, TypeError, ValueError, OverflowError) as exc:
        raise TensorProblem(f"input {tensor} cannot hold {value!r}: {exc}") from exc


def decode_texts(content: bytes) -> list[bytes]:
    """Return the elements of a BYTES tensor.

    Raises:
        TensorProblem: it is cut off.
    """
    elements, position = [], 0
    while position < len(content):
        start = position + _LENGTH.size
        if start > len(content):
            raise TensorProblem("a BYTES tensor is cut off within a length")
        (length,) = _LENGTH.unpack_from(content, position)
        position = start + length
        if position > len(content):
            raise TensorProblem("a BYTES tensor is cut off within an element")
        elements.append(content[start:position])
    return elements


def decode_numbers(datatype: str, content: bytes) -> list[float]:
    """Return the elements of a tensor of numbers; nothing for a datatype that is none."""
    code = _FORMATS.get(datatype)
    if code is None:
        return []
    size = struct.calcsize(code)
    count = len(content) // size
    return list(struct.unpack(f"<{count}{code}", content[: count * size]))


def _shape(tensor: Tensor, count: int) -> list[int]:
    """Return the sizes for `count` elements: the last free one takes them, all others are 1."""
    sizes = [1 if size == -1 else size for size in tensor.shape]
    free = [index for index, size in enumerate(tensor.shape) if size == -1]
    if count != 1 and free:
        sizes[free[-1]] = count
    total = 1
    for size in sizes:
        total *= size
    if total != count:
        raise TensorProblem(f"input {tensor} takes {total} elements, not {count}")
    return sizes


def _element(datatype: str, value: Any) -> bytes:
    if datatype == "BYTES":
        if not isinstance(value, str | bytes):
            raise TypeError("not a text")
        content = value.encode() if isinstance(value, str) else value
        return _LENGTH.pack(len(content)) + content
    if datatype == "BOOL":
        if not isinstance(value, bool):
            raise TypeError("neither true nor false")
        return b"\1" if value else b"\0"
    code = _FORMATS.get(datatype)
    if code is None:
        raise TypeError(f"the datatype {datatype} is not supported")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("not a number")
    if code in "efd":
        return struct.pack(f"<{code}", value)
    if value != int(value):
        raise ValueError("not a whole number")
    return struct.pack(f"<{code}", int(value))
