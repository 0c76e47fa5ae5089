from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from kubesynth_runner.llm.base import Completion, CompletionRequest, Message
from kubesynth_runner.llm.batch_wire import BatchCall, describe, read_line, request_line
from kubesynth_runner.llm.errors import ClientError, ErrorKind

CALL = BatchCall(bytes(range(16)), bytes(range(240, 256)), 123_456, 2)
REQUEST = CompletionRequest((Message("user", "Why?"),), {"n": 2})


def _line(
    response: dict[str, Any] | None = None,
    error: dict[str, str] | None = None,
    custom_id: str = CALL.to_custom_id(),
) -> bytes:
    answer = {"id": "r", "custom_id": custom_id, "response": response, "error": error}
    return json.dumps(answer).encode()


def _response(status: int, body: object) -> dict[str, Any]:
    return {"status_code": status, "request_id": "r", "body": body}


@pytest.mark.parametrize(
    "call",
    [
        CALL,
        BatchCall(b"\xff" * 16, b"\xfb" * 16, 0),
        BatchCall(b"\0" * 16, b"\0" * 16, 2**32 - 1, 99),
    ],
)
def test_a_calls_name_says_all_and_fits(call: BatchCall) -> None:
    name = call.to_custom_id()
    assert BatchCall.from_custom_id(name) == call
    assert len(name) <= 64


def test_request_is_a_line_of_the_input_file() -> None:
    line = request_line(CALL, "m", REQUEST)
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "custom_id": CALL.to_custom_id(),
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "m", "messages": [{"role": "user", "content": "Why?"}], "n": 2},
    }


def test_answer_is_a_completion() -> None:
    body = {"choices": [{"message": {"content": "So."}, "finish_reason": "stop"}], "model": "m"}
    call, result = read_line(_line(_response(200, body)))
    assert call == CALL
    assert isinstance(result, Completion)
    assert result.text == "So."


@pytest.mark.parametrize(
    ("line", "kind", "status"),
    [
        pytest.param(
            _line(_response(400, {"error": {"message": "no"}})),
            ErrorKind.BAD_REQUEST,
            400,
            id="400",
        ),
        pytest.param(
            _line(_response(500, {"error": {"message": "boom"}})),
            ErrorKind.SERVER_ERROR,
            500,
            id="500",
        ),
        pytest.param(_line(_response(429, {})), ErrorKind.RATE_LIMITED, 429, id="429"),
        pytest.param(_line(_response(200, None)), ErrorKind.MALFORMED_RESPONSE, 200, id="null"),
        pytest.param(
            _line(_response(200, {"choices": []})), ErrorKind.EMPTY_COMPLETION, 200, id="empty"
        ),
        pytest.param(
            _line(error={"code": "batch_expired", "message": "late"}),
            ErrorKind.OVERLOADED,
            None,
            id="expired",
        ),
        pytest.param(
            _line(error={"code": "odd", "message": "m"}), ErrorKind.SERVER_ERROR, None, id="odd"
        ),
        pytest.param(_line(), ErrorKind.SERVER_ERROR, None, id="nothing"),
    ],
)
def test_failure_is_classified_like_any_other(
    line: bytes, kind: ErrorKind, status: int | None
) -> None:
    call, result = read_line(line)
    assert call == CALL
    assert isinstance(result, ClientError)
    assert (result.kind, result.status_code) == (kind, status)


@pytest.mark.parametrize(
    "line",
    [
        b"no JSON",
        b'{"custom_id": "\xff"}',
        _line(custom_id="request-1"),
        _line(custom_id=""),
        _line(custom_id=f"{CALL.to_custom_id()}.0"),
        b"[]",
    ],
)
def test_line_of_somebody_else_is_told(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"custom_id|no answer"):
        read_line(line)


def test_what_a_batch_failed_of_is_one_sentence() -> None:
    assert describe([("a", "b"), ("", "c")]) == "a: b; no code: c"
    assert describe([]) == "no reason given"


def test_the_sdk_is_not_loaded_before_there_is_a_batch() -> None:
    code = "import sys, kubesynth_runner.__main__; print('openai' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
