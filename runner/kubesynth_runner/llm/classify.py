"""What a refusal means: HTTP status and body in, `ErrorKind` and a sentence out. Pure.

Servers that call themselves OpenAI-compatible agree on the path and little else, so the body is
read in every shape they use:

    {"error": {"message", "type", "param", "code"}}        OpenAI, vLLM since 0.10, llama.cpp
    {"error": {"message", "code", "metadata"}}             OpenRouter; metadata.reasons: moderated
    {"object": "error", "message", "type", "code"}         older vLLM, NIM, SGLang
    {"error": "...", "error_type": "validation"}           TGI
    {"detail": "..."} or {"detail": [{"msg": ...}]}        FastAPI in front of anything
    {"title": ..., "detail": ..., "status": ...}           RFC 9457 problems, NIM's gateway
    text or HTML                                           proxies

A prompt that does not fit has no status of its own: it is told by code where a server has one,
otherwise by its phrasing (each phrase below is followed by the servers that use it).
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import msgspec

from kubesynth_runner.llm.errors import ErrorKind

MESSAGE_MAX_CHARACTERS = 500


@dataclasses.dataclass(frozen=True, slots=True)
class ErrorDetail:
    """What an error body says, where it says it; empty strings where it does not."""

    message: str = ""
    type: str = ""
    code: str = ""
    param: str = ""
    # What a moderator found in the prompt.
    reasons: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """A refusal, understood."""

    kind: ErrorKind
    message: str


_KIND_BY_STATUS = {
    401: ErrorKind.AUTHENTICATION,
    402: ErrorKind.AUTHENTICATION,
    403: ErrorKind.AUTHENTICATION,
    404: ErrorKind.MODEL_NOT_FOUND,
    405: ErrorKind.MODEL_NOT_FOUND,  # the path exists but is no chat completions API
    407: ErrorKind.AUTHENTICATION,
    408: ErrorKind.TIMEOUT,
    409: ErrorKind.SERVER_ERROR,  # a lock that was not had; OpenAI's own client tries again
    410: ErrorKind.MODEL_NOT_FOUND,
    413: ErrorKind.CONTEXT_OVERFLOW,
    425: ErrorKind.OVERLOADED,
    429: ErrorKind.RATE_LIMITED,
    502: ErrorKind.OVERLOADED,
    503: ErrorKind.OVERLOADED,
    504: ErrorKind.OVERLOADED,
    # A content delivery network that cannot reach, or gave up on, the server behind it.
    521: ErrorKind.OVERLOADED,
    522: ErrorKind.OVERLOADED,
    523: ErrorKind.OVERLOADED,
    524: ErrorKind.OVERLOADED,
    529: ErrorKind.OVERLOADED,
}
# 500 is here because llama-cpp-python answers so to a long prompt.
_OVERFLOW_STATUSES = frozenset({400, 413, 422, 500})
_OVERFLOW_CODES = frozenset(
    {
        "context_length_exceeded",  # OpenAI
        "string_above_max_length",  # OpenAI, one message alone
        "exceed_context_size_error",  # llama.cpp
        "contextwindowexceedederror",  # LiteLLM
    }
)
_OVERFLOW_PHRASES = re.compile(
    r"maximum context length"  # OpenAI, vLLM, NIM, Mistral
    r"|maximum model length"  # vLLM
    r"|cannot be greater than max_model_len"  # vLLM, maxTokens alone
    r"|too long to fit into the model"  # vLLM
    r"|exceeds? the (available |model'?s )?context"  # llama.cpp, Ollama
    r"|exceeds? context window"  # llama-cpp-python
    r"|context (length|window|size) (is only|exceeded)"  # vLLM, Ollama
    r"|longer than the model'?s context"  # SGLang
    r"|`?inputs`? tokens \+ `?max_new_tokens`? must be"  # TGI
    r"|`inputs` must have less than"  # TGI
    r"|prompt is too long"  # Anthropic's compatible API
    r"|prompt length .{0,40}exceeds? "  # TensorRT-LLM
    r"|should not exceed max_(seq_len|num_tokens)"  # TensorRT-LLM
    r"|input token count .{0,40}exceeds"  # Gemini's compatible API
    r"|input tokens exceed the configured limit",  # OpenAI
    re.IGNORECASE | re.DOTALL,
)
# 429, but no waiting helps: an account without money.
_QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
# 429, but no waiting helps: one request asks for more tokens than a minute's limit allows (OpenAI).
_TOO_LARGE_PHRASE = "request too large"
_KEY_CODES = frozenset({"invalid_api_key", "api_key_invalid"})
_KEY_PHRASES = re.compile(r"(api key not valid|(invalid|incorrect) api key)", re.IGNORECASE)
_MODEL_CODES = frozenset({"model_not_found", "modelnotfounderror"})
# The prompt met a content filter (Azure OpenAI, OpenAI, LiteLLM).
_FILTER_CODES = frozenset(
    {"content_filter", "content_policy_violation", "contentpolicyviolationerror"}
)
_FILTER_STATUSES = frozenset({400, 403, 422})
_SCHEMA_STATUSES = frozenset({400, 422})
_SCHEMA_PHRASES = re.compile(
    r"invalid schema for response_format"  # OpenAI, Azure
    r"|json schema contains features not supported"  # vLLM
    r"|grammar error"  # vLLM
    r"|(failed|unable|error) (to|while|in|when)? ?(compil|pars|convert|build)\w* .{0,40}grammar"
    r"|(failed|unable|error) (to|while|in|when)? ?(compil|pars|convert)\w* .{0,20}json.?schema"
    r"|json schema conversion failed",  # llama.cpp
    re.IGNORECASE,
)
_TITLE = re.compile(r"<title[^>]{0,200}>(.{0,300}?)</title>", re.IGNORECASE | re.DOTALL)


def classify(status: int, body: str, api: str = "chat completions") -> Failure:
    """Return what an answer with a status other than 2xx means; `api` names what was asked."""
    detail = read_error(body)
    kind = _kind(status, detail)
    said = detail.message or "no reason given"
    if detail.reasons:
        said += f" ({detail.reasons})"
    return Failure(kind, f"HTTP {status}: {_hint(status, kind, detail, api)}{said}")


def is_overflow(message: str) -> bool:
    """Tell whether a server says that prompt and completion do not fit."""
    return _OVERFLOW_PHRASES.search(message) is not None


def read_error(body: str) -> ErrorDetail:
    """Return what an error body says, in whatever shape it says it."""
    try:
        document = msgspec.json.decode(body.encode("utf-8", "replace"))
    except msgspec.DecodeError:
        title = _TITLE.search(body)
        return ErrorDetail(message=_shorten(f'a page titled "{title[1]}"' if title else body))
    return _detail(document)


def _detail(document: Any) -> ErrorDetail:
    if not isinstance(document, dict):
        return ErrorDetail(message=_shorten(_text(document)))
    error = document.get("error")
    fields = error if isinstance(error, dict) else document
    message = (
        (error if isinstance(error, str) else None)
        or fields.get("message")
        or fields.get("detail")
        or fields.get("title")
    )
    return ErrorDetail(
        message=_shorten(_text(message)),
        type=_text(fields.get("type") or fields.get("error_type")),
        code=_text(fields.get("code")),
        param=_text(fields.get("param")),
        reasons=_reasons(fields.get("metadata")),
    )


def _reasons(metadata: Any) -> str:
    return _text(metadata.get("reasons")) if isinstance(metadata, dict) else ""


def _kind(status: int, detail: ErrorDetail) -> ErrorKind:
    codes = {detail.code.lower(), detail.type.lower()}
    if status in _OVERFLOW_STATUSES and (
        codes & _OVERFLOW_CODES or _OVERFLOW_PHRASES.search(detail.message)
    ):
        return ErrorKind.CONTEXT_OVERFLOW
    if status == 429 and _TOO_LARGE_PHRASE in detail.message.lower():
        return ErrorKind.CONTEXT_OVERFLOW
    if codes & _QUOTA_CODES:
        return ErrorKind.AUTHENTICATION
    if status == 400 and (codes & _KEY_CODES or _KEY_PHRASES.search(detail.message)):
        return ErrorKind.AUTHENTICATION
    if status == 400 and codes & _MODEL_CODES:
        return ErrorKind.MODEL_NOT_FOUND
    if status in _FILTER_STATUSES and (codes & _FILTER_CODES or detail.reasons):
        return ErrorKind.REFUSAL
    if status in _SCHEMA_STATUSES and (
        detail.param.startswith("response_format") or _SCHEMA_PHRASES.search(detail.message)
    ):
        return ErrorKind.SCHEMA_REFUSED
    if status in _KIND_BY_STATUS:
        return _KIND_BY_STATUS[status]
    if 300 <= status < 400:
        return ErrorKind.MODEL_NOT_FOUND
    return ErrorKind.SERVER_ERROR if status >= 500 else ErrorKind.BAD_REQUEST


def _hint(status: int, kind: ErrorKind, detail: ErrorDetail, api: str) -> str:
    """Return what a person should look at, for the refusals that only a person can mend."""
    if {detail.code.lower(), detail.type.lower()} & _QUOTA_CODES or status == 402:
        return "the account behind the API key is out of credit: "
    if kind is ErrorKind.AUTHENTICATION and status == 403:
        return "the server refused the API key (apiKey), or what it is to be used for: "
    if kind is ErrorKind.AUTHENTICATION:
        return "the server refused the API key (apiKey): "
    if 300 <= status < 400:
        return "the server redirects, which is not followed because the API key would go along: "
    if kind is ErrorKind.MODEL_NOT_FOUND:
        return f"no such model, or no {api} API at this url: "
    if kind is ErrorKind.SCHEMA_REFUSED:
        return (
            "the server does not take the request's JSON schema: make a schema of your own simpler "
            "(output.jsonSchema), or send none with extraBody: {response_format: {type: text}}: "
        )
    return ""


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, dict) and "msg" in item for item in value):
        return "; ".join(f"{item['msg']} ({_location(item)})" for item in value)
    return msgspec.json.encode(value).decode() if isinstance(value, dict | list) else str(value)


def _location(item: dict[str, Any]) -> str:
    location = item.get("loc")
    return ".".join(map(str, location)) if isinstance(location, list) else "request"


def _shorten(text: str) -> str:
    collapsed = " ".join(text.split())
    if len(collapsed) <= MESSAGE_MAX_CHARACTERS:
        return collapsed
    return collapsed[: MESSAGE_MAX_CHARACTERS - 1] + "…"
