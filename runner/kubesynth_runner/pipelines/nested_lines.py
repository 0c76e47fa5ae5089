"""Marked lines at every depth: what a list within a list says is worth as much as the list."""

from __future__ import annotations

import dataclasses
import re

from kubesynth_runner.pipelines import marked_lines

# 1.1 or 1.1.2, below an item.
_PART_NUMBER = re.compile(r"(?P<indent>[ \t]+)\d{1,3}(?:\.\d{1,3}){1,3}[.)]?\s+(?P<text>\S.*)")
_TITLE = re.compile(r"(\*\*|__)(?!.*\1.*\1).+\1")
_SENTENCE_END = re.compile(r"[.!?\u3002\uff01\uff1f\u061f\u0964][\"'*_)\u201d\u00bb]*\Z")


@dataclasses.dataclass(slots=True)
class _Item:
    line: marked_lines.Line
    text: str
    is_parent: bool = False
    is_head: bool = False


def items(text: str) -> list[str]:
    """Return the texts of all marked lines, with the lines that continue them.

    A line that only heads the ones below it (`Architecture:`) is left out; one that says something
    itself is kept beside them.
    """
    found: list[_Item] = []
    is_open = False
    for line in map(_part, marked_lines.read(text)):
        if line.kind is None:
            texts = [found[-1].text] if found else []
            is_open = is_open and marked_lines.go_on(texts, line.text)
            if texts:
                found[-1].text = texts[0]
            continue
        item = _Item(line, line.text)
        if found and _is_below(found[-1].line, line):
            found[-1].is_parent = True
            found[-1].is_head = _heads(found[-1].text, line.text)
        found.append(item)
        is_open = True
    return [item.text for item in found if not (item.is_parent and item.is_head)]


def _part(line: marked_lines.Line) -> marked_lines.Line:
    match = None if line.kind else _PART_NUMBER.match(line.text)
    if match is None:
        return line
    return marked_lines.Line(match["text"].strip(), "number", len(match["indent"]))


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
    if _SENTENCE_END.search(text):
        return False
    return _TITLE.fullmatch(text) is not None or _SENTENCE_END.search(below) is not None
