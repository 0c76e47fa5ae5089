"""Cutting texts by tokens: at lines, else at sentences, else at words, else anywhere.

Nothing is lost: the segments of a text, put together again, have all of its characters but for
white space; and none is added within words of scripts without spaces. Lengths are sums over pieces,
each counted by itself, with one token for what joins two of them.
"""

from __future__ import annotations

import re
import unicodedata
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
# Thai and Lao vowels that are letters of their own but written behind, or before, their consonant.
_BEHIND = frozenset("\u0e30\u0e32\u0e33\u0e45\u0eb0\u0eb2\u0eb3")
_BEFORE = frozenset("\u0e40\u0e41\u0e42\u0e43\u0e44\u0ec0\u0ec1\u0ec2\u0ec3\u0ec4\u200d")
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
        (separator if index else "\n", piece)
        for line in text.splitlines()
        for index, (separator, piece) in enumerate(_cut_line(line, max_tokens, count))
    )
    packed = (piece for _, piece in (pack(pieces, max_tokens, count) if join_lines else pieces))
    return [
        segment.strip("\n").rstrip()
        for segment in packed
        if segment.strip() and count(segment) >= min_tokens
    ]


def pack(
    pieces: Iterable[tuple[str, str]], max_tokens: int, count: tokens.Count
) -> Iterator[tuple[str, str]]:
    """Join neighbours while they fit in `max_tokens`.

    Each piece comes behind what is to be between it and the one before, and so does what is made.
    """
    held: list[str] = []
    before, size = "", 0
    for separator, piece in pieces:
        length = count(piece) + 1  # the separator
        if held and size + length > max_tokens:
            yield before, "".join(held)
            held, size = [], 0
        if held:
            held.append(separator)
        else:
            before = separator
        held.append(piece)
        size += length
    if held:
        yield before, "".join(held)


def _cut_line(line: str, max_tokens: int, count: tokens.Count) -> Iterator[tuple[str, str]]:
    """Yield a line, or what it falls into if it is too long."""
    if len(line) <= max_tokens // _TOKENS_OF_A_CHARACTER or count(line) <= max_tokens:
        yield "", line
        return
    # Room for the separator that packing reckons with.
    for separator, part in pack(_sentences(line), max_tokens, count):
        if count(part) <= max_tokens:
            yield separator, part
            continue
        for index, (inner, piece) in enumerate(_cut_words(part, max_tokens, count)):
            yield inner if index else separator, piece


def _sentences(line: str) -> Iterator[tuple[str, str]]:
    """Yield sentences, each behind a blank if there is white space before it."""
    start, separator = 0, ""
    for match in _SENTENCE_END.finditer(line):
        end = match.end()
        if _ABBREVIATION.search(line[max(start, end - _LONGEST_ABBREVIATION) : end].rstrip()):
            continue
        sentence = line[start:end].rstrip()
        yield separator, sentence
        separator = " " if start + len(sentence) < end else ""
        start = end
    if line[start:].strip():
        yield separator, line[start:]


def _cut_words(sentence: str, max_tokens: int, count: tokens.Count) -> Iterator[tuple[str, str]]:
    return pack(
        (
            ("" if index else " ", part)
            for word in _WORD_END.split(sentence.strip())
            for index, part in enumerate(_cut_anywhere(word, max_tokens, count))
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
    start = 0
    while start < len(word):
        end = _end_of_part(word, start, start + width)
        yield from _cut_anywhere(word[start:end], max_tokens, count)
        start = end


def _end_of_part(word: str, start: int, wanted: int) -> int:
    """Return where to cut, at most at `wanted`: where no mark is parted from its letter.

    Only what is a single letter with marks all along is cut within.
    """
    if wanted >= len(word):
        return len(word)
    end = wanted
    while end > start and _clings(word, end):
        end -= 1
    return end if end > start else wanted


def _clings(word: str, at: int) -> bool:
    """Tell whether the character at a place belongs to the one before."""
    character = word[at]
    is_mark = unicodedata.category(character).startswith("M")
    return is_mark or character in _BEHIND or character == "\u200d" or word[at - 1] in _BEFORE
