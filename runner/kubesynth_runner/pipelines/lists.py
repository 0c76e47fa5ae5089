"""Lists out of free text: what a person would read as the items of a model's answer.

Understood are JSON (also fenced, wrapped in an object, or cut off in the middle), numbered and
bulleted lines, and, failing these, one item a line. Text before the first marker and after the last
item is not part of the list; an item may go on over indented lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

_FENCE = re.compile(r"```[a-zA-Z0-9_-]*[ \t]*\r?\n(.*?)(?:```|\Z)", re.DOTALL)
_MARKER = re.compile(
    r"""^(?P<indent>[ \t]*)
    (?:\*\*|__)?                                   # the number itself may be bold
    (?:
        (?P<number>\(?\d{1,4}\s?[.):\]\u3001\uff0e]\)?)   # 1. 1) (1) 1: and full-width forms
      | (?P<word>(?:[Qq]uestion|[Ii]tem|Q)\s?\#?\d{1,4}\s?[.:)-])
      | (?P<bullet>[-*+\u2022\u2023\u25aa\u25e6\u2013\u2014])
    )
    (?:\*\*|__)?
    [ \t]+(?P<text>\S.*)$""",
    re.VERBOSE,
)
_JSON_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')


def parse(text: str) -> list[str]:
    """Return the items of a list, cleaned, in order; empty if there are none."""
    text = text.replace("\r\n", "\n").strip()
    fenced = _FENCE.search(text)
    if fenced:
        text = fenced.group(1).strip()
    items = _from_json(text) or _from_markers(text) or _from_lines(text)
    return [item for item in (clean(item) for item in items) if item]


def _from_json(text: str) -> list[str]:
    start = min((i for i in (text.find("["), text.find("{")) if i >= 0), default=-1)
    if start < 0 or (start > 0 and not text[:start].rstrip().endswith((":", "\n", "."))):
        return []
    body = text[start:]
    end = max(body.rfind("]"), body.rfind("}"))
    try:
        return _items(msgspec.json.decode(body[: end + 1]))
    except msgspec.DecodeError:
        return _salvage(body)


def _items(value: Any) -> list[str]:
    """Return the texts of a decoded list; of an object, those of its first list."""
    if isinstance(value, dict):
        lists = [entry for entry in value.values() if isinstance(entry, list)]
        return _items(lists[0]) if lists else []
    if not isinstance(value, list):
        return []
    texts = []
    for entry in value:
        if isinstance(entry, dict):
            entry = next((part for part in entry.values() if isinstance(part, str)), None)
        if isinstance(entry, str):
            texts.append(entry)
    return texts


def _salvage(body: str) -> list[str]:
    """Return the whole strings of a JSON list that was cut off."""
    start = body.find("[")
    if start < 0 or '"' not in body:
        return []
    whole = _JSON_STRING.finditer(body[start:])
    texts = []
    for match in whole:
        try:
            texts.append(msgspec.json.decode(f'"{match.group(1)}"', type=str))
        except msgspec.DecodeError:
            continue
    return texts


def _from_markers(text: str) -> list[str]:
    """Return marked lines of the outermost level, with the lines that continue them."""
    matches = [(line, _MARKER.match(line)) for line in text.split("\n")]
    found = [match for _, match in matches if match]
    if not found:
        return []
    use_numbers = any(match["bullet"] is None for match in found)
    outer = min(len(match["indent"]) for match in found if not (use_numbers and match["bullet"]))
    items: list[str] = []
    open_item = False
    for line, match in matches:
        if match and len(match["indent"]) <= outer and not (use_numbers and match["bullet"]):
            items.append(match["text"])
            open_item = True
        elif not line.strip():
            open_item = False
        elif open_item and not match and line[:1] in " \t":
            items[-1] += " " + line.strip()
    return items


def _from_lines(text: str) -> list[str]:
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if len(lines) > 1 and lines[0].endswith(":"):
        lines = lines[1:]
    return lines


def clean(item: str) -> str:
    """Return an item without white space, emphasis and quotes around all of it."""
    item = " ".join(item.split())
    while True:
        before = item
        for left, right in (("**", "**"), ("__", "__"), ('"', '"'), ("“", "”"), ("`", "`")):
            inner = item[len(left) : -len(right)]
            if (
                len(item) > len(left) + len(right)
                and item.startswith(left)
                and item.endswith(right)
                and left not in inner
            ):
                item = inner.strip()
        if item == before:
            return item


def distinct(items: Iterable[str]) -> list[str]:
    """Return the items without later ones that differ only in case or white space."""
    seen: dict[str, str] = {}
    for item in items:
        seen.setdefault(" ".join(item.casefold().split()), item)
    return list(seen.values())
