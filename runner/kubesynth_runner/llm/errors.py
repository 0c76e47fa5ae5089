"""Failures of a request to a model.

ClientError            one class, because callers only ever look at `kind`
  .kind                ErrorKind: what happened, and so whether trying again can help
  .status_code         HTTP status, or None when there was no answer
  .retry_after_seconds what the server asked for, or None
  .body                the first 2,000 characters of the answer, for errors/ and logs
  .answer              what the server made all the same, and counts as done; None if nothing
  .may_pass            whether trying again can help
  .is_forbidden        403: it concerns the key, or this prompt alone
"""

from __future__ import annotations

from enum import StrEnum
from http import HTTPStatus

from kubesynth_runner.llm.base import CUT_OFF, Completion

BODY_EXCERPT_CHARACTERS = 2000


class ErrorKind(StrEnum):
    """What went wrong, by what can be done about it."""

    RATE_LIMITED = "RateLimited"  # 429: wait, then go on; says nothing about the record
    OVERLOADED = "Overloaded"  # 503, 529, 502, 504: the server is in trouble, not the record
    SERVER_ERROR = "ServerError"  # other 5xx: may be the record's fault, so tries are bounded
    CONNECTION = "Connection"  # refused, reset, DNS, TLS handshake cut off, half a body
    TIMEOUT = "Timeout"
    MALFORMED_RESPONSE = "MalformedResponse"  # 200 with a body that is no chat completion
    EMPTY_COMPLETION = "EmptyCompletion"  # no choices, or no content and no refusal
    AUTHENTICATION = "Authentication"  # 401, 403, an untrusted certificate: nobody's record helps
    MODEL_NOT_FOUND = "ModelNotFound"  # 404: no such model, or none at the moment (`absence`)
    CONTEXT_OVERFLOW = "ContextOverflow"  # 400/413/422 because prompt and completion do not fit
    REFUSAL = "Refusal"  # 400: a content filter in front of the model does not take the prompt
    SCHEMA_REFUSED = "SchemaRefused"  # 400, 422: every record of the stage would meet it
    BAD_REQUEST = "BadRequest"  # any other 4xx


# Trying again can help, and each try spends one of the record's attempts.
RETRYABLE = frozenset(
    {
        ErrorKind.SERVER_ERROR,
        ErrorKind.CONNECTION,
        ErrorKind.TIMEOUT,
        ErrorKind.MALFORMED_RESPONSE,
        ErrorKind.EMPTY_COMPLETION,
        ErrorKind.MODEL_NOT_FOUND,  # of some servers behind one address; see also FATAL
    }
)
# The server asks for patience: the record waits, and no attempt is spent.
BACKPRESSURE = frozenset({ErrorKind.RATE_LIMITED, ErrorKind.OVERLOADED})
# The model itself may not have seen the request: whoever stands before it may have answered.
UNREACHED = frozenset({ErrorKind.CONNECTION, ErrorKind.MODEL_NOT_FOUND})
# No record can succeed until a person changes something: the run stops, with its state intact; for
# a model that is not there only when it stays away.
FATAL = frozenset({ErrorKind.AUTHENTICATION, ErrorKind.MODEL_NOT_FOUND, ErrorKind.SCHEMA_REFUSED})
FATAL_AT_ONCE = FATAL - UNREACHED


class ClientError(Exception):
    """A request to a model that did not give a completion."""

    def __init__(
        self,
        kind: ErrorKind,
        message: str,
        *,
        status_code: int | None = None,
        retry_after_seconds: float | None = None,
        body: str = "",
        answer: Completion | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.status_code = status_code
        self.retry_after_seconds = retry_after_seconds
        self.body = body[:BODY_EXCERPT_CHARACTERS]
        self.answer = answer

    @property
    def may_pass(self) -> bool:
        """Whether trying again can help: not where the tokens ran out before the first word."""
        if self.kind is ErrorKind.EMPTY_COMPLETION and self.answer is not None:
            reasons = [self.answer.finish_reason]
            reasons += [choice.finish_reason for choice in self.answer.others]
            return not CUT_OFF.issuperset(reasons)
        return self.kind in RETRYABLE | BACKPRESSURE

    @property
    def is_forbidden(self) -> bool:
        """Whether it was not allowed: to the key, or by a filter or a firewall to this prompt."""
        return self.kind is ErrorKind.AUTHENTICATION and self.status_code == HTTPStatus.FORBIDDEN
