"""Whole items of a list: problems, tasks and revisions, with all that belongs to them.

A topic is a title, below which a description may follow. These go on to the next marker:
paragraphs, code, formulas, tables and options are part of them. Left out is what
stands before the first item, between groups of them and behind the last one, and their answers.
"""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Sequence

from kubesynth_runner.pipelines import code_blocks, marked_lines, remarks
from kubesynth_runner.pipelines.marked_lines import asks

_DECORATED = re.compile(r"[ \t>]*(?:#{1,6}[ \t]|\*\*|__)")
_RULE = re.compile(r"[ \t]*(?:-{3,}|\*{3,}|_{3,}|={3,})[ \t]*")
_HEADING = re.compile(r"#{1,6}[ \t]+\S")
_BOLD = re.compile(r"\s*(\*\*|__)(?!.*\1.*\1).+\1:?\s*")
_QUOTE = re.compile(r"[ \t]*>[ \t]?")
# A sentence that goes on; code has other characters.
_WORDS = re.compile(r"[\w\s,.;:'\"\u2019?!-]+")
_SHAPES = ("|", "$", "\\")
_MOST_REMARK_LINES = 2
_EXCLAMATIONS = ("!", "\uff01")
_FEW_WORDS = 5


def items(text: str) -> list[str]:
    """Return the items that marked lines begin, each to the next one, line breaks and all."""
    raw = text.split("\n")
    begins = _begins(text, raw)
    if not begins:
        return []
    ends = [index for index, _ in begins[1:]] + [len(raw)]
    heads: list[str] = []
    bodies: list[list[str]] = []
    for (index, line), end in zip(begins, ends, strict=True):
        body = raw[index + 1 : end]
        if _QUOTE.match(raw[index]):
            body = [_QUOTE.sub("", below) for below in body]
        heads.append(line.text)
        bodies.append(_trimmed(line.text, remarks.without_answers(line.text, body)))
    bodies[-1] = _without_remark(heads, bodies)
    bodies = remarks.without_asides(bodies)
    return [_joined(head, body) for head, body in zip(heads, bodies, strict=True)]


def _begins(text: str, raw: Sequence[str]) -> list[tuple[int, marked_lines.Line]]:
    """Return the lines that begin an item.

    Where headings or bold lines number the items, other numbers below them are steps or options.
    """
    found = marked_lines.starts(text)
    numbered = [
        (index, line)
        for index, line in enumerate(marked_lines.read(text))
        if line.kind == "number" and _DECORATED.match(raw[index])
    ]
    numbers = [line.number or 0 for _, line in numbered]
    in_order = all(after == before + 1 for before, after in itertools.pairwise(numbers))
    if len(numbered) > 1 and in_order and found and numbered[0][0] == found[0][0]:
        return numbered
    return found


def _trimmed(head: str, body: list[str]) -> list[str]:
    """Return an item's lines without the heading of the next group below them."""
    body = list(body)
    first = _blanks(body)
    while body:
        last = body[-1]
        is_apart = len(body) == 1 or not body[-2].strip()
        is_title = _HEADING.match(last) or (
            is_apart and (_BOLD.fullmatch(last) or _is_caption(last))
        )
        has_more = head or first < len(body) - 1
        if last.strip() and not _RULE.fullmatch(last) and not (is_title and has_more):
            break
        body.pop()
    return body if head else body[_blanks(body, _RULE) :]


def _blanks(lines: Sequence[str], more: re.Pattern[str] | None = None) -> int:
    """Return how many lines at the beginning are blank, or like `more`."""
    is_blank = (not line.strip() or (more and more.fullmatch(line)) for line in lines)
    return sum(1 for _ in itertools.takewhile(bool, is_blank))


def _is_caption(line: str) -> bool:
    """Tell whether a line names what follows: Hard questions:."""
    ends = line.rstrip().endswith(marked_lines.COLONS)
    return line[:1].strip() != "" and ends and len(line.split()) < 8


def _without_remark(heads: Sequence[str], bodies: Sequence[list[str]]) -> list[str]:
    """Return the last item's lines without what the model says behind the list.

    Words tell in English. In other languages the shape does: lines at the margin, below an item
    that is complete without them, where no other item has such lines.
    """
    *others, body = bodies
    body = remarks.without_closing(body)
    if others and _is_exclamation(body) and not any(map(_is_exclamation, others)):
        return body[:-1]
    cut = len(body)
    while cut and _is_prose(body[cut - 1]):
        cut -= 1
    own, tail = [line for line in body[:cut] if line.strip()], body[cut:]
    has_own = any(line[:1].strip() for other in (*others, own) for line in other)
    if not others or not tail or len(tail) > _MOST_REMARK_LINES or has_own:
        return body
    if own or not body[0].strip() or _RULE.fullmatch(body[0]):
        asks_as_others = asks(tail[-1]) and not asks(heads[-1]) and any(map(asks, heads[:-1]))
        is_remark = bool(own) or (_is_complete(heads) and not asks_as_others)
    else:  # directly below a question: if it asks, too, it goes on; names are not exclaimed at
        is_apart = asks(heads[-1]) and not asks(tail[-1])
        is_apart = is_apart or (
            tail[-1].endswith(_EXCLAMATIONS) and not any(map(marked_lines.ends_sentence, heads))
        )
        is_remark = is_apart and not any(map(bool, others))
    return body[:cut] if is_remark else body


def _is_exclamation(body: list[str]) -> bool:
    """Tell whether lines end with some words to the reader, as they do in letters, too."""
    *before, last = body or [""]
    is_apart = bool(before) and not before[-1].strip() and last[:1].strip() != ""
    return is_apart and last.endswith(_EXCLAMATIONS) and len(last.split()) <= _FEW_WORDS


def _is_prose(line: str) -> bool:
    return bool(line[:1].strip()) and not (
        line.startswith(_SHAPES) or code_blocks.count(line) or _RULE.fullmatch(line)
    )


def _is_complete(heads: Sequence[str]) -> bool:
    """Tell whether the last item needs no text below it: a sentence, or a name among names."""
    *others, last = map(marked_lines.ends_sentence, heads)
    are_bold = [_BOLD.fullmatch(head) is not None for head in heads]
    is_title = (are_bold[-1] and not all(are_bold)) or heads[-1].endswith(marked_lines.COLONS)
    return last or not (is_title or any(others))


def _joined(head: str, body: list[str]) -> str:
    lines = [[head]] if head else []  # each in the pieces that it is wrapped over
    for line in textwrap.dedent("\n".join(body)).split("\n") if body else []:
        if lines and _is_wrapped(lines[-1][-1], line):
            lines[-1][-1] = lines[-1][-1].rstrip()
            lines[-1].append(line.strip())
        else:
            lines.append([line.rstrip()])
    text = "\n".join(map(" ".join, lines))
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n")


def _is_wrapped(before: str, line: str) -> bool:
    """Tell whether a line goes on with the sentence of the one before."""
    return (
        line.strip()[:1].islower()
        and marked_lines.read_line(line).kind is None
        and before.rstrip()[-1:].isalnum()
        and _WORDS.fullmatch(line) is not None
        and _WORDS.fullmatch(before) is not None
    )


def of_lines(text: str, expected: int | None) -> list[str]:
    """Return items that nothing marks: sections, paragraphs, or lines."""
    lines = remarks.without_closing(remarks.without_opening(text.split("\n"), expected))
    sections = _sections(lines) or _ruled(lines, expected)
    if sections:
        return sections
    paragraphs = _with_code(_paragraphs(lines))
    plain = [line.strip() for paragraph in paragraphs for line in paragraph]
    are_questions = all(line.endswith(marked_lines.QUESTION_MARKS) for line in plain)
    texts = [_joined("", paragraph) for paragraph in paragraphs]
    if expected == 1 and plain and not are_questions:
        return ["\n\n".join(texts)]
    has_code = code_blocks.count(text) > 0
    if len(plain) != expected and (has_code or (len(texts) > 1 and not are_questions)):
        is_many = any(len(paragraph) > 1 for paragraph in paragraphs)
        if has_code or len(texts) == expected or (is_many and len(texts) <= (expected or 99)):
            return texts if len(texts) > 1 else []
    return _questions(plain, expected)


def _questions(lines: list[str], expected: int | None) -> list[str]:
    """Return lines; if they are questions for the most part, without remarks around them."""
    asks = [line.rstrip("\"'*_, ").endswith(marked_lines.QUESTION_MARKS) for line in lines]
    if len(lines) != expected and 2 * sum(asks) >= len(lines) and any(asks):
        lines = lines[asks.index(True) : len(asks) - asks[::-1].index(True)]
    elif len(lines) > 1 and all(line.endswith(",") for line in lines[:-1]):
        lines = [line.removesuffix(",") for line in lines]
    return lines if len(lines) > 1 or expected == 1 or any(asks) else []


def _sections(lines: list[str]) -> list[str]:
    """Return what stands below headings, or bold lines, of one depth, each with its heading."""
    for pattern in (_HEADING, _BOLD):
        places = [index for index, line in enumerate(lines) if pattern.match(line)]
        if pattern is _BOLD:
            places = [index for index in places if _BOLD.fullmatch(lines[index])]
        depth = max((_depth(lines[index]) for index in places), default=0)
        places = [index for index in places if _depth(lines[index]) == depth]
        if len(places) < 2:
            continue
        ends = [*places[1:], len(lines)]
        return [
            _joined(
                lines[start].strip("# "),
                _trimmed("x", remarks.without_answers("", lines[start + 1 : end])),
            )
            for start, end in zip(places, ends, strict=True)
        ]
    return []


def _ruled(lines: list[str], expected: int | None) -> list[str]:
    """Return what stands between rules, if that is as much as was asked for."""
    places = [index for index, line in enumerate(lines) if _RULE.fullmatch(line)]
    parts = [lines[a + 1 : b] for a, b in itertools.pairwise([-1, *places, len(lines)])]
    texts = [text for part in parts if (text := _joined("", part).strip())]
    return texts if len(texts) > 1 and len(texts) == expected else []


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip("#"))


def _paragraphs(lines: Sequence[str]) -> list[list[str]]:
    found: list[list[str]] = [[]]
    for line in lines:
        if line.strip() and not _RULE.fullmatch(line):
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return [paragraph for paragraph in found if paragraph]


def _with_code(paragraphs: list[list[str]]) -> list[list[str]]:
    """Return paragraphs, code that is one of its own joined to the one before it."""
    found: list[list[str]] = []
    for paragraph in paragraphs:
        if found and code_blocks.count(paragraph[0]):
            found[-1].extend(paragraph)
        else:
            found.append(paragraph)
    return found
