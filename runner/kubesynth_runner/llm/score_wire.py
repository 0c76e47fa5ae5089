"""vLLM's APIs for models that give numbers: /score, /pooling and /classify. Pure.

Source: vLLM, `vllm/entrypoints/pooling/*/protocol.py`. Requests have `model` and, for /score,
`text_1` and `text_2`, for the others `messages`. Answers have `usage` and `data`, one entry for
each input: `score`; `data`, a vector or one for each token; `probs`, one for each class.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from kubesynth_runner.llm import wire
from kubesynth_runner.llm.base import Completion, CompletionRequest, Message
from kubesynth_runner.llm.errors import ErrorKind

Api = Literal["Score", "Pooling", "Classify"]


class _Entry(msgspec.Struct):
    score: float | None = None
    data: list[float | list[float]] | str | None = None
    probs: list[float] | None = None
    label: str | None = None


class _Answer(msgspec.Struct):
    data: list[_Entry]
    model: str | None = None
    usage: wire.Usage | None = None


_decoder = msgspec.json.Decoder(_Answer)


def url(base_url: str, api: Api) -> str:
    """Return the address of an API; it lies beside /v1, not under it."""
    return f"{base_url.removesuffix('/v1')}/{api.lower()}"


def encode_request(model: str, request: CompletionRequest, api: Api) -> bytes:
    """Return the body of a request over a conversation that ends with the assistant.

    Raises:
        ClientError: BAD_REQUEST, the request holds what JSON cannot.
    """
    *asked, answer = request.messages
    body: dict[str, Any] = {"model": model}
    if api == "Score":
        body |= {"text_1": _as_text(asked), "text_2": answer.content}
    else:
        body["messages"] = wire.to_wire(request.messages)
    body.update(request.extra_body)
    return wire.encode_body(body)


def _as_text(messages: list[Message]) -> str:
    """Return what was asked as one text: the question itself, if it is all there is."""
    if len(messages) == 1:
        return messages[0].content
    return "\n\n".join(f"{message.role}: {message.content}" for message in messages)


def decode(body: bytes, api: Api) -> Completion:
    """Return the numbers of a 200 answer as a completion, `name:number` each.

    An answer of another shape than that of a reward model is said in words: it fails its record,
    not the server.

    Raises:
        ClientError: MALFORMED_RESPONSE, it is no answer of this API.
    """
    try:
        answer = _decoder.decode(body)
        (entry,) = answer.data
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as exc:
        problem = f"the answer is none of /{api.lower()}: {exc}"
        raise wire.failed(ErrorKind.MALFORMED_RESPONSE, problem, body) from exc
    return Completion(
        _numbers(entry, api),
        "stop",
        wire.to_token_usage(answer.usage),
        answer.model or "",
    )


def _numbers(entry: _Entry, api: Api) -> str:
    match api:
        case "Score":
            return "no score" if entry.score is None else f"score:{entry.score!r}"
        case "Pooling":
            return _pooled(entry.data)
        case "Classify":
            probabilities = entry.probs or []
            if len(probabilities) == 1:
                return f"score:{probabilities[0]!r}"
            pairs = (f"class_{place}:{value!r}" for place, value in enumerate(probabilities))
            return ",".join(pairs) or "no probabilities"


def _pooled(data: list[float | list[float]] | str | None) -> str:
    """Return the one number: of the sequence, or at its last token, where it has been read."""
    if not data or isinstance(data, str):
        return "no numbers"
    last = data[-1]
    vector = last if isinstance(last, list) else data
    if len(vector) != 1:
        return f"a vector of {len(vector)} numbers, where a reward model gives one"
    return f"score:{vector[0]!r}"
