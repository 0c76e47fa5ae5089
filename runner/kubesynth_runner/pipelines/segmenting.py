"""Cutting texts by tokens: at lines, else at sentences, else at words, else anywhere.

Nothing is lost: the segments of a text, put together again, have all of its characters but for
white space. Lengths are sums over pieces, each counted by itself, with one token for what joins
two of them.
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
# Of a rare character that a vocabulary has only the bytes of: its UTF-8.
_TOKENS_OF_A_CHARACTER = 4
_LONGEST_ABBREVIATION = 16
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:[A-Z]|e\.g|i\.e|etc|vs|cf|No|Nr|St|Dr|Mr|Mrs|Ms|Prof|Fig|Vol|pp?|ca)\.$"
)


def segments(
    text: str,
    max_tokens: int,
    *,
    min_tokens: int = 0,
    join_lines: bool = True,
    count: tokens.Count = tokens.count,
) -> list[str]:
    """Return the segments of a text of at most `max_tokens` tokens, in order.

    Lines stay whole where they fit, and neighbours are joined greedily. Segments with less than
    `min_tokens` are left out.
    """
    pieces = (
        (" " if index else "\n", piece)
        for line in text.splitlines()
        for index, piece in enumerate(_cut_line(line, max_tokens, count))
    )
    packed = pack(pieces, max_tokens, count) if join_lines else (piece for _, piece in pieces)
    return [
        segment.strip("\n").rstrip()
        for segment in packed
        if segment.strip() and count(segment) >= min_tokens
    ]


def pack(pieces: Iterable[tuple[str, str]], max_tokens: int, count: tokens.Count) -> Iterator[str]:
    """Join neighbours while they fit in `max_tokens`.

    Each piece comes behind what is to be between it and the one before.
    """
    held: list[str] = []
    size = 0
    for separator, piece in pieces:
        length = count(piece) + 1  # the separator
        if held and size + length > max_tokens:
            yield "".join(held)
            held, size = [], 0
        held += (separator, piece) if held else (piece,)
        size += length
    if held:
        yield "".join(held)


def _cut_line(line: str, max_tokens: int, count: tokens.Count) -> list[str]:
    """Return a line, or what it falls into if it is too long."""
    if len(line) <= max_tokens // _TOKENS_OF_A_CHARACTER or count(line) <= max_tokens:
        return [line]
    # Room for the separator that packing reckons with.
    return [
        piece
        for part in pack(((" ", sentence) for sentence in _sentences(line)), max_tokens, count)
        for piece in ([part] if count(part) <= max_tokens else _cut_words(part, max_tokens, count))
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


def _cut_words(sentence: str, max_tokens: int, count: tokens.Count) -> Iterator[str]:
    return pack(
        (
            (" ", part)
            for word in _WORD_END.split(sentence.strip())
            for part in _cut_anywhere(word, max_tokens, count)
        ),
        max_tokens,
        count,
    )


def _cut_anywhere(word: str, max_tokens: int, count: tokens.Count) -> Iterator[str]:
    """Cut a word with too many tokens (text without spaces, a data URI) by characters."""
    if len(word) <= 1 or count(word) < max_tokens:
        yield word
        return
    # Shorter than the word in any case, whose characters may have several tokens each.
    width = max(1, min(max_tokens, len(word)) // 2)
    for start in range(0, len(word), width):
        yield from _cut_anywhere(word[start : start + width], max_tokens, count)
