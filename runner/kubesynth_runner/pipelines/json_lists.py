"""Lists of texts out of JSON as models write it: wrapped, cut off, or not quite JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

# Where JSON begins: on a line of its own, or after a colon or an equals sign.
_START = re.compile(r"""(?:\A|\n|:|=)[ \t]*(?=[\[{]\s*[\[{"'\]}])""")
_SINGLE_QUOTED = re.compile(r"'((?:[^'\\]|\\.|'(?=\w))*)'\s*(?=[,\]}])")
# A text that has its line for itself, as in pretty-printed JSON, and is no key.
_QUOTED_LINE = re.compile(
    r'^[ \t]*"(?![^\n]*"[ \t]*:)(.+)"[ \t]*,?[ \t]*(?://[^"\n]*)?$(?!\s*:)', re.MULTILINE
)
_NUMBERED = re.compile(r"\s*(\d{1,3})[.)]\s+")
_FENCED = re.compile(r"```[a-zA-Z0-9_-]*[ \t]*\n(.*?)\n[ \t]*```", re.DOTALL)
_GAP = re.compile(r"[\s,]*")
# Keys under which the text of an object in a list is looked for, before all others.
_TEXT_KEYS = (
    "question",
    "item",
    "text",
    "content",
    "value",
    "topic",
    "name",
    "title",
    "fact",
    "task",
    "problem",
    "revision",
)
_NUMBERED_KEY = re.compile(r".*\d")
# Models write line breaks into strings.
_DECODER = json.JSONDecoder(strict=False)


def find(text: str) -> int | None:
    """Return where a JSON list or object begins, or None if there is none."""
    match = _START.search(text)
    return match.end() if match else None


def of_document(text: str) -> list[str] | None:
    """Return the texts of the list in a text that is JSON and nothing else, None if it is not.

    Nobody reads these but a program: what looks like markup in them is part of them.
    """
    body = text.strip()
    fenced = _FENCED.fullmatch(body)
    body = fenced[1].strip() if fenced else body
    if _START.match(body) is None:
        return None
    try:
        value, end = _DECODER.raw_decode(body)
    except (ValueError, RecursionError):
        return None
    return None if end < len(body) else _tidied(_texts(value))


def items(body: str) -> list[str]:
    """Return the texts of the list that `body` begins with."""
    values = list(_values(body, 0))
    lines = [match[1] for match in _QUOTED_LINE.finditer(body)]
    if not values and (start := body.find("[")) >= 0:
        values = [list(_values(body, start + 1))]  # cut off: as many elements as are whole
    if not values or values == [[]]:
        return [match[1] for match in _SINGLE_QUOTED.finditer(body)]
    found = _texts(values[0] if len(values) == 1 else values)
    if len(lines) > len(found):  # comments, a comma too few, quotes that are not escaped
        found = lines
    return _tidied(found)


def _tidied(found: list[str]) -> list[str]:
    """Return texts without the numbers of a list before them, and without what is no text."""
    numbered = [match for text in found if (match := _NUMBERED.match(text))]
    if [int(match[1]) for match in numbered] == list(range(1, len(found) + 1)):
        found = [text[match.end() :] for text, match in zip(found, numbered, strict=True)]
    # An escaped half of a surrogate pair is no text.
    return [text.encode("utf-8", "ignore").decode() for text in found]


def _values(body: str, position: int) -> Iterator[Any]:
    """Yield the JSON values that follow each other, to the first thing that is none."""
    while True:
        gap = _GAP.match(body, position)
        position = gap.end() if gap else position
        try:
            value, position = _DECODER.raw_decode(body, position)
        except (ValueError, RecursionError):
            return
        yield value


def _texts(value: Any) -> list[str]:
    """Return the texts of a decoded list; of an object, those of its first list."""
    match value:
        case list():
            return [text for entry in value for text in _entry(entry)]
        case dict():
            nested = [entry for entry in value.values() if isinstance(entry, list | dict) and entry]
            if nested:
                return _texts(nested[0])
            if len(value) > 1 and all(_NUMBERED_KEY.fullmatch(key) for key in value):
                return [text for text in value.values() if isinstance(text, str)]
            return _entry(value)
    return _entry(value)


def _entry(entry: Any) -> list[str]:
    """Return the text of an element of a list; of a list within it, its elements' texts."""
    match entry:
        case str():
            return [entry]
        case bool():
            return []
        case int() | float():
            return [str(entry)]
        case list():
            return _texts(entry)
        case dict():
            texts = {key: value for key, value in entry.items() if isinstance(value, str)}
            for wanted in _TEXT_KEYS:
                for key, text in texts.items():
                    if wanted in key.lower():
                        return [text]
            return list(texts.values())[:1]
    return []
