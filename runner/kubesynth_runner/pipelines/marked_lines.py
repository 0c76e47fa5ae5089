"""Items out of marked lines: numbered, lettered or bulleted, with or without Markdown around it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection
from typing import Literal

from kubesynth_runner.pipelines.wrapped_text import WrappedText

Kind = Literal["number", "letter", "bullet"]

_LEAD = re.compile(r"(?P<indent>[ \t\u3000]*)(?:>[ \t]?)?(?:#{1,6}[ \t]+)?(?P<bold>\*\*|__)?")
_DASHES = "\\-\u2013\u2014"
_MARKERS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    # 1. 1) (1) [1] 1\. and full-width forms, but not 1.5
    ("number", re.compile(r"[(\[\uff08]?(\d{1,4}) ?\\?[.)\]\u3001\uff0e\uff09\u3002](?![\d.])\)?")),
    # 1: but not 10:30; 1 - text but not 1-5
    ("number", re.compile(rf"(\d{{1,3}})(?::(?=\s|\*|$)| [{_DASHES}](?=\s))")),
    # Question 1, Item #1, Q1
    (
        "number",
        re.compile(
            r"(?:question|item|topic|fact|entry|q) ?(?:no\.? ?)?#? ?(\d{1,4})"
            rf"(?=\s*(?:[.:){_DASHES}*_]|$))",
            re.IGNORECASE,
        ),
    ),
    # Question: 1. but not Question: 1984: a novel
    (
        "number",
        re.compile(r"(?:question|item|topic|fact|entry|q): ?(\d{1,3})[.)](?=\s)", re.IGNORECASE),
    ),
    ("letter", re.compile(r"\(?([a-zA-Z])[.)](?=\s)")),
    ("bullet", re.compile(rf"[*+{_DASHES}](?=\s+\S)()")),
    (
        "bullet",
        re.compile(
            r"[\u2022\u2023\u25aa\u25e6\u25cf\u25cb\u25a0\u00b7\u2219\u27a4\u2794](?=\s*\S)()"
        ),
    ),
)
_SEPARATOR = rf"\s*(?:[.:){_DASHES}]+(?=[\s*_]|$))?"
_TAIL = re.compile(_SEPARATOR)
# The end of emphasis that began before the marker: **Question 1**: or **Question 1:**
_BOLD_TAIL = re.compile(rf"(?:(?:\*\*|__){_SEPARATOR}|{_SEPARATOR}(?:\*\*|__))")
COLONS = (":", "\uff1a")
# Below an item: a number of its own (1.1), and a label.
_PART_NUMBER = re.compile(r"\s+\d{1,3}\.\d{1,3}[.)]?\s")
_LABEL = re.compile(
    r"\s+[*_]{0,3}([^\W\d_][^\s\d:\uff1a*_]{0,19})[*_]{0,3}(?:[:\uff1a][*_]{0,3}\s|\uff1a)"
)
# A line of its own that speaks about an item: *(Tests recall.)*
ASIDE = re.compile(r"\s*(\*\*?|__?)\([^\n]*\)\1\s*")
# A title in bold, with its description behind it.
_TITLED = re.compile(
    r"(?:\*\*(?P<stars>[^*\n]{1,120}?)|__(?P<lines>[^_\n]{1,120}?))"
    rf"(?:\s*[:\uff1a](?:\*\*|__)\s*|(?:\*\*|__)\s*(?:[:\uff1a]\s*|[{_DASHES}]+\s+))(?=\S)"
)
_NO_PART = frozenset({"answer", "solution", "explanation", "rationale", "hint", "difficulty"})
_AROUND = "\"'*_\u201d\u00bb "
QUESTION_MARKS = ("?", "\uff1f", "\u061f", "\u037e")
# Greek asks with a semicolon, and writes that of ASCII.
_GREEK_QUESTION = re.compile(r"[\u0370-\u03ff]\s?;\Z")
_SENTENCE_END = re.compile(r"[.!?\u3002\uff01\uff1f\u061f\u037e;\u0964][\"'*_)\u201d\u00bb`]*\Z")
# A title is a line, and lines are wrapped where they are as long as this.
_WRAPPED_CHARACTERS = 60


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """A line; without a marker, `kind` is None and `text` the whole line."""

    text: str
    kind: Kind | None = None
    indent: int = 0
    number: int | None = None


def read_line(line: str) -> Line:
    """Return a line with its marker taken off, if it has one."""
    lead = _LEAD.match(line)
    assert lead is not None, "everything in it is optional"
    for kind, pattern in _MARKERS:
        match = pattern.match(line, lead.end())
        if match is None:
            continue
        text = _text(line, match.end(), kind, lead["bold"])
        if kind == "number" and text in (f"{match[1]}.", f"{match[1]})"):
            text = ""  # 1. 1. and the item below it
        return Line(text, kind, len(lead["indent"]), _number(kind, match[1]))
    return Line(line)


def _text(line: str, start: int, kind: Kind, bold: str | None) -> str:
    """Return what follows a marker; `bold` is the emphasis that began before it."""
    closed = _BOLD_TAIL.match(line, start) if bold else None
    tail = closed or (_TAIL.match(line, start) if kind == "number" else None)
    text = line[tail.end() if tail else start :].strip()
    return text.replace(bold, "", 1) if bold and not closed else text


def _number(kind: Kind, marker: str) -> int | None:
    match kind:
        case "number":
            return int(marker)
        case "letter":
            return ord(marker.lower()) - ord("a") + 1
        case "bullet":
            return None


def asks(text: str) -> bool:
    """Tell whether a text ends with a question."""
    plain = text.rstrip(_AROUND)
    return plain.endswith(QUESTION_MARKS) or _GREEK_QUESTION.search(plain) is not None


def ends_sentence(text: str) -> bool:
    """Tell whether a text ends as a sentence does."""
    return _SENTENCE_END.search(text) is not None


def title(item: str) -> str:
    """Return an item without its description, if its title is in bold: **Optics**: light."""
    match = _TITLED.match(item)
    shorter = (match["stars"] or match["lines"]) if match else item
    return shorter.rstrip("".join(COLONS)).strip() or item


def items(text: str) -> list[str]:
    """Return the titles of the outermost marked lines, with the lines that they are wrapped over.

    What else is below one describes it.
    """
    lines = read(text)
    return _collect(lines, frozenset(_starts(lines)))


def starts(text: str) -> list[tuple[int, Line]]:
    """Return the outermost marked lines, each with its place among the lines."""
    lines = read(text)
    return [(index, lines[index]) for index in _starts(lines)]


def _starts(lines: list[Line]) -> list[int]:
    marked = [line for line in lines if line.kind]
    if not marked:
        return []
    base = min(line.indent for line in marked) + 1
    outermost = [line for line in marked if line.indent <= base]
    has_numbers = any(line.kind != "bullet" for line in outermost)
    if not has_numbers and all(line.text.endswith(COLONS) for line in outermost):
        # Bulleted headings over numbered items.
        has_numbers = any(line.kind != "bullet" for line in marked)
    wanted = [line for line in marked if not (has_numbers and line.kind == "bullet")]
    return _choose(lines, min(line.indent for line in wanted) + 1, has_numbers)


def read(text: str) -> list[Line]:
    """Return the lines of a text.

    Letters number the items only from A on, and where nothing else does. Otherwise they are
    options below an item, if they are indented.
    """
    raw = text.split("\n")
    lines = [read_line(line) for line in raw]
    letters = [line.number for line in lines if line.kind == "letter"]
    margin = min((line.indent for line in lines if line.kind == "letter"), default=0)
    others = any(line.kind not in (None, "letter") and line.indent <= margin + 1 for line in lines)
    if letters and (others or letters[:2] != [1, 2]):
        return [
            line
            if line.kind != "letter"
            else Line(line.text, "bullet", line.indent)
            if line.indent
            else Line(whole)
            for whole, line in zip(raw, lines, strict=True)
        ]
    return lines


def _choose(lines: list[Line], depth: int, has_numbers: bool) -> list[int]:
    """Return the places of the marked lines that begin an item."""
    found: list[int] = []
    last: int | None = None  # number of the marked line before, if it began an item
    for index, line in enumerate(lines):
        if line.kind is None:
            continue
        is_item = not (has_numbers and line.kind == "bullet")
        # The first line of an indented list has often lost its indentation.
        is_second = len(found) == 1 and last is not None and line.number == last + 1
        is_item = is_item and (line.indent <= depth or is_second)
        if is_item:
            depth = max(depth, line.indent)
            found.append(index)
        last = line.number if is_item else None
    return found


def _collect(lines: list[Line], chosen: Collection[int]) -> list[str]:
    found: list[WrappedText] = []
    is_open = False
    for index, line in enumerate(lines):
        if index in chosen:
            found.append(WrappedText(line.text))
            is_open = True
        else:
            is_open = is_open and line.kind is None
            is_open = is_open and (not found[-1].length or _is_wrapped(found[-1], line.text))
            is_open = is_open and go_on(found[-1], line.text)
    return list(map(str, found))


def _is_wrapped(title: WrappedText, text: str) -> bool:
    """Tell whether a line goes on with the title above it, instead of describing it."""
    if not text.strip():
        return False
    is_long = title.length >= _WRAPPED_CHARACTERS and not ends_sentence(title.tail)
    return is_long or text.strip()[0].islower()


def _is_apart(item: WrappedText, text: str) -> bool:
    """Tell whether an indented line says something about an item instead of going on with it."""
    if text[:1] not in (" ", "\t") or not text.strip():
        return False
    if item.is_bold or _PART_NUMBER.match(text) or ASIDE.fullmatch(text):
        return True
    label = _LABEL.match(text)
    # What is below a question and has a name is no part of it; of a task it may well be.
    return label is not None and (asks(item.tail) or label[1].lower() in _NO_PART)


def go_on(item: WrappedText, text: str) -> bool:
    """Add an unmarked line to an item if it belongs to it; return whether the item stays open."""
    if not item.length:  # a heading, such as "Question 1": the item stands below it
        item.add(text.strip())
        return True
    if _is_apart(item, text):
        return False
    is_wrapped = text[:1].islower() and item.tail[-1:].isalnum()
    if (text[:1] in (" ", "\t") or is_wrapped) and text.strip():
        item.add(text.strip())
        return True
    return bool(text.strip())
