"""Responses of the wire, read and put together; tokens counted or estimated."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from kubesynth_runner.llm.base import TokenUsage
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.triton import answers, wire
from kubesynth_runner.llm.triton.answers import Answer
from kubesynth_runner.llm.triton.usage import estimate, usage


def text(*elements: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def a_response(**outputs: tuple[str, bytes]) -> Any:
    response = wire.MESSAGES["ModelInferResponse"](model_name="m")
    for name, (datatype, content) in outputs.items():
        response.outputs.add(name=name, datatype=datatype, shape=[1])
        response.raw_output_contents.append(content)
    return response


def test_response_is_read() -> None:
    response = a_response(
        num_input_tokens=("UINT32", struct.pack("<I", 7)),
        text_output=("BYTES", text("Mühle".encode())),
        finish_reason=("BYTES", text(b"length")),
        num_output_tokens=("INT32", struct.pack("<i", 3)),
    )
    assert answers.read(response, "text_output") == Answer("Mühle", "length", 7, 3)


def test_response_in_typed_contents_is_read_too() -> None:
    response = wire.MESSAGES["ModelInferResponse"]()
    response.outputs.add(name="text_output", datatype="BYTES").contents.bytes_contents.append(b"a")
    assert answers.read(response, "text_output") == Answer("a")


def test_counts_that_were_not_made_are_none() -> None:
    response = a_response(
        text_output=("BYTES", text(b"a")),
        finish_reason=("BYTES", text(b"None")),
        num_output_tokens=("INT32", struct.pack("<i", -1)),
    )
    assert answers.read(response, "text_output") == Answer("a")


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (a_response(logits=("FP32", b"1234")), "no output text_output; it has logits"),
        (a_response(text_output=("BYTES", b"\xff\0\0\0")), "cut off"),
        (a_response(text_output=("BYTES", text(b"\xff"))), "utf-8"),
    ],
)
def test_broken_response_is_malformed(response: Any, message: str) -> None:
    with pytest.raises(ClientError, match=message) as caught:
        answers.read(response, "text_output")
    assert caught.value.kind is ErrorKind.MALFORMED_RESPONSE


def test_stream_is_put_together() -> None:
    parts = [Answer("To", None, 7, 1), Answer(" be", None, 7, 1), Answer("", "stop", None, 0)]
    assert answers.join(parts) == Answer("To be", "stop", 7, 2)
    assert answers.join([]) == Answer("")
    assert answers.read(wire.MESSAGES["ModelInferResponse"](), "text_output") == Answer("")


def test_text_is_cut_at_the_first_stop() -> None:
    assert answers.cut("one. two; three", (";", ".")) == ("one", True)
    assert answers.cut("one", ("two",)) == ("one", False)


def test_tokens_are_counted_by_the_server_or_estimated_and_say_so() -> None:
    assert usage("a prompt", "an answer", 3, 2) == TokenUsage(3, 2)
    assert usage("12345678", "12345", None, None) == TokenUsage(2, 2, estimated=True)
    assert usage("12345678", "12345", 9, None) == TokenUsage(9, 2, estimated=True)


@pytest.mark.parametrize(("words", "tokens"), [("", 0), ("a", 1), ("four", 1), ("ふるい", 3)])
def test_estimate_is_never_zero_for_a_text(words: str, tokens: int) -> None:
    assert estimate(words) == tokens
