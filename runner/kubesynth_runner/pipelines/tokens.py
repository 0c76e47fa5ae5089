"""How many tokens a text has, about: no tokenizer at hand, and no model asked.

Byte-pair vocabularies of current models give a common word of a Latin script one token and a long
one several, other alphabets about one for two or three letters, a Chinese character or a Korean
syllable about one each, and a number one for up to three digits. docs/stages.md says how far off
that is; a limit of the server's own is never relied on.
"""

from __future__ import annotations

import re
from collections.abc import Callable

# How many tokens a text has, without those that mark its beginning and end.
Count = Callable[[str], int]

_PIECE = re.compile(
    r"(?P<latin>[A-Za-z]+)"
    r"|(?P<digits>\d+)"
    r"|(?P<ideograph>[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff])"
    r"|(?P<letters>[^\W\d_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]+)"
    r"|(?P<marks>[^\w\s]+|_+)"
    r"|(?P<breaks>\n\s*)"
)
# Longest piece that is usually one token.
_LATIN_WORD, _LATIN_PART = 8, 5
_DIGITS = 3
_LETTERS = 3
_MARKS = 2


def count(text: str) -> int:
    """Return about how many tokens `text` has, without those that mark its beginning and end."""
    total = 0
    for match in _PIECE.finditer(text):
        length = match.end() - match.start()
        match match.lastgroup:
            case "latin":
                total += 1 if length <= _LATIN_WORD else -(-length // _LATIN_PART)
            case "digits":
                total += -(-length // _DIGITS)
            case "letters":
                total += -(-length // _LETTERS)
            case "marks":
                total += -(-length // _MARKS)
            case _:
                total += 1
    return total
