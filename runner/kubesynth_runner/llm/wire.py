"""The chat completions wire format: requests to bytes, bytes to completions. Pure.

Only what is read is decoded, into typed structs: 70 times cheaper than the complete object model of
the API, and what a server adds or leaves out elsewhere cannot break it.
Source: OpenAI API reference, "Create chat completion"; `reasoning_content` is DeepSeek's and
vLLM's, `reasoning` OpenRouter's and newer vLLM's, content in parts Mistral's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from kubesynth_runner.llm.base import (
    CUT_OFF,
    Choice,
    Completion,
    CompletionRequest,
    JsonSchemaFormat,
    Message,
    TokenLogprobs,
    TokenUsage,
)
from kubesynth_runner.llm.classify import classify, read_error
from kubesynth_runner.llm.errors import ClientError, ErrorKind

# Around reasoning that a server without a reasoning parser leaves in the text: those of DeepSeek,
# Qwen and most others, and Magistral's.
_THINK_TAGS = {"<think>": "</think>", "[THINK]": "[/THINK]"}
_THINK_OPENING = re.compile(r"\s*(<think>|\[THINK\])")
# Templates that open the block themselves are only known with this one.
_LONE_CLOSING = "</think>"


class Usage(msgspec.Struct):
    """Token counts of an answer."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Part(msgspec.Struct):
    type: str = ""
    text: str | None = None
    thinking: list[_Part] | str | None = None


class _Message(msgspec.Struct):
    content: str | list[_Part] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None


class _TopToken(msgspec.Struct):
    token: str = ""
    logprob: float = 0.0


class _Token(msgspec.Struct):
    token: str = ""
    logprob: float = 0.0
    top_logprobs: list[_TopToken] | None = None


class _Logprobs(msgspec.Struct):
    content: list[_Token] | None = None


class _Choice(msgspec.Struct):
    message: _Message | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Reply(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: Usage | None = None
    model: str | None = None
    error: Any = None


class _ModelEntry(msgspec.Struct):
    id: str


class _ModelList(msgspec.Struct):
    data: list[_ModelEntry]


# More digits are noise of the server's arithmetic, and cost space in every row.
_LOGPROB_DIGITS = 4

# How servers say that they gave a completion up, as they stop or were told to: with what there was
# of it by then, often nothing, and status 200 (vLLM's and SGLang's source).
_GIVEN_UP = "abort"

# "sorted" orders the keys of every dict, so equal requests are equal bytes.
_sorted_encoder = msgspec.json.Encoder(order="sorted")
# A schema keeps its order: constrained decoding generates properties in it, and a model that has to
# answer before it has reasoned answers worse.
_schema_encoder = msgspec.json.Encoder()
_reply_decoder = msgspec.json.Decoder(_Reply)
_models_decoder = msgspec.json.Decoder(_ModelList)


def encode_request(model: str, request: CompletionRequest) -> bytes:
    """Return the body of a request; equal requests give equal bytes.

    Raises:
        ClientError: BAD_REQUEST, the request holds what JSON cannot, such as half a surrogate pair.
    """
    body: dict[str, Any] = {
        "model": model,
        "messages": to_wire(request.messages),
        **request.sampling,
    }
    if request.response_format is not None:
        body["response_format"] = _encode_format(request.response_format)
    body.update(request.extra_body)
    return encode_body(body)


def to_wire(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Return messages as a request has them."""
    return [{"role": message.role, "content": message.content} for message in messages]


def encode_body(body: Mapping[str, Any]) -> bytes:
    """Return a request's body as JSON; equal bodies give equal bytes.

    Raises:
        ClientError: BAD_REQUEST, it holds what JSON cannot.
    """
    return _encode(_sorted_encoder, body)


def _encode(encoder: msgspec.json.Encoder, value: Any) -> bytes:
    try:
        return encoder.encode(value)
    except (TypeError, UnicodeEncodeError) as exc:
        raise ClientError(
            ErrorKind.BAD_REQUEST, f"the request cannot be written as JSON: {exc}"
        ) from exc


def _encode_format(response_format: JsonSchemaFormat) -> msgspec.Raw:
    described: dict[str, Any] = {"name": response_format.name, "schema": response_format.schema}
    # Never false: that may tell a server not to constrain anything.
    if response_format.strict:
        described["strict"] = True
    return msgspec.Raw(_encode(_schema_encoder, {"type": "json_schema", "json_schema": described}))


def decode_completion(body: bytes, *, is_scored: bool = False) -> Completion:
    """Return the completion in a 200 answer.

    `is_scored`: it is a reward model's, which may say all that it has to say in the logprobs.

    Raises:
        ClientError: MALFORMED_RESPONSE, or EMPTY_COMPLETION when no choice says anything;
            OVERLOADED when the server has given up, whatever it says; a gateway's error in a 200
            answer is classified as if it had come with its own status.
    """
    try:
        reply = _decode_reply(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise failed(
            ErrorKind.MALFORMED_RESPONSE, f"the answer is no chat completion: {exc}", body
        ) from exc
    if not reply.choices:
        raise _without_choices(reply, body)
    usage = to_token_usage(reply.usage)
    first, *others = [_choice(choice, usage, body) for choice in reply.choices]
    completion = Completion(
        text=first.text,
        finish_reason=first.finish_reason,
        usage=usage,
        model=reply.model or "",
        reasoning=first.reasoning,
        refusal=first.refusal,
        logprobs=first.logprobs,
        others=tuple(others),
    )
    if any(choice.finish_reason == _GIVEN_UP for choice in (first, *others)):
        problem = f"the server gave the completion up (finish_reason {_GIVEN_UP}); is it stopping?"
        raise failed(ErrorKind.OVERLOADED, problem, body, completion)
    has_scores = is_scored and first.logprobs is not None
    if not has_scores and not any(
        choice.text.strip() or choice.refusal for choice in (first, *others)
    ):
        raise failed(ErrorKind.EMPTY_COMPLETION, _why_empty(first), body, completion)
    return completion


def _nothing(usage: TokenUsage) -> Completion | None:
    """Return the answer that says nothing, if the server has counted tokens for it."""
    return Completion("", None, usage, "") if usage.total_tokens else None


def _choice(choice: _Choice, usage: TokenUsage, body: bytes) -> Choice:
    if choice.message is None:
        problem = "a choice has no message"
        raise failed(ErrorKind.MALFORMED_RESPONSE, problem, body, _nothing(usage))
    text, reasoning = _text_and_reasoning(choice.message)
    refusal = choice.message.refusal or None
    if refusal is None and choice.finish_reason == "content_filter":
        # Whatever it has let through by then: nobody wants half of what was not to be said.
        refusal = "the server's content filter stopped the completion"
    return Choice(text, choice.finish_reason, reasoning, refusal, _logprobs(choice.logprobs))


def _logprobs(logprobs: _Logprobs | None) -> TokenLogprobs | None:
    if logprobs is None or not logprobs.content:
        return None
    tokens = logprobs.content
    top = None
    if any(token.top_logprobs for token in tokens):
        top = [
            [(top.token, round(top.logprob, _LOGPROB_DIGITS)) for top in token.top_logprobs or ()]
            for token in tokens
        ]
    return TokenLogprobs(
        [token.token for token in tokens],
        [round(token.logprob, _LOGPROB_DIGITS) for token in tokens],
        top,
    )


def decode_models(body: bytes) -> tuple[str, ...]:
    """Return the ids in a model list, or nothing if the body is no such list."""
    try:
        return tuple(entry.id for entry in _models_decoder.decode(body).data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ()


def split_reasoning(content: str) -> tuple[str, str | None]:
    """Return content without the blocks of reasoning at its start, and that reasoning.

    A chat template that opens the block itself leaves only the closing tag in the completion; a
    completion that was cut off has only the opening one.
    """
    text, thoughts = content, []
    if _LONE_CLOSING in text and "<think>" not in (before := text.partition(_LONE_CLOSING)[0]):
        thoughts.append(before.strip())
        text = text.partition(_LONE_CLOSING)[2].lstrip()
    position = 0
    while opening := _THINK_OPENING.match(text, position):
        closing = _THINK_TAGS[opening[1]]
        end = text.find(closing, opening.end())
        end = len(text) if end < 0 else end
        thoughts.append(text[opening.end() : end].strip())
        position = end + len(closing)
    text = text[position:].lstrip() if position else text
    return text, "\n\n".join(filter(None, thoughts)) or None


def _text_and_reasoning(message: _Message) -> tuple[str, str | None]:
    reasoning = message.reasoning_content or message.reasoning or None
    if isinstance(message.content, list):
        text = "".join(part.text or "" for part in message.content if part.type != "thinking")
        thoughts = "".join(_thoughts(part) for part in message.content)
        return text, reasoning or thoughts or None
    text, block = split_reasoning(message.content or "")
    return text, reasoning or block


def _thoughts(part: _Part) -> str:
    if isinstance(part.thinking, list):
        return "".join(thought.text or "" for thought in part.thinking)
    return part.thinking or ""


def _decode_reply(body: bytes) -> _Reply:
    """Decode an answer; a usage that makes no sense counts as none, for the text is paid for."""
    try:
        return _reply_decoder.decode(body)
    except msgspec.ValidationError:
        document = msgspec.json.decode(body)
        if not isinstance(document, dict) or document.pop("usage", None) is None:
            raise
        return msgspec.convert(document, _Reply)


def to_token_usage(usage: Usage | None) -> TokenUsage:
    """Return the counts of an answer; none where it has none."""
    if usage is None:
        return TokenUsage()
    return TokenUsage(max(0, usage.prompt_tokens or 0), max(0, usage.completion_tokens or 0))


def _why_empty(choice: Choice) -> str:
    if choice.finish_reason in CUT_OFF:
        what = (
            "while the model was still reasoning"
            if choice.reasoning
            else "before the model said a word"
        )
        return f"the completion was cut off {what}; raise maxTokens"
    return f"the completion is empty (finish_reason {choice.finish_reason})"


def _without_choices(reply: _Reply, body: bytes) -> ClientError:
    if reply.error is None:
        if reply.choices is None:
            return failed(
                ErrorKind.MALFORMED_RESPONSE, "the answer is no chat completion: no choices", body
            )
        return failed(
            ErrorKind.EMPTY_COMPLETION,
            "the answer has an empty list of choices",
            body,
            _nothing(to_token_usage(reply.usage)),
        )
    text = body.decode("utf-8", "replace")
    code = read_error(text).code
    status = int(code) if code.isdecimal() and 400 <= int(code) < 600 else 500
    failure = classify(status, text)
    return ClientError(
        failure.kind, f"an error in an answer with status 200: {failure.message}", body=text
    )


def failed(
    kind: ErrorKind, message: str, body: bytes, answer: Completion | None = None
) -> ClientError:
    """Return the error for a 200 answer that is of no use."""
    text = body.decode("utf-8", "replace")
    return ClientError(kind, message, status_code=200, body=text, answer=answer)
