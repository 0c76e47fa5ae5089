"""Conversations: reading and showing them, and telling when one leads nowhere. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kubesynth_runner.llm.base import Message
from kubesynth_runner.pipelines.base import StageFailure

# Two messages that share so many of their words say the same.
SAME_WORDS = 0.9
# A longer text that begins with an apology goes on to do what was asked.
_LONGEST_REFUSAL_CHARACTERS = 400
_REFUSAL = re.compile(
    r"^\W*(?:(?:i.?m|i am) (?:very |so |truly )?sorry\b|(?:my )?apologies\b|sorry,"
    r"|unfortunately,? i)"
    r".*?\b(?:can.?t|cannot|can not|unable|won.?t|not able|not comfortable)\b"
    r"|^\W*(?:i (?:can.?t|cannot|won.?t|must decline|am unable|am not able|refuse)"
    r"|as an ai\b[^.]*\b(?:can.?t|cannot|unable|not able))",
    re.IGNORECASE | re.DOTALL,
)
_OWN_LABEL = re.compile(
    r"^[*_#>\s\[<]*(?:(?:the )?(?:user|human)|you)[*_\]>]*\s*[:\n>][*_\s]*", re.IGNORECASE
)
_OTHER_LABEL = re.compile(
    r"\n[*_#\[< \t]*(?:assistant|ai|chatbot)[*_\]>]*\s*(?::|\n|$)|</(?:user|assistant)>"
    r"|\n[*_# \t]*the user(?:'|\u2019)s next message(?: is)?[*_]*:",
    re.IGNORECASE,
)
_QUOTES = (('"', '"'), ("\u201c", "\u201d"), ("\u00ab", "\u00bb"))


def render(messages: Iterable[Message]) -> str:
    """Return a conversation as text, each message between tags of its own."""
    return "\n\n".join(f"<{m.role}>\n{m.content}\n</{m.role}>" for m in messages)


def to_column(messages: Iterable[Message]) -> list[dict[str, str]]:
    """Return a conversation as the value of a column."""
    return [{"role": message.role, "content": message.content} for message in messages]


def from_column(columns: Mapping[str, Any], name: str) -> tuple[Message, ...]:
    """Return the conversation in a record's column: a list, or its JSON text.

    Raises:
        StageFailure: there is none.
    """
    value = columns.get(name)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as exc:
            raise StageFailure("BadInput", f"column {name!r} is not JSON: {exc}") from exc
    messages = [_message(item) for item in value] if isinstance(value, list) else []
    found = tuple(message for message in messages if message is not None)
    if not found or len(found) < len(messages):
        raise StageFailure(
            "BadInput", f"column {name!r} holds no conversation: a list of role and content, a text"
        )
    return found


def _message(item: Any) -> Message | None:
    if not isinstance(item, Mapping):
        return None
    role, content = item.get("role"), item.get("content")
    if role not in ("system", "user", "assistant") or not isinstance(content, str):
        return None
    # Half of an escaped surrogate pair is no text, and no server can be sent it.
    if content.encode("utf-8", "ignore").decode() != content:
        return None
    return Message(role, content)


def text_of(columns: Mapping[str, Any], name: str, what: str) -> str:
    """Return the text in a record's column.

    Raises:
        StageFailure: there is none.
    """
    value = columns.get(name)
    if not isinstance(value, str) or not value.strip():
        raise StageFailure("BadInput", f"column {name!r} holds no {what}")
    return value


def user_message(text: str) -> str:
    """Return what a model says in the user's place, without labels, quotes and what it adds."""
    text = _OTHER_LABEL.split(_OWN_LABEL.sub("", text.strip(), count=1), maxsplit=1)[0].strip()
    for left, right in _QUOTES:
        inner = text[1:-1]
        if len(text) > 2 and text[0] == left and text[-1] == right and left not in inner:
            text = inner.strip()
    return text


def is_refusal(text: str) -> bool:
    """Tell whether an answer only says, in English, that there will be none."""
    return len(text) <= _LONGEST_REFUSAL_CHARACTERS and _REFUSAL.search(text) is not None


def repeats(text: str, earlier: Sequence[str]) -> bool:
    """Tell whether a message says what an earlier one has said."""
    words = _words(text)
    return any(_similarity(words, _words(other)) >= SAME_WORDS for other in earlier)


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.casefold())) or frozenset({text.strip()})


def _similarity(one: frozenset[str], other: frozenset[str]) -> float:
    """Return the Jaccard similarity of two sets of words."""
    return len(one & other) / len(one | other)
