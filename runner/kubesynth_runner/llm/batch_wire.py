"""The files of OpenAI's Batch API: one request, or one answer, a line. Pure.

Source: OpenAI API reference, "Batch": `custom_id`, `method`, `url`, `body` in the input file;
`custom_id`, `response: {status_code, body}`, `error: {code, message}` in the output and error
files, in any order.

A call's name is all that an answer brings back, so everything that the journal wants is in it.
"""

from __future__ import annotations

import base64
import dataclasses
import re
from collections.abc import Iterable
from typing import Literal

import msgspec

from kubesynth_runner.llm import wire
from kubesynth_runner.llm.base import Completion, CompletionRequest
from kubesynth_runner.llm.classify import classify
from kubesynth_runner.llm.errors import ClientError, ErrorKind

URL: Literal["/v1/chat/completions"] = "/v1/chat/completions"
_HASH_BYTES = 16
# Two hashes of 16 bytes in base64, without the one = at the end.
_CUSTOM_ID = re.compile(r"([A-Za-z0-9_-]{43})\.([0-9a-f]{1,8})\.([0-9a-f]{1,4})")
# The request was not carried out, and costs nothing.
_UNTRIED_CODES = frozenset({"batch_expired", "batch_cancelled", "rate_limit_exceeded"})


@dataclasses.dataclass(frozen=True, slots=True)
class BatchCall:
    """A call in a batch: its journal key, its request's hash, its record's place, earlier tries."""

    key: bytes
    request_hash: bytes
    ordinal: int
    attempts: int = 0

    def to_custom_id(self) -> str:
        """Return the name of this call, at most 64 characters."""
        hashes = base64.urlsafe_b64encode(self.key + self.request_hash).decode().rstrip("=")
        return f"{hashes}.{self.ordinal:x}.{self.attempts:x}"

    @staticmethod
    def from_custom_id(text: str) -> BatchCall:
        """Return the call of that name.

        Raises:
            ValueError: it is not one of ours.
        """
        match = _CUSTOM_ID.fullmatch(text)
        if match is None:
            raise ValueError(f"custom_id {text!r:.80} is not one of kubesynth's")
        data = base64.urlsafe_b64decode(match[1] + "=")
        return BatchCall(
            data[:_HASH_BYTES], data[_HASH_BYTES:], int(match[2], 16), int(match[3], 16)
        )


class _Response(msgspec.Struct):
    status_code: int = 0
    body: msgspec.Raw = msgspec.Raw(b"null")


class _Error(msgspec.Struct):
    code: str | None = None
    message: str | None = None


class _Line(msgspec.Struct):
    custom_id: str = ""
    response: _Response | None = None
    error: _Error | None = None


class _RequestLine(msgspec.Struct):
    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


_decoder = msgspec.json.Decoder(_Line)
_encoder = msgspec.json.Encoder()


def request_line(call: BatchCall, model: str, request: CompletionRequest) -> bytes:
    """Return a line of an input file.

    Raises:
        ClientError: BAD_REQUEST, the request cannot be written as JSON.
    """
    body = msgspec.Raw(wire.encode_request(model, request))
    return _encoder.encode(_RequestLine(call.to_custom_id(), "POST", URL, body)) + b"\n"


def read_line(line: bytes) -> tuple[BatchCall, Completion | ClientError]:
    """Return which call a line of an output or error file answers, and how.

    A call that was not carried out fails with OVERLOADED: that costs no attempt.

    Raises:
        ValueError: the line answers no call of ours.
    """
    try:
        answer = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise ValueError(f"a line is no answer of a batch: {exc}: {line[:80]!r}") from exc
    call = BatchCall.from_custom_id(answer.custom_id)
    response = answer.response
    if response is None or (answer.error is not None and not response.status_code):
        return call, _without_response(answer.error)
    body = bytes(response.body)
    if response.status_code == 200:
        try:
            return call, wire.decode_completion(body)
        except ClientError as error:
            return call, error
    text = body.decode("utf-8", "replace")
    failure = classify(response.status_code, text)
    return call, ClientError(
        failure.kind, failure.message, status_code=response.status_code, body=text
    )


def _without_response(error: _Error | None) -> ClientError:
    code = (error.code if error else None) or ""
    said = (error.message if error else None) or "no reason given"
    kind = ErrorKind.OVERLOADED if code in _UNTRIED_CODES else ErrorKind.SERVER_ERROR
    return ClientError(kind, f"no response in the batch ({code or 'no code'}): {said}", body=said)


def describe(errors: Iterable[tuple[str, str]]) -> str:
    """Return what a batch as a whole failed of, as one sentence."""
    said = [f"{code or 'no code'}: {message}" for code, message in errors]
    return "; ".join(said[:5])[:500] or "no reason given"
