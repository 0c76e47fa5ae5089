"""Values to tensors and back."""

from __future__ import annotations

import struct

import pytest

from kubesynth_runner.llm.triton.signature import Tensor
from kubesynth_runner.llm.triton.tensors import (
    TensorProblem,
    Value,
    decode_numbers,
    decode_texts,
    encode,
)


def text(*elements: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


@pytest.mark.parametrize(
    ("tensor", "value", "batched", "shape", "content"),
    [
        (Tensor("prompts", "BYTES", (-1,)), "ä", True, [1, 1], text("ä".encode())),
        (Tensor("text_input", "BYTES", (1,)), "a", False, [1], text(b"a")),
        (Tensor("stop_words", "BYTES", (-1,)), ("a", "bc"), True, [1, 2], text(b"a", b"bc")),
        (Tensor("max_tokens", "INT32", (1,)), 7, True, [1, 1], b"\7\0\0\0"),
        (Tensor("seed", "UINT64", (1,)), 2**31 - 1, False, [1], b"\xff\xff\xff\x7f\0\0\0\0"),
        (Tensor("top_p", "FP32", (-1,)), 0.5, True, [1, 1], struct.pack("<f", 0.5)),
        (Tensor("top_p", "FP32", (1,)), 1, False, [1], struct.pack("<f", 1)),
        (Tensor("top_k", "INT64", (1,)), 4.0, False, [1], struct.pack("<q", 4)),
        (Tensor("stream", "BOOL", (1,)), False, False, [1], b"\0"),
        (Tensor("weights", "FP16", (-1, 1)), [1.0, 2.0], True, [1, 2, 1], b"\0\x3c\0\x40"),
        (Tensor("flag", "BOOL", ()), True, False, [], b"\1"),
    ],
)
def test_value_is_encoded_for_a_batch_of_one(
    tensor: Tensor, value: Value, batched: bool, shape: list[int], content: bytes
) -> None:
    assert encode(tensor, value, batched=batched) == (shape, content)


@pytest.mark.parametrize(
    ("tensor", "value", "message"),
    [
        (Tensor("text_input", "INT32", (1,)), "a", r"input text_input INT32\[1\] cannot hold 'a'"),
        (Tensor("text_input", "BYTES", (1,)), 7, "not a text"),
        (Tensor("text_input", "BYTES", (1,)), "\ud800", "surrogates"),
        (Tensor("stream", "BOOL", (1,)), 1, "neither true nor false"),
        (Tensor("max_tokens", "INT32", (1,)), True, "not a number"),
        (Tensor("max_tokens", "INT32", (1,)), 0.5, "not a whole number"),
        (Tensor("max_tokens", "INT32", (1,)), 2**40, "max_tokens"),
        (Tensor("max_tokens", "UINT32", (1,)), -1, "max_tokens"),
        (Tensor("bias", "BF16", (1,)), 1.0, "BF16 is not supported"),
        (Tensor("stop", "BYTES", (1,)), ("a", "b"), "takes 1 elements, not 2"),
        (Tensor("image", "FP32", (3, 224)), 1.0, "takes 672 elements, not 1"),
    ],
)
def test_value_that_does_not_fit_names_the_tensor(
    tensor: Tensor, value: Value, message: str
) -> None:
    with pytest.raises(TensorProblem, match=message):
        encode(tensor, value, batched=False)


def test_texts_are_decoded() -> None:
    assert decode_texts(text(b"one", b"", "ä".encode())) == [b"one", b"", "ä".encode()]
    assert decode_texts(b"") == []


@pytest.mark.parametrize("content", [b"\1", text(b"one")[:-1]])
def test_text_that_is_cut_off_is_noticed(content: bytes) -> None:
    with pytest.raises(TensorProblem, match="cut off"):
        decode_texts(content)


def test_numbers_are_decoded() -> None:
    assert decode_numbers("UINT32", struct.pack("<2I", 3, 4)) == [3, 4]
    assert decode_numbers("BYTES", b"abcd") == []
    assert decode_numbers("INT64", b"\1") == []
