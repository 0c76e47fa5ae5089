"""What a model puts around and into a text that was to be the text alone, taken off again."""

from __future__ import annotations

import re

from kubesynth_runner.pipelines import fences, marked_lines

_SURE = r"(?:sure(?: thing)?|certainly|of course|absolutely|okay|ok|great)"
_HERE = (
    rf"\A\W{{0,8}}(?:{_SURE}\b[^\n:!.]{{0,60}}[:!.]\s*)?"
    r"(?:here(?:'s|\u2019s| is| are)|below is|below are|the following is|this is|i have|i've)\b"
)
_MADE = (
    r"version|translat\w+|paraphras\w+|rewrit\w+|rephras\w+|condens\w+|distill\w+|summar(?:y|ies)"
)
# "Sure! Here is the rewritten text:" and its like, on a line of its own ...
_LEAD_IN = re.compile(
    rf"{_HERE}(?=[^\n:]{{0,150}}\b(?:text|passages?|article|list|facts|knowledge|{_MADE})\b)"
    r"[^\n:]{0,200}:[*_ \t]*\n\s*(?=\S)",
    re.IGNORECASE,
)
# ... or before the text, where it must say what was done: "This is the knowledge that Plato spoke
# of: ..." is a sentence.
_LEAD_IN_BEFORE = re.compile(
    rf"{_HERE}(?=[^\n:]{{0,150}}\b(?:{_MADE})\b)[^\n:]{{0,200}}:[*_]*\s*(?=\S)", re.IGNORECASE
)
_TRANSLATION_BEFORE = re.compile(
    rf"(?:{_HERE}[^\n:]{{0,150}}\btranslat(?:ion|ed)\b[^\n:]{{0,100}}"
    r"|\A[*_#\s]{0,8}(?:\w{1,30}\s)?(?:translation|translated text)\b[*_\s]{0,8}"
    r"(?:\([^\n()]{0,40}\)|(?:in|into|to) \w{1,30})?)[*_\s]{0,8}:[*_]*\s*(?=\S)",
    re.IGNORECASE,
)
# A remark with nothing else on its line: "Certainly!", "Sure, I can help with that."
_REMARK = re.compile(
    rf"\A\W{{0,8}}{_SURE}(?:[!.:]|[!.:,]?\s+(?:here|i|i(?:'|\u2019)\w+|let|happy|glad|no problem)\b"
    r"[^\n]{0,80}[!.:])[ \t]*\n\s*",
    re.IGNORECASE,
)
# A few words are labels only on a line of their own: "Result: 3-0" is a text.
_LABEL = re.compile(
    r"\A[*_#\s]{0,8}(?:(?:rewritten|paraphrased|rephrased|condensed|distilled|summari[sz]ed"
    r"|extracted)\s*(?:text|version|passage|article|summary|output|answer|result|knowledge)"
    r"|text|passage|article|summary|paraphrase"
    r"|(?:version|output|answer|result|knowledge)(?=[*_\s]{0,8}:[*_ \t]*\n))"
    r"[*_\s]{0,8}:[*_]*\s*",
    re.IGNORECASE,
)
_PASSAGE_LINE = re.compile(r"[*_#\s]{0,8}passage(?: \d+)?:?[*_\s]{0,8}", re.IGNORECASE)
# A remark to the reader: it speaks of the answer, or offers another one.
_CLOSING = re.compile(
    r"\W{0,8}(?:(?:please )?(?:let me know|feel free)\b"
    r"(?=.*\b(?:any\w*|else|further|more|questions?|help|changes?|adjust\w*|revis\w+"
    r"|you(?:'d|\u2019d| would) like|you (?:need|have|want|prefer))\b)"
    r"|(?:i hope|hope this|note that this)\b(?=.*\b(?:helps?|helpful|rewrit\w+|rewritten|rephras\w+"
    r"|paraphras\w+|version|translation|text|summary|requests?|requested|useful|let me know)\b))"
    r".*",
    re.IGNORECASE,
)
_LONGEST_CLOSING = 200
_QUOTES = (('"', '"'), ("\u201c", "\u201d"), ("\u00ab", "\u00bb"))

_HEADING = re.compile(r"^[ \t]{0,3}#{1,6}[ \t]+(.*)$", re.MULTILINE)
_RULE = re.compile(r"^[ \t]{0,3}(?:-{3,}|\*{3,}|_{3,})[ \t]*$\n?", re.MULTILINE)
_IMAGE = re.compile(r"!\[([^\[\]\n]{0,300})\]\([^()\s]{0,2000}(?:\s\"[^\"\n]{0,300}\")?\)")
_LINK = re.compile(
    r"(?<!!)\[([^\[\]\n]{1,300})\]"
    r"\((?:https?://|mailto:|/|#|\.)[^()\s]{0,2000}(?:\s\"[^\"\n]{0,300}\")?\)"
)
# Emphasis touches its words and no other word touches it: 2 * 3 * 4 and snake_case_name stay.
# So do the names of a language, __init__ and its like.
_STRONG = re.compile(
    r"(?<!\w)(?!__[a-z][a-z0-9_]*__(?!\w))"
    r"(\*\*\*|\*\*|___|__)(?=[^\s*_])([^\n]{1,300}?)(?<=\S)\1(?!\w)"
)
_EMPHASIS = re.compile(r"(?<![\w*_])([*_])(?=[^\s*_])([^\n*_]{0,300}[^\s*_])\1(?![\w*_])")
_BLANKS = re.compile(r"\n{3,}")


def tidy(text: str, *, markdown: bool = True) -> str:
    """Return the text without fence, lead-in, labels, closing remark and quotes around it.

    With `markdown` that goes, too: headings, emphasis, rules and the addresses of links. The words
    stay, and what only looks like Markdown (names_with_underscores, __init__, 2 * 3).
    """
    text = unwrap(text)
    lines = text.split("\n")
    text = "\n".join(line for line in lines if not _PASSAGE_LINE.fullmatch(line))
    if markdown:
        text = without_markdown(text)
    return _BLANKS.sub("\n\n", without_quotes(text.strip()))


def unwrap(text: str) -> str:
    """Return the text without fence, lead-in, label and closing remark."""
    text = _without_fence(text.replace("\r\n", "\n").strip())
    for pattern in (_LEAD_IN, _LEAD_IN_BEFORE, _REMARK, _LABEL):
        shorter = pattern.sub("", text, count=1)
        text = shorter if shorter.strip() else text
    return _without_closing(text).strip()


def translation(answer: str, text: str) -> str:
    """Return a translation without what is around it and has no counterpart in the `text`.

    A text may itself begin with "Sure!" and end with "Let me know": a line goes only if the answer
    has more of them than the text, and words before a colon only if the text begins with none.
    """
    answer = answer.replace("\r\n", "\n").strip()
    if not text.lstrip().startswith("```"):
        answer = _without_fence(answer)
    for pattern in (_REMARK, _LEAD_IN):
        if _lines(answer) > _lines(text):
            answer = pattern.sub("", answer, count=1)
    first, _, _ = text.strip().partition("\n")
    if not any(colon in first for colon in marked_lines.COLONS):
        answer = _TRANSLATION_BEFORE.sub("", answer, count=1)
    if _lines(answer) > _lines(text):
        answer = _without_closing(answer)
    return answer.strip()


def _lines(text: str) -> int:
    return sum(bool(line.strip()) for line in text.splitlines())


def _without_fence(text: str) -> str:
    inside = fences.around(text)
    return text if inside is None else inside.strip()


def _without_closing(text: str) -> str:
    before, _, last = text.rpartition("\n")
    is_closing = len(last) <= _LONGEST_CLOSING and _CLOSING.match(last)
    return before.rstrip() if before and is_closing else text


def without_markdown(text: str) -> str:
    """Return the text without Markdown; code and lists stay as they are."""
    parts = fences.split(text)
    for index in range(0, len(parts), 2):
        part = _RULE.sub("", _HEADING.sub(_title, parts[index]))
        part = _LINK.sub(r"\1", _IMAGE.sub(r"\1", part))
        part = _STRONG.sub(r"\2", _STRONG.sub(r"\2", part))
        parts[index] = _EMPHASIS.sub(r"\2", part)
    return "".join(parts)


def _title(heading: re.Match[str]) -> str:
    return heading[1].rstrip(" \t").rstrip("#").rstrip(" \t")


def without_quotes(text: str) -> str:
    """Return the text without quotes around all of it."""
    for left, right in _QUOTES:
        inner = text[1:-1]
        is_quoted = len(text) > 1 and text[0] == left and text[-1] == right
        # A quote that ends within belongs to the words, and so do both of these.
        if is_quoted and left not in inner and right not in inner:
            return inner.strip()
    return text
