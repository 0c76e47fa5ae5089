"""Lists out of free text: what a person would read as the items of a model's answer.

Understood are JSON (also fenced, wrapped in an object, one object a line, with trailing commas, or
cut off in the middle), numbered, lettered and bulleted lines with or without Markdown, headings
such as "Question 1" above each item, whatever the language, tables, markup and YAML, and, failing
these, one item a line. Text before the first
marker and after the last item is not part of the list; an item may go on over indented lines.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping

from kubesynth_api.v1alpha1.stages.records import ItemForm
from kubesynth_runner.pipelines import (
    code_blocks,
    conversation,
    fences,
    json_lists,
    list_containers,
    list_forms,
    marked_lines,
    nested_lines,
    remarks,
    whole_items,
)

# What is read in a list: the outermost items with all that is below them, the titles of these, or
# the items at every depth.
Form = ItemForm
_MARKED: Mapping[Form, Callable[[str], list[str]]] = {
    "Titles": marked_lines.items,
    "Whole": whole_items.items,
    "Leaves": nested_lines.items,
}

# What follows it is another list.
_ANSWERS = re.compile(
    r"\n[*_#\s]{0,8}(?:answers?|answer key|solutions?)[*_:\s]{0,8}(?=\n)", re.IGNORECASE
)
# The same where an item may have a solution of its own, which ends with the item.
_ANSWER_KEY = re.compile(
    r"\n[*_#\s]{0,8}(?:answers|answer key|solutions)[*_:\s]{0,8}(?=\n)", re.IGNORECASE
)
# What the items of a list are called that may be of anything.
ANY_ITEMS = "items"
_MARKS = re.compile(r"[\W_]+")
# What comes before it was a draft.
_FINAL = re.compile(r"\n[^\n]{0,80}\bfinal\b[^\n]{0,40}:[*_ ]*\n", re.IGNORECASE)
# That of ASCII, which Greek asks with.
_SEMICOLON = re.compile(r"(?<![\u0370-\u03ff])\s?;\Z")
_QUOTED = re.compile(r"^[ \t]{0,3}>(?!>)[ \t]?", re.MULTILINE)
_PROSE_WORDS = 16
# Enough to tell the end of an item from that of a text behind the list.
_LAST_CHARACTERS = 12
_HASHES = re.compile("#*")
_GREETING = re.compile(r"(?:sure|certainly|of course|absolutely|okay|ok)\b[\w ,]{0,40}[.!]", re.I)
_OFFER = re.compile(
    r"(?:would you like|do you want|shall i|should i|is there anything|can i)\b", re.I
)
_EXCUSE = re.compile(
    r"(?:i am|i'm|i\u2019m|i) (?:sorry|afraid|cannot|can't|can\u2019t|unable)\b"
    r"|(?:the|this|your) (?:given |provided )?(?:text|document|passage|topic)\b.{0,30}"
    r"\b(?:does not|doesn't|doesn\u2019t) (?:contain|have|provide|include|offer|give)\b",
    re.I,
)
# Nothing more comes to the model's mind, which is no item.
_MORE = r"(?:more|further|other|others|additional|new|distinct|different|remaining)\b(?! than)"
_NO_MORE = re.compile(
    r"\W*(?:(?:sorry|unfortunately|i(?:'m|\u2019m| am) (?:sorry|afraid)),? )?(?:but )?"
    rf"(?:there (?:are|is|were) (?:no|not any) {_MORE}|there aren.t any {_MORE}"
    rf"|(?:no|none|nothing) (?:{_MORE}|else\b|left\b|of (?:them|these)\b)"
    rf"|i (?:have|see|know|find|found|can think of|can find|could find) no {_MORE}"
    rf"|i (?:cannot|can.t|could not|couldn.t|do not|don.t) \w+ (?:of |up with )?any {_MORE}"
    r"|(?:that.s|that is|those are|these are) (?:all|everything)\b)",
    re.I,
)
_QUOTES = (
    ("**", "**"),
    ("__", "__"),
    ("*", "*"),
    ('"', '"'),
    ("\u201c", "\u201d"),
    ("\u00ab", "\u00bb"),
    ("\u300c", "\u300d"),
    ("`", "`"),
    ("<b>", "</b>"),
    ("<i>", "</i>"),
    ("<em>", "</em>"),
    ("<strong>", "</strong>"),
    ("'", "'"),
)


@dataclasses.dataclass(frozen=True, slots=True)
class _Reader:
    """What is looked for in a text: how many items, in which form, and what they are called."""

    expected: int | None
    form: Form
    item_name: str

    @property
    def is_whole(self) -> bool:
        return self.form == "Whole"

    def marked(self, text: str) -> list[str]:
        """Return the items that marked lines begin.

        Those below them, if all of these are only heads, and below them are as many as wanted.
        """
        found = _MARKED[self.form](text)
        if self.form == "Leaves" or self.expected is None or len(found) in (0, self.expected):
            return found
        below = nested_lines.below(text)
        # Of problems these are rather requirements, unless they ask something.
        is_list = not self.is_whole or all(map(marked_lines.asks, below))
        return below if len(below) == self.expected and is_list else found

    def json(self, body: str) -> list[str]:
        """Return the items of the JSON that a text begins with."""
        texts = json_lists.items(body, self.item_name, self.form)
        return [item.strip() for item in texts if item.strip()]

    def clean(self, items: Iterable[str]) -> list[str]:
        """Return items without what is around them."""
        cleaned = (
            _clean_lines(item) if self.is_whole and "\n" in item else clean(item)
            for item in _unlisted(items)
        )
        return [item for item in map(remarks.without_given_answer, cleaned) if item]


def parse(
    text: str,
    expected: int | None = None,
    *,
    item_name: str = ANY_ITEMS,
    is_cut_off: bool = False,
    form: Form = "Titles",
) -> list[str]:
    """Return the items of a list, cleaned, in order; empty if there are none.

    `expected` is how many were asked for. One line alone is only taken for a list of one if that
    was wanted: it may as well be an excuse. Of a text that `is_cut_off` an item that goes to its
    end is not whole, and left out. `item_name`, a plural, says which list is meant where JSON has
    several, and which text where its items are objects.
    """
    reader = _Reader(expected, form, item_name)
    found = json_lists.of_document(text, item_name, form)
    if found is not None:
        items = [item.strip() for item in found if item.strip()]
        return list(map(marked_lines.title, items)) if form == "Titles" else items
    text, blocks = code_blocks.hide(text, expected)
    if not reader.is_whole:
        text = code_blocks.without(text)
    items = _parse(text, reader)
    if is_cut_off and items and json_lists.find(text) is None and _ends_with(text, items[-1]):
        items.pop()
    if form == "Titles":
        return list(map(marked_lines.title, items))
    return [code_blocks.restore(item, blocks) for item in items]


def _ends_with(text: str, item: str) -> bool:
    """Tell whether a text's last words are those of an item, whatever marks are around them."""
    words = _MARKS.sub("", item)[-_LAST_CHARACTERS:]
    return _MARKS.sub("", text).endswith(words)


def _parse(text: str, reader: _Reader) -> list[str]:
    text = list_containers.unfold(list_forms.normalise(text))
    answers = (_ANSWER_KEY if reader.is_whole else _ANSWERS).search(text)
    if answers and len(_parse(text[: answers.start()], reader)) > 1:
        text = text[: answers.start()]
    *_, final = (None, *_FINAL.finditer(text))
    if final and len(found := _parse(text[final.end() :], reader)) == reader.expected:
        return found
    fenced = next(fences.find(text), None)
    # A block below the first item is part of the list, not all of it.
    if fenced and not reader.marked(text[: fenced.start()]):
        inside: list[str] | None = _of_blocks(text, reader)
        inside = inside or reader.clean(list_containers.objects(fenced["inside"])) or None
        inside = _parse_structured(fenced["inside"], reader) if inside is None else inside
        if inside is not None:
            return inside
        if not reader.marked(text[fenced.end() :]):
            text = fenced["inside"]
    start = json_lists.find(text)
    if start is None or reader.marked(text[:start]):
        contained = _contained(text, reader)
        if contained is not None:
            return reader.clean(contained)
        text = _rewritten(text) if reader.is_whole else list_forms.rewrite(text)
    items = _parse_structured(text, reader)
    return reader.clean(_from_lines(text, reader)) if items is None else items


def _contained(text: str, reader: _Reader) -> list[str] | None:
    """Return the items of a table, of markup, or of one line, or None if they are in none."""
    before = text if reader.is_whole and "\n" in text.strip() else list_containers.above_table(text)
    if reader.marked(before):  # what looks like a table is in an item, or below it
        return (list_containers.objects(text) or None) if reader.is_whole else None
    return list_containers.items(text, reader.expected)


def _rewritten(text: str) -> str:
    numbers = [line.number for _, line in marked_lines.starts(text) if line.kind == "number"]
    is_numbered = len(numbers) > 1 and numbers[1] == (numbers[0] or 0) + 1
    return list_forms.rewrite_whole(text, is_numbered=is_numbered)


def _of_blocks(text: str, reader: _Reader) -> list[str]:
    """Return the items of several fenced blocks of JSON, if each has some."""
    blocks = [match["inside"] for match in fences.find(text)]
    if len(blocks) < 2 or any(json_lists.find(block) is None for block in blocks):
        return []
    return [item for block in blocks for item in _parse_structured(block, reader) or []]


def _parse_structured(text: str, reader: _Reader) -> list[str] | None:
    """Return the items of JSON or of marked lines, or None if there is neither."""
    start = json_lists.find(text)
    if start is not None and not reader.marked(text[:start]):
        return reader.json(text[start:])
    found = reader.marked(text)
    return reader.clean(found) if found else None


def _unlisted(items: Iterable[str]) -> list[str]:
    """Return items without what a list says of all of them: one label, or a semicolon each."""
    found = list(items)
    labels = [list_forms.LABEL.match(item) for item in found]
    words = {list_forms.fold(label[1]) for label in labels if label}
    if found and all(labels) and len(words) == 1 and words <= list_forms.ASKING:
        found = [item[label.end() :] for item, label in zip(found, labels, strict=True) if label]
    *others, last = found or [""]
    if others and last.endswith(".") and all(map(_SEMICOLON.search, others)):
        found = [_SEMICOLON.sub("", item) for item in others] + [last]
    return found


def _from_lines(text: str, reader: _Reader) -> list[str]:
    expected, lines = reader.expected, [line.strip() for line in text.split("\n") if line.strip()]
    if 2 * sum(map(bool, map(_QUOTED.match, lines))) >= len(lines):
        text, lines = _QUOTED.sub("", text), [_QUOTED.sub("", line) for line in lines]
    # As many lines as were asked for are what was asked for, though one may say "I cannot sleep".
    is_full = expected is not None and 1 < expected <= len(lines)
    if not is_full and _says_no(text.strip(), lines):
        return []
    if reader.is_whole:
        return whole_items.of_lines(text, expected)
    if len(lines) > 1 and (lines[0].endswith(marked_lines.COLONS) or _is_greeting(lines[0])):
        lines = lines[1:]
    for is_item in (_is_heading, _is_bold):
        found = _outstanding(lines, is_item)
        if found and reader.form == "Leaves":
            below = itertools.dropwhile(lambda line: not is_item(line), lines)  # noqa: B023
            sentences = [line for line in below if not is_item(line)]
            return sentences if len(sentences) >= len(found) else found
        if found:
            return found
    questions = [
        line for line in lines if line.rstrip("\"'*_, ").endswith(marked_lines.QUESTION_MARKS)
    ]
    if 2 * len(questions) >= len(lines):
        return _without_offer(questions, expected)
    return _plain(lines, reader)


def _plain(lines: list[str], reader: _Reader) -> list[str]:
    """Return lines that nothing marks, if they may be items."""
    if len(lines) > 1 and all(line.endswith(",") for line in lines[:-1]):
        lines = [line.removesuffix(",") for line in lines]
    if len(lines) == reader.expected:
        return lines
    has_prose = reader.form == "Titles" and any(map(_is_prose, lines))
    return lines if len(lines) > 1 and not has_prose else []


def _says_no(text: str, lines: list[str]) -> bool:
    """Tell whether an answer says that there will be no items, or no more of them."""
    if conversation.is_refusal(text) or (len(lines) == 1 and _NO_MORE.match(text)):
        return True
    are_questions = all(line.endswith(marked_lines.QUESTION_MARKS) for line in lines)
    return _EXCUSE.match(text) is not None and not are_questions


def _outstanding(lines: list[str], is_item: Callable[[str], bool]) -> list[str]:
    """Return lines that stand out from all others, if there are at least two of them."""
    found = [line for line in lines if is_item(line)]
    depth = max((len(_HASHES.match(line)[0]) for line in found), default=0)  # type: ignore[index]
    found = [line for line in found if len(_HASHES.match(line)[0]) == depth]  # type: ignore[index]
    return [line.strip("# ") for line in found] if len(found) > 1 else []


def _is_heading(line: str) -> bool:
    return line.startswith("#") and line.lstrip("#").startswith(" ")


def _is_bold(line: str) -> bool:
    return (
        len(line) > 4 and line.startswith("**") and line.endswith("**") and "**" not in line[2:-2]
    )


def _is_prose(line: str) -> bool:
    """Tell whether a line is a sentence that is too long for a title."""
    return line.endswith(".") and len(line.split()) >= _PROSE_WORDS


def _without_offer(questions: list[str], expected: int | None) -> list[str]:
    """Return the questions without one to the reader behind the last one."""
    is_one_too_many = expected is not None and len(questions) > expected
    if is_one_too_many and _OFFER.match(questions[-1]):
        return questions[:-1]
    return questions


def _is_greeting(line: str) -> bool:
    return bool(_GREETING.fullmatch(line))


def clean(item: str) -> str:
    """Return an item without emphasis and quotes around all of it, its lines joined."""
    return _unwrapped(" ".join(item.split()))


def _clean_lines(item: str) -> str:
    """Return an item of several lines in the same way, its lines kept."""
    head, newline, body = _unwrapped(item.strip()).partition("\n")
    return f"{clean(head)}{newline}{body}" if newline else clean(head)


def _unwrapped(item: str) -> str:
    if item.endswith(('",', "',")):
        item = item[:-1]
    if item.startswith("**") and item.count("**") == 1:  # cut off within the emphasis
        item = item[2:].strip()
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
    """Return the items without later ones that fold to the same."""
    seen: dict[str, str] = {}
    for item in items:
        seen.setdefault(fold(item), item)
    return list(seen.values())


def fold(item: str) -> str:
    """Return what two items have in common that differ only in case, white space or encoding.

    Encoding: letters composed and decomposed (NFC, Unicode annex 15), wide and narrow. Not the
    rest of NFKC, to which 10\u00b2 is 102.
    """
    folded = " ".join(item.casefold().split())
    if folded.isascii():
        return folded
    of_one_width = "".join(
        unicodedata.normalize("NFKC", letter) if _is_variant(letter) else letter
        for letter in folded
    )
    return unicodedata.normalize("NFC", of_one_width.casefold())


def _is_variant(letter: str) -> bool:
    return unicodedata.east_asian_width(letter) in ("F", "H")
