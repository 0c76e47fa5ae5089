"""What a failed call means: gRPC status and text in, `ErrorKind` and a sentence out. Pure.

The codes are gRPC's (grpc.io, "Status codes"), with what Triton means by them. Most of them come
from the server, but some from the client's own side of the connection, and then the text tells.
"""

from __future__ import annotations

import re

from kubesynth_runner.llm.classify import MESSAGE_MAX_CHARACTERS, is_overflow
from kubesynth_runner.llm.errors import ClientError, ErrorKind

_KINDS = {
    "CANCELLED": ErrorKind.CONNECTION,  # by the server, as it stops
    "UNKNOWN": ErrorKind.SERVER_ERROR,
    "INVALID_ARGUMENT": ErrorKind.BAD_REQUEST,
    "DEADLINE_EXCEEDED": ErrorKind.TIMEOUT,
    "NOT_FOUND": ErrorKind.MODEL_NOT_FOUND,
    "ALREADY_EXISTS": ErrorKind.BAD_REQUEST,
    "PERMISSION_DENIED": ErrorKind.AUTHENTICATION,
    "RESOURCE_EXHAUSTED": ErrorKind.RATE_LIMITED,
    "FAILED_PRECONDITION": ErrorKind.BAD_REQUEST,
    "ABORTED": ErrorKind.SERVER_ERROR,
    "OUT_OF_RANGE": ErrorKind.BAD_REQUEST,
    "UNIMPLEMENTED": ErrorKind.MODEL_NOT_FOUND,
    "INTERNAL": ErrorKind.SERVER_ERROR,
    "UNAVAILABLE": ErrorKind.OVERLOADED,  # not loaded yet, or its queue is full
    "DATA_LOSS": ErrorKind.MALFORMED_RESPONSE,
    "UNAUTHENTICATED": ErrorKind.AUTHENTICATION,
}
_MAY_BE_OVERFLOW = frozenset({"INVALID_ARGUMENT", "INTERNAL", "UNKNOWN", "OUT_OF_RANGE"})
# UNAVAILABLE, said by gRPC's own client: there is no connection, or it broke.
_NO_CONNECTION = re.compile(
    r"failed to connect|connections to all backends|handshake failed|connection refused"
    r"|connection reset|socket closed|broken pipe"
    r"|end of tcp stream|endpoint closing|dns resolution failed|name resolution|goaway"
    r"|timed out|timeout occurred|recvmsg|sendmsg|no route to host|network is unreachable"
    r"|keepalive watchdog|ping timeout|stream removed|transport (is )?clos",
    re.IGNORECASE,
)
_UNTRUSTED = re.compile(
    r"certificate.verify.failed|self.signed certificate|unable to get local issuer"
    r"|hostname verification|peer name .{0,80}(not|mismatch)|certificate has expired"
    r"|cannot check peer",
    re.IGNORECASE,
)
# In a model's own words, beyond what `classify` knows from HTTP servers.
_TOO_LONG = re.compile(
    r"(prompt|input|sequence|request)\b.{0,80}\b(exceeds?|longer than|greater than|too long)",
    re.IGNORECASE | re.DOTALL,
)
_TOO_LARGE = re.compile(r"(received|sent) message larger than max|message too large", re.IGNORECASE)
_DECOUPLED = re.compile(r"decoupled", re.IGNORECASE)
_UNKNOWN_MODEL = re.compile(r"unknown model|is not found|failed to find model", re.IGNORECASE)
_NOT_READY = re.compile(r"not ready|no available versions|is unavailable|queue", re.IGNORECASE)
# What NeMo Deploy gives back as the generated text when generating failed.
_IN_BAND = re.compile(r"\s*An error occurred: ")

HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""The HTTP status that a code corresponds to (google/rpc/code.proto), for errors/."""


def refuses_unary(code: str, details: str) -> bool:
    """Tell whether a call was refused because the model answers as a stream."""
    return code in ("UNIMPLEMENTED", "INVALID_ARGUMENT") and bool(_DECOUPLED.search(details))


def failure(
    code: str,
    details: str,
    *,
    where: str,
    timeout_seconds: float,
    wait_seconds: float | None = None,
) -> ClientError:
    """Return the error for a call that ended with a status other than OK."""
    kind = _kind(code, details)
    message = (
        f"gRPC {code}: {_hint(kind, code, details, timeout_seconds)}{shorten(details)} [{where}]"
    )
    return ClientError(
        kind,
        message,
        status_code=HTTP_STATUS.get(code),
        retry_after_seconds=wait_seconds,
        body=details,
    )


def stream_failure(text: str, *, where: str) -> ClientError:
    """Return the error for a stream that told one in words, without a code.

    Triton before 24.08 does, whatever it is asked for.
    """
    if _does_not_fit(text):
        kind = ErrorKind.CONTEXT_OVERFLOW
    elif _UNKNOWN_MODEL.search(text):
        kind = ErrorKind.MODEL_NOT_FOUND
    elif _NOT_READY.search(text):
        kind = ErrorKind.OVERLOADED
    else:
        kind = ErrorKind.SERVER_ERROR
    return ClientError(kind, f"the model failed: {shorten(text)} [{where}]", body=text)


def in_band_failure(text: str, *, where: str) -> ClientError | None:
    """Return the error that a completion of NeMo Deploy really is, if it is one."""
    if not _IN_BAND.match(text):
        return None
    kind = ErrorKind.CONTEXT_OVERFLOW if _does_not_fit(text) else ErrorKind.SERVER_ERROR
    return ClientError(
        kind, f"the server gave an error for an answer: {shorten(text)} [{where}]", body=text
    )


def shorten(text: str) -> str:
    """Return a text on one line, of a length that a message can take.

    Both ends are kept: servers send whole tracebacks, whose last line is the one that counts.
    """
    collapsed = " ".join(text.split()) or "no reason given"
    if len(collapsed) <= MESSAGE_MAX_CHARACTERS:
        return collapsed
    head = MESSAGE_MAX_CHARACTERS // 4
    return f"{collapsed[:head]} … {collapsed[head + 3 - MESSAGE_MAX_CHARACTERS :]}"


def _does_not_fit(text: str) -> bool:
    return is_overflow(text) or _TOO_LONG.search(text) is not None


def _kind(code: str, details: str) -> ErrorKind:
    if code in _MAY_BE_OVERFLOW and _does_not_fit(details):
        return ErrorKind.CONTEXT_OVERFLOW
    if code == "RESOURCE_EXHAUSTED" and _TOO_LARGE.search(details):
        return ErrorKind.BAD_REQUEST
    if code == "UNAVAILABLE":
        if _UNTRUSTED.search(details):
            return ErrorKind.AUTHENTICATION
        if _NO_CONNECTION.search(details):
            return ErrorKind.CONNECTION
    return _KINDS.get(code, ErrorKind.SERVER_ERROR)


def _hint(kind: ErrorKind, code: str, details: str, timeout_seconds: float) -> str:
    """Return what a person should look at, for the failures that only a person can mend."""
    if kind is ErrorKind.AUTHENTICATION and code == "UNAVAILABLE":
        return (
            "the server's certificate is not trusted; set caBundle to the certificate authority "
            "(PEM) that signed it: "
        )
    if kind is ErrorKind.AUTHENTICATION:
        return "the server refused the token (apiKey): "
    if code == "UNIMPLEMENTED":
        return "no Triton at this url, or not its gRPC port (8001 unless changed): "
    if kind is ErrorKind.TIMEOUT:
        return f"no answer within {timeout_seconds:g} s (requestTimeoutSeconds): "
    if code == "RESOURCE_EXHAUSTED" and kind is ErrorKind.BAD_REQUEST:
        return "raise triton.maxMessageBytes: "
    return ""
