"""Marked lines at every depth: what a list within a list says is worth as much as the list."""

from __future__ import annotations

import dataclasses
import re

from kubesynth_runner.pipelines import marked_lines
from kubesynth_runner.pipelines.wrapped_text import WrappedText

# 1.1 or 1.1.2, below an item.
_PART_NUMBER = re.compile(
    r"(?P<indent>[ \t]*)(?P<of>\d{1,3})(?:\.\d{1,3}){1,3}[.)]?\s+(?P<text>\S.*)"
)
_PART_INDENT = 4
# A heading, or a line that is bold as a whole, behind any marker.
_DECORATED = re.compile(
    r"[ \t>]*(?:#{1,6}[ \t]|(?:[-*+\u2022][ \t]+|\d{1,3}[.)][ \t]+)?(\*\*|__).*\1:?\s*\Z)"
)
_TITLE = re.compile(r"(\*\*|__)(?!.*\1.*\1).+\1")


@dataclasses.dataclass(slots=True)
class _Item:
    line: marked_lines.Line
    text: WrappedText
    is_parent: bool = False
    is_head: bool = False


def items(text: str) -> list[str]:
    """Return the texts of all marked lines, with the lines that continue them.

    A line that only heads the ones below it (`Architecture:`) is left out; one that says something
    itself is kept beside them. Below a title sentences need no marks.
    """
    found = _read(_with_sentences_marked(text))
    return [str(item.text) for item in found if not (item.is_parent and item.is_head)]


def below(text: str) -> list[str]:
    """Return the texts of the lines below the outermost ones, where all of these are only heads."""
    found = _read(text)
    outer = [item for item in found if _is_beside(found[0].line, item.line)]
    if any(not item.is_parent or marked_lines.ends_sentence(item.text.tail) for item in outer):
        return []
    return [str(item.text) for item in found if not _is_beside(found[0].line, item.line)]


def _read(text: str) -> list[_Item]:
    found: list[_Item] = []
    is_open = False
    number: int | None = None
    for read in marked_lines.read(text):
        line = _part(read, number)
        number = read.number if read.kind == "number" else number
        if line.kind is None:
            is_open = is_open and marked_lines.go_on(found[-1].text, line.text)
            continue
        item = _Item(line, WrappedText(line.text))
        if found and _is_below(found[-1].line, line):
            found[-1].is_parent = True
            found[-1].is_head = _heads(str(found[-1].text), line.text)
        found.append(item)
        is_open = True
    return found


def _part(line: marked_lines.Line, number: int | None) -> marked_lines.Line:
    """Return a line that has a number of its own below an item as a marked one: 1.1 below 1."""
    match = None if line.kind else _PART_NUMBER.match(line.text)
    if match is None or (not match["indent"] and int(match["of"]) != number):
        return line
    indent = len(match["indent"]) or _PART_INDENT
    return marked_lines.Line(match["text"].strip(), "number", indent)


def _with_sentences_marked(text: str) -> str:
    """Return a text in which the sentences below titles are bullets.

    Those behind the last one may be about the list: it has no more paragraphs than the others.
    """
    raw = text.split("\n")
    begins = marked_lines.starts(text)
    if not begins:
        return text
    ends = [index for index, _ in begins[1:]] + [len(raw)]
    most = 0
    for (index, line), end in zip(begins, ends, strict=True):
        below = raw[index + 1 : end]
        if not _is_title(raw[index], line) or any(map(_is_marked, below)):
            continue
        is_last = len(begins) > 1 and end == len(raw)
        raw[index + 1 : end], paragraphs = _bulleted(below, most if is_last else len(below))
        most = max(most, paragraphs)
    return "\n".join(raw)


def _is_title(raw: str, line: marked_lines.Line) -> bool:
    """Tell whether a line is a heading, or bold as a whole, and no sentence."""
    is_sentence = marked_lines.ends_sentence(line.text)
    return line.text != "" and not is_sentence and _DECORATED.match(raw) is not None


def _bulleted(lines: list[str], most: int) -> tuple[list[str], int]:
    """Return lines with the sentences of the first `most` paragraphs as bullets.

    And how many paragraphs there are.
    """
    found: list[str] = []
    paragraphs = 0
    before = ""
    for line in lines:
        is_text = line.strip("-*_= \t") != ""
        paragraphs += is_text and not before
        goes_on = before != "" and not marked_lines.ends_sentence(before)
        before = line.strip()
        is_bullet = is_text and paragraphs <= most
        found.append(("      " if goes_on else "    - ") + before if is_bullet else line)
    return found, paragraphs


def _is_marked(line: str) -> bool:
    return marked_lines.read_line(line).kind is not None or _PART_NUMBER.match(line) is not None


def _is_beside(first: marked_lines.Line, line: marked_lines.Line) -> bool:
    return line.kind == first.kind and line.indent <= first.indent + 1


def _is_below(before: marked_lines.Line, line: marked_lines.Line) -> bool:
    if before.number is not None and line.number == before.number + 1:
        return False  # the first line of an indented list has often lost its indentation
    is_deeper = line.indent > before.indent + 1
    is_bullet_of_number = before.kind != "bullet" and line.kind == "bullet"
    return is_deeper or (is_bullet_of_number and line.indent >= before.indent)


def _heads(text: str, below: str) -> bool:
    """Tell whether a line is no statement of its own, but says what those below are about."""
    plain = text.rstrip("*_ ")
    if not plain or plain.endswith(marked_lines.COLONS):
        return True
    if marked_lines.ends_sentence(text):
        return False
    return _TITLE.fullmatch(text) is not None or marked_lines.ends_sentence(below)
