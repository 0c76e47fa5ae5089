"""What failed calls mean. The texts are those of Triton and gRPC, as they were seen."""

from __future__ import annotations

import pytest

from kubesynth_runner.llm.errors import BACKPRESSURE, FATAL, ErrorKind
from kubesynth_runner.llm.triton import status

WHERE = "m at grpc://h:8001"
HANDSHAKE = (
    "connections to all backends failing; last error: UNKNOWN: ipv4:127.0.0.1:1: Tls handshake "
    "failed (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: error:1000007d:SSL routines:OPENSSL_internal:"
    "CERTIFICATE_VERIFY_FAILED: self signed certificate"
)
REFUSED = (
    "connections to all backends failing; last error: UNKNOWN: ipv4:127.0.0.1:1: Failed to "
    "connect to remote host: Connection refused"
)


@pytest.mark.parametrize(
    ("code", "details", "kind", "says"),
    [
        ("UNAVAILABLE", "Request for model 'm' is not ready", ErrorKind.OVERLOADED, "not ready"),
        ("UNAVAILABLE", "Exceeds maximum queue size", ErrorKind.OVERLOADED, "queue"),
        ("UNAVAILABLE", REFUSED, ErrorKind.CONNECTION, "refused"),
        ("UNAVAILABLE", "Socket closed", ErrorKind.CONNECTION, "Socket closed"),
        ("UNAVAILABLE", HANDSHAKE, ErrorKind.AUTHENTICATION, "set caBundle"),
        ("RESOURCE_EXHAUSTED", "slow down", ErrorKind.RATE_LIMITED, "slow down"),
        (
            "RESOURCE_EXHAUSTED",
            "CLIENT: Received message larger than max (9000 vs. 1024)",
            ErrorKind.BAD_REQUEST,
            "raise triton.maxMessageBytes",
        ),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", ErrorKind.TIMEOUT, "requestTimeoutSeconds"),
        ("INVALID_ARGUMENT", "unexpected inference input 'x'", ErrorKind.BAD_REQUEST, "'x'"),
        (
            "INVALID_ARGUMENT",
            "Prompt length (5000) exceeds maximum input length (4096).",
            ErrorKind.CONTEXT_OVERFLOW,
            "5000",
        ),
        ("INTERNAL", "CUDA out of memory", ErrorKind.SERVER_ERROR, "CUDA"),
        (
            "INTERNAL",
            "This model's maximum context length is 2048 tokens.",
            ErrorKind.CONTEXT_OVERFLOW,
            "2048",
        ),
        ("NOT_FOUND", "Request for unknown model: 'm'", ErrorKind.MODEL_NOT_FOUND, "unknown"),
        ("UNIMPLEMENTED", "Method not found!", ErrorKind.MODEL_NOT_FOUND, "no Triton at this url"),
        ("UNAUTHENTICATED", "no token", ErrorKind.AUTHENTICATION, "(apiKey)"),
        ("PERMISSION_DENIED", "not yours", ErrorKind.AUTHENTICATION, "(apiKey)"),
        ("UNKNOWN", "", ErrorKind.SERVER_ERROR, "no reason given"),
        ("CANCELLED", "CANCELLED", ErrorKind.CONNECTION, "CANCELLED"),
        ("SOME_NEW_CODE", "?", ErrorKind.SERVER_ERROR, "SOME_NEW_CODE"),
    ],
)
def test_status_has_a_kind_and_says_what_to_do(
    code: str, details: str, kind: ErrorKind, says: str
) -> None:
    error = status.failure(code, details, where=WHERE, timeout_seconds=3)
    assert error.kind is kind
    assert says in str(error)
    assert WHERE in str(error)


def test_pushing_back_costs_no_attempt_and_wrong_names_end_the_run() -> None:
    busy = status.failure("UNAVAILABLE", "full", where=WHERE, timeout_seconds=3, wait_seconds=2.5)
    assert (busy.kind in BACKPRESSURE, busy.retry_after_seconds) == (True, 2.5)
    wrong = status.failure("UNAUTHENTICATED", "", where=WHERE, timeout_seconds=3)
    assert (wrong.kind in FATAL, wrong.status_code) == (True, 401)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("the engine has died", ErrorKind.SERVER_ERROR),
        ("prompt is too long", ErrorKind.CONTEXT_OVERFLOW),
        ("Request for unknown model: 'm' is not found", ErrorKind.MODEL_NOT_FOUND),
        ("Request for unknown model: 'm' has no available versions", ErrorKind.MODEL_NOT_FOUND),
        ("model is not ready", ErrorKind.OVERLOADED),
    ],
)
def test_error_of_a_stream_is_told_by_its_words(text: str, kind: ErrorKind) -> None:
    assert status.stream_failure(text, where=WHERE).kind is kind


def test_error_for_an_answer_is_an_error() -> None:
    error = status.in_band_failure("An error occurred: CUDA error", where=WHERE)
    assert error is not None
    assert error.kind is ErrorKind.SERVER_ERROR
    assert "CUDA error" in str(error)
    long = status.in_band_failure("An error occurred: the prompt is too long", where=WHERE)
    assert long is not None
    assert long.kind is ErrorKind.CONTEXT_OVERFLOW


@pytest.mark.parametrize("text", ["An error occurred when the mill was built.", "", "So: an error"])
def test_answer_about_errors_is_none(text: str) -> None:
    assert status.in_band_failure(text, where=WHERE) is None


def test_refusal_of_a_single_answer_is_recognised() -> None:
    words = "ModelInfer RPC doesn't support models with decoupled transaction policy"
    assert status.refuses_unary("UNIMPLEMENTED", words)
    assert not status.refuses_unary("UNIMPLEMENTED", "Method not found!")
