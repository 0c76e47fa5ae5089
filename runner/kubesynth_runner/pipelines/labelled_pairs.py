"""Questions with their answers out of lines with labels, in any language, and out of tables."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import re
from collections.abc import Sequence

from kubesynth_runner.pipelines import lists, marked_lines

Pair = tuple[str, str]

# The beginning of a line, behind any list marker or emphasis.
_START = r"^[ \t>#*_\-+\u2022]{0,12}+(?:\(?\d{1,3}[.):][ \t]{0,4})?[*_]{0,3}"
_NUMBER = r"[ \t]{0,4}#?\d{0,3}[*_ \t]{0,6}"
_AFTER = r"[ \t]{0,8}[*_]{0,3}[ \t]{0,8}"
_LABEL = re.compile(
    # Q, Question 3, **Answer** with a colon; Q1. and A1); Answer with nothing else on its line.
    rf"(?:{_START}(?:(?P<line>question|answer|q|a){_NUMBER}[:\uff1a]"
    r"|(?P<numbered>question[ \t]|answer[ \t]|q|a)#?\d{1,3}[.)](?=[ \t])"
    rf"|(?P<alone>question|answer){_NUMBER}$)"
    # Within a line only the full word, where a sentence begins or as a word of its own: "Is the
    # answer: yes or no?" is one question.
    r"|(?:(?<=\s)[*_]{0,3}(?P<capital>(?-i:A(?:nswer|NSWER)))"
    r"|(?<=[.?!\uff1f]\s)[*_]{0,3}(?P<inside>answer))"
    rf"{_NUMBER}[:\uff1a]){_AFTER}",
    re.IGNORECASE | re.MULTILINE,
)
_NOT_IN_LABEL = r"\n:\uff1a.?!,;|\uff1f\u3002\u061f"
# A few words before a colon, or a heading, in any language.
_ANY_LABEL = re.compile(
    rf"(?:{_START}(?P<line>[^\W\d_][^{_NOT_IN_LABEL}]{{0,20}}?){_NUMBER}[:\uff1a]"
    r"|^[ \t]{0,3}(?:#{1,6}[ \t]{1,4}[*_]{0,3}|\*\*|__)"
    rf"(?P<alone>[^\W\d_][^{_NOT_IN_LABEL}*_]{{0,20}}?){_NUMBER}$){_AFTER}",
    re.MULTILINE,
)
_SECOND_OPTION = re.compile(
    r"^[ \t>*_\-+\u2022]{0,12}\(?b[*_]{0,3}[ \t]{0,4}[:\uff1a.)]", re.IGNORECASE | re.MULTILINE
)
_OPTIONS = frozenset("abcdef")
_MOST_LABELS = 8
_NUMBERED = re.compile(r"[ \t>#*_]{0,8}\(?\d{1,3}[.):][ \t]+")
_MARKER = re.compile(r"[ \t>#*_\-+\u2022]{0,12}(?:\(?\d{1,3}[.):](?=\s))?[*_\s]{0,8}")
_TRAILER = re.compile(
    r"(?:\n[ \t]{0,8}(?:[-*_]{3,9}|[#>*\-+\u2022]{0,4}[ \t]{0,4}\d{1,3}[.)]|[-*+])"
    r"[ \t\n]{0,8}){1,4}\Z"
)
_RULED = re.compile(r"\|?[ \t:\-]{2,}\|[ \t:\-|]*")
_CELL = re.compile(r"(?<!\\)\|")


@dataclasses.dataclass(frozen=True, slots=True)
class _Mark:
    """A label in a text: what it is, and where it and what it is for begin.

    With `is_word` it is written out; an A alone may be short for the word of another language.
    """

    key: str
    start: int
    end: int
    is_word: bool = True


def find(text: str) -> list[Pair]:
    """Return the questions of a text with their answers, in order.

    English labels are known. Else two labels that take turns are those of questions and answers,
    whatever the language; answers with a label may stand below numbered questions without one.
    """
    english = _english(text)
    full = [mark for mark in english if mark.key == "answer" and mark.is_word]
    marks = _of_any_language(text)
    return (
        _between(text, english, "question", "answer")
        or _of_table(text)
        or (_below_questions(text, full) if not any(m.key == "question" for m in english) else [])
        or _alternating(text, marks)
        or _below_questions(text, _repeated(marks))
    )


def _english(text: str) -> list[_Mark]:
    """Return the marks of questions and answers; those of an option A are none."""
    found = list(_LABEL.finditer(text))
    marks = []
    for index, match in enumerate(found):
        label = next(group for group in match.groups() if group).strip().lower()
        end = found[index + 1].start() if index + 1 < len(found) else len(text)
        if label == "a" and match["line"] and _SECOND_OPTION.search(text, match.end(), end):
            continue
        key = "question" if label.startswith("q") else "answer"
        marks.append(_Mark(key, match.start(), match.end(), len(label) > 1))
    return marks


def _of_any_language(text: str) -> list[_Mark]:
    marks = []
    for match in _ANY_LABEL.finditer(text):
        key = lists.fold(match["line"] or match["alone"])
        marks.append(_Mark(re.sub(r"[\W\d_]+\Z", "", key) or key, match.start(), match.end()))
    keys = {mark.key for mark in marks}
    if {"a", "b"} <= keys:
        marks = [mark for mark in marks if mark.key not in _OPTIONS]
    return marks


def _between(text: str, marks: Sequence[_Mark], question: str, answer: str) -> list[Pair]:
    """Return the pairs of bodies of two labels; a question without an answer is none."""
    pairs, asked = [], ""
    for index, mark in enumerate(marks):
        end = marks[index + 1].start if index + 1 < len(marks) else len(text)
        body = _clean(text[mark.end : end], is_last=index + 1 == len(marks))
        if mark.key == question:
            asked = body
        elif mark.key == answer and asked and body:
            pairs.append((asked, body))
            asked = ""
    return pairs


def _alternating(text: str, marks: Sequence[_Mark]) -> list[Pair]:
    """Return the pairs of the two labels that take turns most often.

    Where several do, those that follow each other. If they do so only once, the first is that of
    a question only if it asks something.
    """
    counts = collections.Counter(mark.key for mark in marks)
    often = {key for key, _ in counts.most_common(_MOST_LABELS)}
    order = [key for key in counts if key in often]
    follow = collections.Counter(itertools.pairwise(mark.key for mark in marks))
    best: list[Pair] = []
    rank = (0, 0, 0)
    for question, answer in itertools.permutations(order, 2):
        turns = [mark for mark in marks if mark.key in (question, answer)]
        if any(m.key != (question, answer)[n % 2] for n, m in enumerate(turns)):
            continue
        pairs = _between(text, turns, question, answer)
        asking = sum(_asks(asked) for asked, _ in pairs)
        found = (len(pairs), asking, follow[question, answer])
        if found > rank and (asking or len(pairs) > 1):
            best, rank = pairs, found
    return best


def _repeated(marks: Sequence[_Mark]) -> list[_Mark]:
    """Return the marks of the label that comes most often, if it comes again."""
    counts = collections.Counter(mark.key for mark in marks)
    for key, count in counts.most_common(1):
        if count > 1:
            return [mark for mark in marks if mark.key == key]
    return []


def _below_questions(text: str, answers: Sequence[_Mark]) -> list[Pair]:
    """Return the pairs of answers with labels and what is asked above each of them."""
    pairs = []
    start, asked = 0, ""
    for mark in answers:
        body, following = _split_question(text[start : mark.start])
        if asked and _clean(body, is_last=False):
            pairs.append((asked, _clean(body, is_last=False)))
        asked = _clean(_MARKER.sub("", following, count=1), is_last=False)
        asked = asked if _asks(asked) else ""
        start = mark.end
    body = _clean(text[start:], is_last=True)
    return [*pairs, (asked, body)] if asked and body else pairs


def _split_question(text: str) -> tuple[str, str]:
    """Return the end of an answer and the question below it: numbered, a paragraph, or a line."""
    lines = text.rstrip().split("\n")
    numbered = [n for n, line in enumerate(lines) if _NUMBERED.match(line)]
    blank = [n + 1 for n, line in enumerate(lines) if not line.strip()]
    at = (numbered or blank or [len(lines) - 1])[-1]
    return "\n".join(lines[:at]), "\n".join(lines[at:])


def _of_table(text: str) -> list[Pair]:
    """Return the pairs of a Markdown table: what is asked in a column, and the one behind it."""
    lines = [line.strip() for line in text.split("\n")]
    rules = [n for n, line in enumerate(lines) if _RULED.fullmatch(line)]
    if not rules:
        return []
    rows = []
    for line in itertools.takewhile(lambda line: "|" in line, lines[rules[0] + 1 :]):
        cells = _CELL.split(line.removeprefix("|").removesuffix("|"))
        rows.append([lists.clean(cell.replace("\\|", "|")) for cell in cells])
    width = min(map(len, rows), default=0)
    asking = [sum(_asks(row[n]) for row in rows) for n in range(width)]
    if width < 2 or not any(asking[:-1]):
        return []
    at = asking.index(max(asking[:-1]))
    return [(row[at], row[at + 1]) for row in rows if row[at] and row[at + 1]]


def _asks(text: str) -> bool:
    return any(mark in text for mark in marked_lines.QUESTION_MARKS)


def _clean(body: str, *, is_last: bool) -> str:
    body = _TRAILER.sub("", body.rstrip()).strip()
    if is_last:
        body = body.split("\n\n")[0]  # what follows after a blank line is a closing remark
    for mark in ("**", "__"):
        if body.count(mark) % 2:
            body = body.removeprefix(mark) if body.startswith(mark) else body.removesuffix(mark)
    return lists.clean(body) if "\n" not in body else body.strip()
