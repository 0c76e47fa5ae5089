"""Questions with their answers out of free text: JSON, or lines with labels in many forms."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from kubesynth_runner.pipelines import lists

Pair = tuple[str, str]

_LABEL = re.compile(
    # At the beginning of a line, behind any list marker or emphasis: Q, Question 3, **Answer**.
    r"(?:^[ \t>#*_\-+\u2022]{0,12}+(?:\(?\d{1,3}[.):][ \t]{0,4})?[*_]{0,3}"
    r"(?P<line>question|answer|q|a)"
    # Within a line only the full words, behind a blank.
    r"|(?<=\s)[*_]{0,3}(?P<inside>answer))"
    r"[ \t]{0,4}#?\d{0,3}[*_ \t]{0,6}[:\uff1a][ \t]{0,8}[*_]{0,3}[ \t]{0,8}",
    re.IGNORECASE | re.MULTILINE,
)
_START = re.compile(r"[\[{]\s*[\[{\"\]]")
_TRAILER = re.compile(
    r"(?:\n[ \t]{0,8}(?:[-*_]{3,9}|[#>*\-+\u2022]{0,4}[ \t]{0,4}\d{1,3}[.)]|[-*+])"
    r"[ \t\n]{0,8}){1,4}\Z"
)


def parse(text: str) -> list[Pair]:
    """Return the pairs in a text, in order; a question without an answer is none."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    found = list(_of_json(text)) or list(_of_labels(text))
    pairs = {lists.fold(question): (question, answer) for question, answer in reversed(found)}
    return list(reversed(pairs.values()))


def _of_labels(text: str) -> Iterator[Pair]:
    marks = list(_LABEL.finditer(text))
    question = ""
    for index, mark in enumerate(marks):
        end = marks[index + 1].start() if index + 1 < len(marks) else len(text)
        body = _clean(text[mark.end() : end], is_last=index + 1 == len(marks))
        label = (mark["line"] or mark["inside"]).lower()
        if label in ("question", "q"):
            question = body
        elif question and body:
            yield question, body
            question = ""


def _clean(body: str, *, is_last: bool) -> str:
    body = _TRAILER.sub("", body.rstrip()).strip()
    if is_last:
        body = body.split("\n\n")[0]  # what follows after a blank line is a closing remark
    for mark in ("**", "__"):
        if body.count(mark) % 2:
            body = body.removeprefix(mark) if body.startswith(mark) else body.removesuffix(mark)
    return lists.clean(body) if "\n" not in body else body.strip()


def _of_json(text: str) -> Iterator[Pair]:
    start = _START.search(text)
    if start is None:
        return
    decoder = json.JSONDecoder(strict=False)
    position = start.start()
    while position < len(text):
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            # Cut off, or a comma too many: on with the next object that is whole.
            following = text.find("{", position + 1)
            if following < 0:
                return
            position = following
            continue
        yield from _of_value(value)
        start = _START.search(text, position)
        if start is None:
            return
        position = start.start()


def _of_value(value: Any) -> Iterator[Pair]:
    if isinstance(value, list):
        for entry in value:
            yield from _of_value(entry)
    elif isinstance(value, dict):
        fields = {str(key).lower(): entry for key, entry in value.items()}
        question = fields.get("question", fields.get("q"))
        answer = fields.get("answer", fields.get("a"))
        if isinstance(question, str) and isinstance(answer, str | int | float):
            if question.strip() and str(answer).strip():
                yield _text(question), _text(str(answer))
        else:
            for entry in fields.values():
                if isinstance(entry, list | dict):
                    yield from _of_value(entry)


def _text(value: str) -> str:
    # Half of an escaped surrogate pair is no text.
    return value.strip().encode("utf-8", "ignore").decode()
