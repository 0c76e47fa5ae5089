"""Lists in forms that are not plain marked lines, rewritten as lines that are.

Each form is only believed where at least two lines have it, in order where it counts.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence

_THINKING = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_TOKENS = re.compile(r"</s>|<\|(?:im_end|eot_id|end|endoftext|end_of_text)\|>|<end_of_turn>")
_INVISIBLE = re.compile("[\u200b\u200e\u200f\u2060\ufeff]")
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_TILDES = re.compile(r"^~~~", re.MULTILINE)
_ENTITY = re.compile(r"&(quot|apos|amp|#39);")
_CHARACTERS = {"quot": '"', "apos": "'", "amp": "&", "#39": "'"}
_CHECKBOX = re.compile(r"^([ \t]{0,12}[-*+] )\[[ xX]\] ", re.MULTILINE)

_LEAD = r"^(?P<lead>[ \t>#]{0,12}(?:[-*+][ \t]+)?)(?P<bold>\*\*|__)?[\u3010\[(]?"
_CLOSE = r"(?:\*\*|__)?[\u3011\])]?(?:\*\*|__)?[ \t]*"
# Frage 1: ..., **Task 2:** ..., ### Exercise 3
_WORD_NUMBER = re.compile(
    _LEAD + r"(?P<word>[^\W\d_][^\s\d:\uff1a*_#|.,]{0,30}(?: [^\s\d:\uff1a*_#|.,]{1,20})?)"
    r"[ \t]*(?:#|[Nn][or]\. ?)?(?P<number>\d{1,3})"
    r"(?:[ \t]*\([^()\n\d]{1,60}\)(?=[:*_]))?(?:\*\*|__)?"
    r"[\u3011\])]?[ \t]*(?:[:.\uff1a)\u3000\u2013\u2014-]|(?=\*\*|__|$)|(?<=\u3011))(?:\*\*|__)?"
    r"[ \t]*(?P<rest>.*)$",
    re.MULTILINE,
)
_WORD = re.compile(
    _LEAD + r"(?P<word>[^\W\d_]{1,20})(?:\*\*)?[:\uff1a](?:\*\*)?[ \t]+(?P<rest>\S.*)$", re.M
)
# - 1. one, * **2.** two, * **3. three**
_BULLET_NUMBER = re.compile(
    r"^(?P<lead>[ \t]*[-*+\u2022][ \t]+)(?P<bold>\*\*|__)?(?P<number>\d{1,3})[.)]"
    r"(?P<closed>\*\*|__)?[ \t]+(?P<rest>\S.*)$",
    re.MULTILINE,
)
# What an item is called before a colon: Question: ...
ASKING = frozenset(
    (
        *("q", "question", "prompt", "task", "topic", "item", "fact", "problem", "exercise"),
        *("frage", "aufgabe", "thema", "problème", "exercice", "sujet", "fait", "pregunta"),
        *("problema", "ejercicio", "tema", "pergunta", "exercício", "domanda", "esercizio"),
        *("argomento", "vraag", "opgave", "fråga", "uppgift", "spørgsmål", "spørsmål"),
        *("kysymys", "tehtävä", "pytanie", "zadanie", "otázka", "úloha", "soru", "câu hỏi"),
        *("pertanyaan", "soal", "swali", "вопрос", "задача", "питання", "запитання", "ερώτηση"),
        *("问题", "問題", "题目", "題目", "问", "問", "質問", "질문", "문제", "سؤال", "السؤال"),
        *("پرسش", "שאלה", "प्रश्न", "প্রশ্ন", "คำถาม"),
    )
)
LABEL = re.compile(
    r"\s*[*_]{0,3}([^\W\d_][^\d:\uff1a*_\n]{0,18}?)[*_]{0,3}[ \u00a0]?[:\uff1a][*_]{0,3}\s*(?=\S)"
)

# With a number these are parts of an item.
_NO_ITEMS = frozenset(
    (
        *("step", "part", "case", "test", "test case", "example", "input"),
        *("output", "line", "note", "hint", "option", "figure", "table", "level"),
        *("day", "week", "chapter", "sample input"),
    )
)

_CHINESE = "一二三四五六七八九十"
_ROMAN = (
    "i",
    "ii",
    "iii",
    "iv",
    "v",
    "vi",
    "vii",
    "viii",
    "ix",
    "x",
    "xi",
    "xii",
    "xiii",
    "xiv",
    "xv",
)
_ORDINALS = (
    *("first", "second", "third", "fourth", "fifth"),
    *("sixth", "seventh", "eighth", "ninth", "tenth"),
)
_ALPHABETS = (
    "가나다라마바사아자차카타파하",
    "أبتثجحخدذرزسشصضطظعغفقكلمنهوي",
    "אבגדהוזחטיכלמנסעפצקרשת",
    "абвгдежзиклмнопрстуфхцчшщ",
    "αβγδεζηθικλμνξοπρστυφχψω",
)
_ENUMERATORS: tuple[tuple[re.Pattern[str], Callable[[str], int | None]], ...] = (
    (re.compile(r"^\s*([\u2460-\u2473])[ \t.]*"), lambda mark: ord(mark) - 0x245F),
    (re.compile(r"^\s*([\u2776-\u277f])[ \t.]*"), lambda mark: ord(mark) - 0x2775),
    (re.compile("^\\s*(\\d)\ufe0f?\u20e3[ \\t.:]*"), int),
    (re.compile(r"^\s*#(\d{1,3})[:.)]?[ \t]+"), int),
    (re.compile(r"^\s*(?:No|Nr|N\u00ba|N\u00b0|\u2116)\.?[ \t]*(\d{1,3})[:.)]?[ \t]+", re.I), int),
    (re.compile(r"^\s*(\d{1,3})(?:st|nd|rd|th)[:.)][ \t]+", re.I), int),
    (re.compile(r"^\s*(\d{1,3})[\u00ba\u00aa\u00b0][.)]?[ \t]+"), int),
    (re.compile(r"^\s*(\d{1,3})\t+"), int),
    (re.compile(r"^\s*(\d{1,3}),[ \t]*(?=[^\W\d])"), int),
    (
        re.compile(rf"^\s*({'|'.join(_ORDINALS)})(?:ly)?:[ \t]+", re.I),
        lambda m: _place(_ORDINALS, m.lower()),
    ),
    (re.compile(r"^\s*\(?([ivxIVX]{1,5})[.)][ \t]+"), lambda m: _place(_ROMAN, m.lower())),
    (
        re.compile(
            r"^\s*\u7b2c?([一二三四五六七八九十])[\u9898\u554f\u500b\u4e2a\u6761]?[\u3001\uff0e.:\uff1a]\s*"
        ),
        lambda m: _place(_CHINESE, m),
    ),
    *(
        (re.compile(rf"^\s*([{letters}])[.)\-][ \t]+"), lambda m, known=letters: _place(known, m))
        for letters in _ALPHABETS
    ),
)
_MARK = re.compile(r"^\s*(->|=>|[^\w\s\"'`(\[{<|#*+>\u2022-]\ufe0f?)[ \t]*(?=\S)")
_SYMBOLS = frozenset({"So", "Sm", "Po"})
_QUOTES_AND_STOPS = frozenset("\u00bf\u00a1\u3002\u3001\u2026.,:;!?&%@\\/\u060c\u061f\"'")

# Here they are: 1. one, and 2. two on the next line
_SECOND = re.compile(r"\n{1,3}[ \t]*(?:\*\*)?2[.)][ \t]")
_FIRST = re.compile(r"(?<=[.:!?\uff1a])[*_]{0,2}[ \t]+(?=(?:\*\*)?1[.)][ \t]+\S)")
_MARKED = re.compile(r"[ \t>]*(?:[(\[]?\d|[-*+\u2022][ \t])")
_INLINE = re.compile(r"(?:(?<=\s)|^)\(?(\d{1,2})[.)][ \t]+(?=\S)")
_INLINE_LETTER = re.compile(r"(?:(?<=\s)|^)\(?([a-z])[.)][ \t]+(?=\S)", re.I)


def fold(word: str) -> str:
    """Return a label as `ASKING` has it."""
    return unicodedata.normalize("NFC", word.strip().lower())


def normalise(text: str) -> str:
    """Return a text without what no reader sees: invisible characters, thoughts, end tokens."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = text.replace("\u2028", "\n").replace("\u2029", "\n\n").replace("\u00a0", " ")
    text = _INVISIBLE.sub("", _TOKENS.sub("", _THINKING.sub("", text)))
    text = _TILDES.sub("```", _BREAK.sub("", text))
    text = _ENTITY.sub(lambda match: _CHARACTERS[match[1]], text)
    text = _with_first(text)
    return _CHECKBOX.sub(r"\1", text).strip("\n")


def _with_first(text: str) -> str:
    """Return a text whose first item stands on a line of its own, as the second one does."""
    second = _SECOND.search(text)
    if second is None:
        return text
    start = text.rfind("\n", 0, second.start()) + 1
    line = text[start : second.start()]
    *_, first = (None, *_FIRST.finditer(line))
    if first is None or _MARKED.match(line):
        return text
    return f"{text[: start + first.start()]}\n{text[start + first.end() :]}"


def rewrite(text: str) -> str:
    """Return a text whose items, in whatever form, stand behind plain numbers or bullets."""
    for form in (_bullet_numbers, _numbered_words, _words, _enumerated, _symbols, _inline):
        found = form(text)
        if found is not None:
            return found
    return text


def rewrite_whole(text: str, *, is_numbered: bool) -> str:
    """Return a text whose items stand behind plain marks, with all that is below them.

    Of what `is_numbered` already only headings with words (Problem 1) say more. They become
    numbered headings, beside which other numbers are parts of the items.
    """
    found = _numbered_words(text, _NO_ITEMS, "### ")
    if found is not None or is_numbered:
        return text if found is None else found
    for form in (_bullet_numbers, _labels, _enumerated, _symbols, _inline):
        found = form(text)
        if found is not None:
            return found
    return _numbered_words(text, lead="### ") or text


def _labels(text: str) -> str | None:
    found = [match for match in _WORD.finditer(text) if match["word"].lower() in ASKING]
    if len(found) < 2 or len({match["word"].lower() for match in found}) > 1:
        return None
    numbers = itertools.count(1)
    return _replaced(text, found, lambda match: f"### {next(numbers)}. {_unbold(match)}")


def _bullet_numbers(text: str) -> str | None:
    found = list(_BULLET_NUMBER.finditer(text))
    numbers = [int(match["number"]) for match in found]
    if len(found) < 2 or numbers != list(range(1, len(found) + 1)):
        return None
    return _replaced(text, found, lambda match: f"{match['number']}. {_whole(match)}")


def _whole(match: re.Match[str]) -> str:
    bold = "" if match["closed"] else match["bold"] or ""
    return f"{bold}{match['rest']}"


def _numbered_words(text: str, without: frozenset[str] = frozenset(), lead: str = "") -> str | None:
    found = [
        match
        for match in _WORD_NUMBER.finditer(text)
        if match["word"].lower().strip() not in without
    ]
    groups: dict[str, list[re.Match[str]]] = {}
    for match in found:
        groups.setdefault(match["word"].lower().strip(), []).append(match)
    best = max(groups.values(), key=len, default=[])
    if len(best) < 2 or not _ascends([int(match["number"]) for match in best]):
        return None
    if {match["word"].lower() for match in best} <= {"answer", "a"}:
        return None
    return _replaced(text, best, lambda match: f"{lead}{int(match['number'])}. {_unbold(match)}")


def _words(text: str) -> str | None:
    """Rewrite labels without a number: Question: ..., beside which answers are left out."""
    found = [match for match in _WORD.finditer(text) if match["word"].lower() in ASKING]
    if len(found) < 2 or len({match["word"].lower() for match in found}) > 1:
        return None
    return "\n".join(f"- {_unbold(match)}" for match in found)


def _enumerated(text: str) -> str | None:
    lines = text.split("\n")
    for pattern, value in _ENUMERATORS:
        marks = [
            (index, match) for index, line in enumerate(lines) if (match := pattern.match(line))
        ]
        numbers = [value(match[1]) for _, match in marks]
        if len(marks) >= 2 and numbers[:2] == [1, 2]:
            for number, (index, match) in zip(numbers, marks, strict=True):
                lines[index] = f"{number}. {lines[index][match.end() :]}"
            return "\n".join(lines)
    return None


def _symbols(text: str) -> str | None:
    """Rewrite lines that begin with one and the same symbol."""
    lines = text.split("\n")
    marks = [(index, match) for index, line in enumerate(lines) if (match := _MARK.match(line))]
    marks = [(i, m) for i, m in marks if len(m[1].rstrip("\ufe0f")) > 1 or _is_symbol(m[1])]
    are_pictures = len(marks) == len([line for line in lines if line.strip()]) and all(
        unicodedata.category(match[1][0]) == "So" for _, match in marks
    )
    if len(marks) < 2 or (len({match[1] for _, match in marks}) > 1 and not are_pictures):
        return None
    for index, match in marks:
        lines[index] = f"- {lines[index][match.end() :]}"
    return "\n".join(lines)


def _is_symbol(mark: str) -> bool:
    return mark[0] not in _QUOTES_AND_STOPS and unicodedata.category(mark[0]) in _SYMBOLS


def _inline(text: str) -> str | None:
    """Rewrite a line that has all items in it: 1. one 2. two."""
    if text.count("\n") > 2:
        return None
    marks = _in_order(list(_INLINE.finditer(text)))
    if len(marks) < 2:
        marks = list(_INLINE_LETTER.finditer(text))
        letters = "".join(mark[1].lower() for mark in marks)
        # Behind anything else they are the options of a question.
        if len(marks) < 2 or marks[0].start() or letters not in "abcdefghijklmnopqrstuvwxyz":
            return None
    if all(mark.start() == 0 or text[mark.start() - 1] == "\n" for mark in marks):
        return None
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    return "\n".join(
        f"{number}. {text[mark.end() : end].strip()}"
        for number, (mark, end) in enumerate(zip(marks, ends, strict=True), start=1)
    )


def _in_order(marks: Sequence[re.Match[str]]) -> list[re.Match[str]]:
    """Return the marks that count from 1 on; none if most numbers are something else.

    A sentence may end with one: 2. It was built in 19. 3. It has a roof.
    """
    found: list[re.Match[str]] = []
    for mark in marks:
        if int(mark[1]) == len(found) + 1:
            found.append(mark)
    return found if 2 * len(found) > len(marks) else []


def _unbold(match: re.Match[str]) -> str:
    """Return what stands behind a label, without the end of emphasis that began before it."""
    rest, bold = match["rest"].strip(), match["bold"]
    if bold and rest.count(bold) % 2:
        rest = rest.replace(bold, "", 1).strip()
    return rest


def _replaced(
    text: str, matches: Sequence[re.Match[str]], new: Callable[[re.Match[str]], str]
) -> str:
    def pieces() -> Iterator[str]:
        position = 0
        for match in matches:
            yield text[position : match.start()]
            yield new(match)
            position = match.end()
        yield text[position:]

    return "".join(pieces())


def _ascends(numbers: Sequence[int]) -> bool:
    return all(after == before + 1 for before, after in itertools.pairwise(numbers))


def _place(known: Sequence[str], mark: str) -> int | None:
    return known.index(mark) + 1 if mark in known else None
