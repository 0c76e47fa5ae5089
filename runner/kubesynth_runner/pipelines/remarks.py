"""What a model says around the items of a list, and about them, that is no part of them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from kubesynth_runner.pipelines import marked_lines

_ITEMS = r"(?:questions?|problems?|tasks?|topics?|prompts?|exercises|versions|revisions|messages)"
_CLOSING = re.compile(
    r"[\W_]{0,8}(?:let me know|feel free|please let me|i hope|hope (?:this|these|that)\b"
    r"|is there anything|these cover\b|total: \d+\W*$|</?\w+>\W*$"
    r"|good luck|happy \w+!|enjoy\W*$|that(?:'s|\u2019s| is) (?:all|it)\b"
    rf"|(?:these|all|each of these|the above)\b[\w ]{{0,20}}\b{_ITEMS}\b"
    r"|(?:would you like|do you want)\b.*\b(?:me|more|another|further)\b"
    r"|(?:can|shall|should|may) i\b.*\b(?:help|else|more|adjust|provide)\b"
    r"|if you(?: need| want| would like|'d like|\u2019d like| have)\b"
    r".*\b(?:more|let me|help|tell me)\b"
    r"|i (?:can|could|would be happy to|'d be happy to)\b.*\b(?:more|adjust|answers|if you)\b)",
    re.IGNORECASE,
)
_OPENING = re.compile(
    r"[\W_]{0,8}(?:here (?:are|is)\b|sure\b|certainly\b|of course\b|absolutely\b|okay\b|ok\b)", re.I
)
_ANSWER_WORDS = (
    *("answers?", "solutions?", "correct", "explanation", "rationale"),
    *("antwort(?:en)?", "lösung(?:en)?", "erklärung", "r[eé]ponses?", "explication"),
    *("respuestas?", "soluci[oó]n(?:es)?", "explicaci[oó]n", "respostas?"),
    *("solução", "rispost[ae]", "soluzion[ei]", "antwoord(?:en)?", "svar", "vastaus"),
    *("odpowiedź", "odpověď", "cevap", "jawaban", "jibu", "đáp án"),
    *(
        "trả lời",
        "ответ",
        "решение",
    ),
    *(
        "відповідь",
        "απάντηση",
    ),
    *(
        "答案",
        "答",
        "回答",
        "解答",
        "答え",
        "답",
        "답변",
        "정답",
    ),
    *(
        "الجواب",
        "الإجابة",
        "उत्तर",
    ),
)
# The right one: before the word, or behind it.
_RIGHT_BEFORE = (
    *("correct", "expected", "sample", "model", "possible", "suggested", "final", "right"),
    *("richtige", "korrekte", "bonne", "juiste", "rätt", "poprawna", "správná", "doğru"),
    *("правильный", "верный"),
)
_RIGHT_BEHIND = ("correcta", "corretta", "correta", "correcte", "exacte", "juste", "benar")
_BEFORE = r"\s*(?:[-*+\u2022][ \t]+)?[*_#\s]{0,8}"
_ANSWER = re.compile(
    rf"{_BEFORE}(?:(?:{'|'.join(_RIGHT_BEFORE)}) )?(?:{'|'.join(_ANSWER_WORDS)})"
    rf"(?: (?:{'|'.join(_RIGHT_BEHIND)}))?(?:[*_\s]{{0,4}}[:\uff1a]|[*_\s]*$)",
    re.IGNORECASE,
)
_ABOUT = re.compile(rf"{_BEFORE}(?:difficulty|hint)s?[*_\s]{{0,4}}[:\uff1a]", re.IGNORECASE)
_LABEL = re.compile(
    rf"{_BEFORE}([^\W\d_][^\s\d:\uff1a*_]{{1,19}})[*_]{{0,3}}[:\uff1a][*_]{{0,3}}\s"
)
# Below a question these are part of it; other labels of one word give the answer away.
_PARTS = frozenset(
    (
        *("input", "output", "example", "examples", "note", "given", "code"),
        *("data", "options", "choices", "table", "function", "context", "text"),
        *("constraints", "requirements", "where"),
    )
)
_A = re.compile(
    r"\s*(?:\*\*)?a(?:\d{0,3}(?:\*\*)?[:\uff1a]|\d{1,3}[.)](?:\*\*)?(?=\s))", re.IGNORECASE
)
_IN_BRACKETS = re.compile(
    rf"[(\[]\s*[*_]{{0,3}}(?:{'|'.join(_ANSWER_WORDS)})[*_\s]{{0,4}}[:\uff1a]"
    r"[^()\[\]\n]*[)\]]\s*\Z",
    re.IGNORECASE,
)
# Code stands below it.
_A_ALONE = re.compile(r"\s*(?:\*\*)?a(?:\*\*)?[:\uff1a](?:\*\*)?\s*\Z", re.IGNORECASE)
_THE_ANSWER = re.compile(r"\s*the (?:(?:correct|right|final) )?answers? (?:is|are)\b", re.I)
_B = re.compile(r"\s*(?:\*\*)?b(?:\*\*)?[:\uff1a]", re.IGNORECASE)
_AROUND = "\"'*_\u201d\u00bb "


def without_answers(head: str, body: Sequence[str]) -> list[str]:
    """Return the lines below an item as far as they do not answer it."""
    is_question = has_asked = head.rstrip(_AROUND).endswith(marked_lines.QUESTION_MARKS)
    has_options = any(_B.match(line) for line in body)
    found: list[str] = []
    has_text = False
    for line in body:
        is_answer = (_A if is_question else _A_ALONE).match(line) is not None
        if (is_answer and not has_options) or (has_asked and _THE_ANSWER.match(line)):
            break
        has_asked = has_asked or line.rstrip(_AROUND).endswith(marked_lines.QUESTION_MARKS)
        label = _LABEL.match(line) if is_question and not has_text else None
        if _ANSWER.match(line) or (label is not None and label[1].lower() not in _PARTS):
            break
        if not _ABOUT.match(line):
            found.append(line)
            has_text = has_text or line.strip() != ""
    return found


def without_given_answer(item: str) -> str:
    """Return an item without its answer in brackets at its end: Who built it? (Answer: Ann)."""
    answer = _IN_BRACKETS.search(item)
    shorter = item[: answer.start()].rstrip() if answer else ""
    return shorter or item


def without_asides(bodies: Sequence[list[str]]) -> list[list[str]]:
    """Return the lines below items without the last ones, if all of them are about the items.

    *(Tests recall.)* below one problem may be a part of it; below each it is none.
    """
    last = [next((line for line in reversed(body) if line.strip()), "") for body in bodies]
    if len(bodies) < 2 or not all(map(marked_lines.ASIDE.fullmatch, last)):
        return list(bodies)
    return [
        body[: max(index for index, line in enumerate(body) if line.strip())] for body in bodies
    ]


def without_closing(lines: Sequence[str]) -> list[str]:
    """Return lines without the model's closing words."""
    found = list(lines)
    while found:
        last = found[-1]
        if last.strip() and not _CLOSING.match(last) and last.strip("-*_=. "):
            break
        found.pop()
    return found


def without_opening(lines: Sequence[str], expected: int | None) -> list[str]:
    """Return lines without the one that announces them."""
    found = list(itertools.dropwhile(lambda line: not line.strip("-*_= "), lines))
    if len([line for line in found if line.strip()]) < 2:
        return found
    is_apart = not found[1].strip()
    has_colon = found[0].rstrip("*_ ").endswith(marked_lines.COLONS)
    is_one = expected == 1 and not is_apart and not _OPENING.match(found[0])
    ends = is_apart or has_colon or found[0].rstrip().endswith("!")
    if (has_colon and not is_one) or (_OPENING.match(found[0]) and ends):
        return found[1:]
    return found
