"""Cutting texts by tokens: at lines, else at sentences, else at words, else anywhere.

Nothing is lost: the segments of a text, put together again, have all of its characters but for
white space.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from kubesynth_runner.pipelines import tokens

# After what ends a sentence, with closing quotes and brackets; Chinese and Japanese need no space.
_SENTENCE_END = re.compile(
    "(?<=[.!?\u2026\u061f\u06d4\u0964])[\"'\u201d\u2019\u00bb)\\]]*(\\s+)"
    "|(?<=[\u3002\uff01\uff1f])(?![\u300d\u300f\u201d\uff09])"
)
_WORD_END = re.compile(r"\s+")
_LONGEST_ABBREVIATION = 16
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:[A-Z]|e\.g|i\.e|etc|vs|cf|No|Nr|St|Dr|Mr|Mrs|Ms|Prof|Fig|Vol|pp?|ca)\.$"
)


def segments(
    text: str, max_tokens: int, *, min_tokens: int = 0, join_lines: bool = True
) -> list[str]:
    """Return the segments of a text of at most `max_tokens` tokens, in order.

    Lines stay whole where they fit, and neighbours are joined greedily. Segments with less than
    `min_tokens` are left out.
    """
    pieces = (piece for line in text.splitlines() for piece in _cut_line(line, max_tokens))
    packed = pack(pieces, max_tokens, "\n") if join_lines else (p for p in pieces if p.strip())
    return [
        segment.strip("\n").rstrip()
        for segment in packed
        if segment.strip() and tokens.count(segment) >= min_tokens
    ]


def pack(pieces: Iterable[str], max_tokens: int, separator: str) -> Iterator[str]:
    """Join neighbours while they fit in `max_tokens`; yield them with their separators."""
    held: list[str] = []
    size = 0
    for piece in pieces:
        length = tokens.count(piece) + 1  # the separator
        if held and size + length > max_tokens:
            yield separator.join(held)
            held, size = [], 0
        held.append(piece)
        size += length
    if held:
        yield separator.join(held)


def _cut_line(line: str, max_tokens: int) -> list[str]:
    """Return a line, or what it falls into if it is too long."""
    if len(line) <= max_tokens or tokens.count(line) <= max_tokens:
        return [line]
    # Room for the separator that packing reckons with.
    return [
        piece
        for part in pack(_sentences(line), max_tokens, " ")
        for piece in ([part] if tokens.count(part) <= max_tokens else _cut_words(part, max_tokens))
    ]


def _sentences(line: str) -> Iterator[str]:
    start = 0
    for match in _SENTENCE_END.finditer(line):
        end = match.end()
        if _ABBREVIATION.search(line[max(start, end - _LONGEST_ABBREVIATION) : end].rstrip()):
            continue
        yield line[start:end].rstrip()
        start = match.end()
    if line[start:].strip():
        yield line[start:]


def _cut_words(sentence: str, max_tokens: int) -> Iterator[str]:
    return pack(
        (
            part
            for word in _WORD_END.split(sentence.strip())
            for part in _cut_anywhere(word, max_tokens)
        ),
        max_tokens,
        " ",
    )


def _cut_anywhere(word: str, max_tokens: int) -> Iterator[str]:
    """Cut a word with too many tokens (text without spaces, a data URI) by characters."""
    if tokens.count(word) < max_tokens:
        yield word
        return
    width = max(1, max_tokens // 2)  # no character has more than two
    for start in range(0, len(word), width):
        yield word[start : start + width]
