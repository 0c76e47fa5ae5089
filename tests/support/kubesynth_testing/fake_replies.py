"""Replies without a model: what the fake server says. Pure.

A reply is drawn from the hash of the request body, so equal requests get equal replies. It fits the
request's JSON schema, is a numbered list where the prompt asks for so many questions or items, and
otherwise a few sentences. The sentences mean nothing, but differ from each other.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
from typing import Any

_SUBJECTS = ("the river", "the treaty", "the engine", "the harvest", "the archive", "the reef")
_VERBS = ("changed", "explains", "preceded", "limits", "reveals", "outlasted", "supports")
_OBJECTS = ("the valley", "its neighbours", "the trade", "the old maps", "the season", "the coast")
_PAIRS_REQUEST = "\nQuestion: ...\nAnswer: ..."
_LIST_REQUEST = re.compile(
    r"\b(\d{1,3})\s+(?:[\w-]+\s+){0,4}?(questions|items|topics|entries|sentences|facts)",
    re.IGNORECASE,
)
DEFAULT_ITEMS = 3
MAX_SCHEMA_DEPTH = 12


def body_hash(body: Any) -> str:
    """Return the hash of a request body, whatever the order of its keys."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def count_tokens(text: str) -> int:
    """Return a stand-in for a token count: four characters are one."""
    return math.ceil(len(text) / 4)


def complete(
    body: dict[str, Any], reasoning: str = "", max_choices: int | None = None
) -> dict[str, Any]:
    """Return the reply to a request; `reasoning` is put before its text as a <think> block.

    `max_choices` is for servers that give fewer choices than `n`.
    """
    key = body_hash(body)
    prompt = "\n".join(message["content"] for message in body["messages"])
    wanted = body.get("n") or 1
    count = wanted if max_choices is None else min(wanted, max_choices)
    choices, completion_tokens = [], 0
    for index in range(count):
        text, finish_reason = _text(body, prompt, random.Random(f"{key}/{index}" if index else key))
        completion_tokens += count_tokens(text)
        if reasoning:
            text = f"<think>\n{reasoning}\n</think>\n\n{text}"
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": index, "message": message, "finish_reason": finish_reason}
        if body.get("logprobs"):
            choice["logprobs"] = {"content": _logprobs(text, body.get("top_logprobs") or 0)}
        choices.append(choice)
    usage = {"prompt_tokens": count_tokens(prompt), "completion_tokens": completion_tokens}
    return {
        "id": f"chatcmpl-{key}",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": choices,
        "usage": usage | {"total_tokens": sum(usage.values())},
    }


def _text(body: dict[str, Any], prompt: str, draw: random.Random) -> tuple[str, str]:
    text = _content(body, prompt, draw)
    limit = body.get("max_tokens") or body.get("max_completion_tokens")
    if limit is not None and count_tokens(text) > limit:
        return text[: limit * 4], "length"
    return text, "stop"


def _logprobs(text: str, top: int) -> list[dict[str, Any]]:
    """Return made-up log probabilities of a text's words."""
    return [
        {
            "token": word,
            "logprob": -0.1 * place - 0.000049,
            "bytes": list(word.encode()),
            "top_logprobs": [
                {"token": f"{word}{rank or ''}", "logprob": -0.1 * place - rank, "bytes": None}
                for rank in range(top)
            ],
        }
        for place, word in enumerate(text.split())
    ]


def _content(body: dict[str, Any], prompt: str, draw: random.Random) -> str:
    response_format = body.get("response_format") or {}
    if response_format.get("type") == "json_schema":
        schema = response_format["json_schema"]["schema"]
        return json.dumps(_instance(schema, schema, draw, 0))
    if _PAIRS_REQUEST in prompt:
        pairs = [(_sentence(draw, "?"), _sentence(draw, ".")) for _ in range(DEFAULT_ITEMS)]
        return "\n\n".join(f"Question: {asked}\nAnswer: {told}" for asked, told in pairs)
    wanted = _LIST_REQUEST.search(prompt)
    if wanted:
        kind = "?" if wanted[2].lower() == "questions" else "."
        items = [_sentence(draw, kind) for _ in range(int(wanted[1]))]
        return "\n".join(f"{number}. {item}" for number, item in enumerate(items, start=1))
    return " ".join(_sentence(draw, ".") for _ in range(draw.randint(1, 3)))


def _sentence(draw: random.Random, end: str) -> str:
    subject, verb, object_ = (draw.choice(words) for words in (_SUBJECTS, _VERBS, _OBJECTS))
    number = draw.randrange(1000, 10000)  # keeps the sentences of a large run apart
    if end == "?":
        return f"What is known in record {number} of how {subject} {verb} {object_}?"
    return f"In record {number}, {subject} {verb} {object_}."


def _instance(schema: Any, root: Any, draw: random.Random, depth: int) -> Any:
    """Return a document that fits a schema. Covers what constrained decoding is used for."""
    if not isinstance(schema, dict) or depth > MAX_SCHEMA_DEPTH:
        return None
    if "$ref" in schema:
        target = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        return _instance(target, root, draw, depth + 1)
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return _instance(draw.choice(choices), root, draw, depth + 1)
    if "const" in schema or "enum" in schema:
        return draw.choice(schema.get("enum") or [schema["const"]])
    match schema.get("type"):
        case "object":
            properties = schema.get("properties", {}).items()
            return {name: _instance(part, root, draw, depth + 1) for name, part in properties}
        case "array":
            count = min(
                schema.get("maxItems", 10**6), max(schema.get("minItems", 0), DEFAULT_ITEMS)
            )
            return [_instance(schema.get("items"), root, draw, depth + 1) for _ in range(count)]
    return _scalar(schema, draw)


def _scalar(schema: dict[str, Any], draw: random.Random) -> Any:
    match schema.get("type"):
        case "integer" | "number":
            low = math.ceil(schema.get("minimum", 0))
            return draw.randint(low, math.floor(schema.get("maximum", low + 100)))
        case "boolean":
            return draw.random() < 0.5
        case "string":
            text = _sentence(draw, "?").ljust(schema.get("minLength", 0), ".")
            return text[: schema.get("maxLength")]
    return None
