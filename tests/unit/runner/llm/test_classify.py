"""Every refusal that servers are known to give, and the one thing that may be done about it."""

from __future__ import annotations

import json

import pytest

from kubesynth_runner.llm.classify import MESSAGE_MAX_CHARACTERS, classify, read_error
from kubesynth_runner.llm.errors import ErrorKind

# OpenRouter's documentation of errors, "Moderation errors".
_MODERATED = (
    '{"error": {"code": 403, "message": "Your chosen model requires moderation", '
    '"metadata": {"reasons": ["violence"], "flagged_input": "..."}}}'
)


def _openai(message: str, code: str | None = None, type_: str = "invalid_request_error") -> str:
    return json.dumps({"error": {"message": message, "type": type_, "param": None, "code": code}})


def _flat(message: str, type_: str = "BadRequestError", code: int = 400) -> str:
    return json.dumps({"object": "error", "message": message, "type": type_, "code": code})


OVERFLOWS = [
    pytest.param(400, _openai("Too many tokens.", "context_length_exceeded"), id="openai-code"),
    pytest.param(
        400,
        _openai(
            "This model's maximum context length is 8192 tokens. However, your messages resulted"
            " in 8227 tokens. Please reduce the length of the messages."
        ),
        id="openai-phrase",
    ),
    pytest.param(
        400,
        _openai("Input tokens exceed the configured limit of 272000 tokens."),
        id="openai-input-limit",
    ),
    pytest.param(400, _openai("Invalid content", "string_above_max_length"), id="openai-string"),
    pytest.param(
        429,
        _openai(
            "Request too large for gpt-4 on tokens per min (TPM): Limit 10000, Requested 12345.",
            "rate_limit_exceeded",
            "tokens",
        ),
        id="openai-larger-than-a-minute-allows",
    ),
    pytest.param(
        400,
        _flat(
            "This model's maximum context length is 4096 tokens. However, you requested 4100 tokens"
            " (4000 in the messages, 100 in the completion)."
        ),
        id="vllm-old",
    ),
    pytest.param(
        400,
        _openai(
            "The prompt (total length 5000) is too long to fit into the model (context length"
            " 4096). Make sure that `max_model_len` is no smaller."
        ),
        id="vllm-prompt-alone",
    ),
    pytest.param(
        400,
        _openai("The decoder prompt (length 5000) is longer than the maximum model length of 4096"),
        id="vllm-decoder-prompt",
    ),
    pytest.param(
        400,
        _openai(
            "You passed 4090 input tokens and requested 100 output tokens. However, the model's"
            " context length is only 4096 tokens"
        ),
        id="vllm-new",
    ),
    pytest.param(
        400,
        json.dumps(
            {
                "error": {
                    "code": 400,
                    "message": "request (931 tokens) exceeds the available context size (512"
                    " tokens), try increasing it",
                    "type": "exceed_context_size_error",
                    "n_prompt_tokens": 931,
                    "n_ctx": 512,
                }
            }
        ),
        id="llama.cpp",
    ),
    pytest.param(
        500,
        _openai("Requested tokens (5000) exceed context window of 2048", None, "internal"),
        id="llama-cpp-python",
    ),
    pytest.param(
        422,
        json.dumps(
            {
                "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <="
                " 2048. Given: 2000 `inputs` tokens and 512 `max_new_tokens`",
                "error_type": "validation",
            }
        ),
        id="tgi-sum",
    ),
    pytest.param(
        422,
        json.dumps(
            {
                "error": "Input validation error: `inputs` must have less than 1024 tokens. Given:"
                " 2000",
                "error_type": "validation",
            }
        ),
        id="tgi-inputs",
    ),
    pytest.param(
        400,
        _flat("The input (5000 tokens) is longer than the model's context length (4096 tokens)."),
        id="sglang",
    ),
    pytest.param(
        400,
        json.dumps(
            {
                "type": "urn:inference-service:problem-details:bad-request",
                "title": "Bad Request",
                "status": 400,
                "detail": "This model's maximum context length is 4096 tokens.",
            }
        ),
        id="nim-gateway",
    ),
    pytest.param(
        400,
        _flat("prompt length 5000 exceeds maximum input length 4096"),
        id="tensorrt-llm",
    ),
    pytest.param(413, "<html><title>413 Request Entity Too Large</title></html>", id="proxy-413"),
]


_AZURE_FILTER = json.dumps(
    {
        "error": {
            "message": "The response was filtered due to the prompt triggering a policy.",
            "type": None,
            "param": "prompt",
            "code": "content_filter",
            "status": 400,
            "innererror": {"code": "ResponsibleAIPolicyViolation"},
        }
    }
)


@pytest.mark.parametrize(("status", "body"), OVERFLOWS)
def test_prompt_that_does_not_fit_is_context_overflow(status: int, body: str) -> None:
    assert classify(status, body).kind is ErrorKind.CONTEXT_OVERFLOW


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        pytest.param(
            400,
            _openai("max_tokens is too large: 99999. This model supports at most 4096 completion"),
            ErrorKind.BAD_REQUEST,
            id="max-tokens-of-the-spec",
        ),
        pytest.param(422, '{"detail": [{"loc": ["body", "seed"], "msg": "not an integer"}]}',
                     ErrorKind.BAD_REQUEST, id="fastapi"),
        pytest.param(400, "", ErrorKind.BAD_REQUEST, id="empty-400"),
        pytest.param(400, _AZURE_FILTER, ErrorKind.REFUSAL, id="azure-content-filter"),
        pytest.param(401, _openai("Incorrect API key provided"), ErrorKind.AUTHENTICATION,
                     id="401"),
        pytest.param(403, "<title>Forbidden</title>", ErrorKind.AUTHENTICATION, id="403"),
        pytest.param(403, _MODERATED, ErrorKind.REFUSAL, id="openrouter-moderation"),
        pytest.param(402, "{}", ErrorKind.AUTHENTICATION, id="402"),
        pytest.param(400, _openai("API key not valid. Please pass a valid API key."),
                     ErrorKind.AUTHENTICATION, id="gemini-key"),
        pytest.param(429, _openai("You exceeded your current quota", "insufficient_quota"),
                     ErrorKind.AUTHENTICATION, id="no-credit-is-not-a-rate-limit"),
        pytest.param(429, _openai("Rate limit reached", "rate_limit_exceeded", "requests"),
                     ErrorKind.RATE_LIMITED, id="429"),
        pytest.param(404, _flat("The model `x` does not exist.", "NotFoundError", 404),
                     ErrorKind.MODEL_NOT_FOUND, id="404"),
        pytest.param(400, _openai("no such model", "model_not_found"),
                     ErrorKind.MODEL_NOT_FOUND, id="model-not-found-as-400"),
        pytest.param(405, "Method Not Allowed", ErrorKind.MODEL_NOT_FOUND, id="405"),
        pytest.param(400, _openai("Invalid schema for response_format 'x': 'a' is not permitted."),
                     ErrorKind.SCHEMA_REFUSED, id="schema-openai"),
        pytest.param(400, '{"error": {"message": "m", "param": "response_format"}}',
                     ErrorKind.SCHEMA_REFUSED, id="schema-param"),
        pytest.param(400, _flat("The provided JSON schema contains features not supported by"
                                " xgrammar."), ErrorKind.SCHEMA_REFUSED, id="schema-vllm"),
        pytest.param(400, _openai("Failed to initialize samplers: failed to parse grammar"),
                     ErrorKind.SCHEMA_REFUSED, id="schema-llama.cpp"),
        pytest.param(400, _openai("Cannot parse the request"), ErrorKind.BAD_REQUEST,
                     id="no-schema"),
        pytest.param(308, "", ErrorKind.MODEL_NOT_FOUND, id="redirect"),
        pytest.param(408, "", ErrorKind.TIMEOUT, id="408"),
        pytest.param(409, "", ErrorKind.SERVER_ERROR, id="409"),
        pytest.param(500, _openai("boom"), ErrorKind.SERVER_ERROR, id="500"),
        pytest.param(507, "", ErrorKind.SERVER_ERROR, id="507"),
        pytest.param(502, "<title>502 Bad Gateway</title>", ErrorKind.OVERLOADED, id="502"),
        pytest.param(503, '{"error":{"message":"Loading model","code":503}}',
                     ErrorKind.OVERLOADED, id="llama.cpp-loading"),
        pytest.param(504, "", ErrorKind.OVERLOADED, id="504"),
        pytest.param(524, "", ErrorKind.OVERLOADED, id="524"),
        pytest.param(529, _openai("Overloaded"), ErrorKind.OVERLOADED, id="529"),
    ],
)  # fmt: skip
def test_refusal_has_one_kind(status: int, body: str, kind: ErrorKind) -> None:
    assert classify(status, body).kind is kind


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        pytest.param(401, _openai("Incorrect API key"), "apiKey", id="key"),
        pytest.param(429, _openai("quota", "insufficient_quota"), "out of credit", id="credit"),
        pytest.param(302, "", "redirects", id="redirect"),
        pytest.param(404, "", "no such model", id="model"),
        pytest.param(
            400, _openai("Invalid schema for response_format 'x'"), "output.jsonSchema", id="schema"
        ),
        pytest.param(400, "", "no reason given", id="silence"),
        pytest.param(502, "<html><title>502 Bad\n Gateway</title>", "502 Bad Gateway", id="page"),
    ],
)
def test_message_says_what_to_look_at(status: int, body: str, says: str) -> None:
    assert says in classify(status, body).message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param('{"error": {"message": "m"}}', "m", id="openai"),
        pytest.param('{"object": "error", "message": "m"}', "m", id="flat"),
        pytest.param('{"error": "m", "error_type": "validation"}', "m", id="tgi"),
        pytest.param('{"detail": "m"}', "m", id="fastapi-text"),
        pytest.param(
            '{"detail": [{"loc": ["body", "n"], "msg": "too big"}]}', "too big (body.n)", id="list"
        ),
        pytest.param('{"title": "Bad Request", "detail": "m"}', "m", id="problem-details"),
        pytest.param('["odd"]', '["odd"]', id="array"),
        pytest.param("plain\n  text", "plain text", id="text"),
        pytest.param("null", "", id="null"),
        pytest.param('{"error": null}', "", id="null-error"),
        pytest.param('{"error": {"message": {"deep": 1}}}', '{"deep":1}', id="object-message"),
    ],
)
def test_error_body_is_read_in_every_shape(body: str, message: str) -> None:
    assert read_error(body).message == message


def test_long_message_is_cut() -> None:
    assert len(read_error("x" * 10_000).message) == MESSAGE_MAX_CHARACTERS
