"""What a model puts around and into a text that was to be the text alone, taken off again."""

from __future__ import annotations

import re

_FENCE = re.compile(r"\A```[\w-]*[ \t]*\n(?P<inside>.*?)\n?```\Z", re.DOTALL)
# "Sure! Here is the rewritten text:" and its like: a first line that ends with a colon, or a
# remark with nothing else on its line.
_LEAD_IN = re.compile(
    r"\A\W{0,8}(?:(?:sure|certainly|of course|absolutely|okay|ok|great)\b[^\n:!.]{0,60}[:!.]\s*)?"
    r"(?:here(?:'s|\u2019s| is| are)|below is|below are|the following is|this is|i have|i've)\b"
    r"(?=[^\n:]{0,150}\b(?:text|version|passages?|article|summary|translation|paraphrase\w*|"
    r"rewritten|rephrased|condensed|list|facts|knowledge)\b)[^\n:]{0,200}:\s*(?=\S)",
    re.IGNORECASE,
)
_REMARK = re.compile(
    r"\A\W{0,8}(?:sure|certainly|of course|absolutely|okay|ok)\b[^\n]{0,80}[!.:]\s*\n+",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"\A[*_#\s]{0,8}(?:rewritten|paraphrased|rephrased|condensed|distilled|summari[sz]ed|extracted)?"
    r"\s*(?:text|version|passage|article|summary|paraphrase|output|answer|result|knowledge)"
    r"[*_\s]*:[*_]*\s*",
    re.IGNORECASE,
)
_PASSAGE_LINE = re.compile(r"[*_#\s]{0,8}passage(?: \d+)?:?[*_\s]{0,8}", re.IGNORECASE)
_CLOSING = re.compile(
    r"\W{0,8}(?:let me know|feel free|i hope|hope this|please let me|note that this)\b",
    re.IGNORECASE,
)
_QUOTES = (('"', '"'), ("\u201c", "\u201d"), ("\u00ab", "\u00bb"))

_HEADING = re.compile(r"^[ \t]{0,3}#{1,6}[ \t]+(.*?)[ \t]*#*[ \t]*$", re.MULTILINE)
_RULE = re.compile(r"^[ \t]{0,3}(?:-{3,}|\*{3,}|_{3,})[ \t]*$\n?", re.MULTILINE)
_IMAGE = re.compile(r"!\[([^\[\]\n]{0,300})\]\([^()\s]{0,2000}(?:\s\"[^\"\n]{0,300}\")?\)")
_LINK = re.compile(
    r"(?<!!)\[([^\[\]\n]{1,300})\]"
    r"\((?:https?://|mailto:|/|#|\.)[^()\s]{0,2000}(?:\s\"[^\"\n]{0,300}\")?\)"
)
# Emphasis touches its words and no other word touches it: 2 * 3 * 4 and snake_case_name stay.
_STRONG = re.compile(r"(?<!\w)(\*\*\*|\*\*|___|__)(?=[^\s*_])([^\n]{1,300}?)(?<=\S)\1(?!\w)")
_EMPHASIS = re.compile(r"(?<![\w*_])([*_])(?=[^\s*_])([^\n*_]{0,300}[^\s*_])\1(?![\w*_])")
_BLANKS = re.compile(r"\n{3,}")


def tidy(text: str, *, markdown: bool = True) -> str:
    """Return the text without fence, lead-in, labels, closing remark and quotes around it.

    With `markdown` that goes, too: headings, emphasis, rules and the addresses of links. The words
    stay, and what only looks like Markdown (names_with_underscores, 2 * 3).
    """
    text = unwrap(text)
    lines = text.split("\n")
    text = "\n".join(line for line in lines if not _PASSAGE_LINE.fullmatch(line))
    if markdown:
        text = without_markdown(text)
    return _BLANKS.sub("\n\n", without_quotes(text.strip()))


def unwrap(text: str) -> str:
    """Return the text without fence, lead-in, label and closing remark."""
    text = text.replace("\r\n", "\n").strip()
    fenced = _FENCE.match(text)
    text = fenced["inside"].strip() if fenced else text
    for pattern in (_LEAD_IN, _REMARK, _LABEL):
        shorter = pattern.sub("", text, count=1)
        text = shorter if shorter.strip() else text
    before, _, last = text.rpartition("\n")
    text = before.rstrip() if before and _CLOSING.match(last) else text
    return text.strip()


def without_markdown(text: str) -> str:
    """Return the text without Markdown; code and lists stay as they are."""
    parts = re.split(r"(```.*?```|`[^`\n]+`)", text, flags=re.DOTALL)
    for index in range(0, len(parts), 2):
        part = _RULE.sub("", _HEADING.sub(r"\1", parts[index]))
        part = _LINK.sub(r"\1", _IMAGE.sub(r"\1", part))
        part = _STRONG.sub(r"\2", _STRONG.sub(r"\2", part))
        parts[index] = _EMPHASIS.sub(r"\2", part)
    return "".join(parts)


def without_quotes(text: str) -> str:
    """Return the text without quotes around all of it."""
    for left, right in _QUOTES:
        inner = text[1:-1]
        is_quoted = len(text) > 1 and text[0] == left and text[-1] == right
        # A quote that ends within belongs to the words, and so do both of these.
        if is_quoted and left not in inner and right not in inner:
            return inner.strip()
    return text
