"""Lists out of free text: what a person would read as the items of a model's answer.

Understood are JSON (also fenced, wrapped in an object, one object a line, with trailing commas, or
cut off in the middle), numbered, lettered and bulleted lines with or without Markdown, headings
such as "Question 1" above each item, and, failing these, one item a line. Text before the first
marker and after the last item is not part of the list; an item may go on over indented lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from kubesynth_runner.pipelines import json_lists, marked_lines

_FENCE = re.compile(r"```[a-zA-Z0-9_-]*[ \t]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)
_QUESTION_MARKS = ("?", "\uff1f", "\u061f", "\u037e")
_COLONS = (":", "\uff1a")
_QUOTES = (
    ("**", "**"),
    ("__", "__"),
    ("*", "*"),
    ('"', '"'),
    ("\u201c", "\u201d"),
    ("\u00ab", "\u00bb"),
    ("\u300c", "\u300d"),
    ("`", "`"),
)


def parse(text: str, expected: int | None = None) -> list[str]:
    """Return the items of a list, cleaned, in order; empty if there are none.

    `expected` is how many were asked for. One line alone is only taken for a list of one if that
    was wanted: it may as well be an excuse.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip("\n")
    fenced = _FENCE.search(text)
    # A block below the first item is part of the list, not all of it.
    if fenced and not marked_lines.items(text[: fenced.start()]):
        inside = _parse_structured(fenced[1])
        if inside is not None:
            return inside
        if not marked_lines.items(text[fenced.end() :]):
            text = fenced[1]
    items = _parse_structured(text)
    return _clean_all(_from_lines(text, expected)) if items is None else items


def _parse_structured(text: str) -> list[str] | None:
    """Return the items of JSON or of marked lines, or None if there is neither."""
    start = json_lists.find(text)
    if start is not None and not marked_lines.items(text[:start]):
        return [item.strip() for item in json_lists.items(text[start:]) if item.strip()]
    marked = marked_lines.items(text)
    return _clean_all(marked) if marked else None


def _clean_all(items: Iterable[str]) -> list[str]:
    return [item for item in map(clean, items) if item]


def _from_lines(text: str, expected: int | None) -> list[str]:
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if len(lines) > 1 and lines[0].endswith(_COLONS):
        lines = lines[1:]
    questions = [line for line in lines if line.rstrip('"*_ ').endswith(_QUESTION_MARKS)]
    if 2 * len(questions) >= len(lines):
        return questions
    return lines if len(lines) > 1 or expected == 1 else []


def clean(item: str) -> str:
    """Return an item without white space, emphasis and quotes around all of it."""
    item = " ".join(item.split())
    if item.endswith(('",', "',")):
        item = item[:-1]
    while True:
        before = item
        for left, right in _QUOTES:
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
        seen.setdefault(fold(item), item)
    return list(seen.values())


def fold(item: str) -> str:
    """Return what two items have in common that differ only in case or white space."""
    return " ".join(item.casefold().split())
