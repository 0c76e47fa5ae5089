"""Fences of Markdown (CommonMark 4.5), as models put them around an answer or into it."""

from __future__ import annotations

import re
from collections.abc import Iterator

# Possessive, and no marks of any length, so that a line without an end is read once.
_MARK = (
    r"(?P<mark>(?<![`~])(?:`{3,40}+(?!`)|~{3,40}+(?!~)))"
    r"(?P<language>[\w+#.-]*+)(?P<info>[^\n`]*+)\n(?P<inside>.*?)"
)
# Anywhere: models open one behind a colon, and close it behind the last word.
_ANYWHERE = re.compile(
    rf"{_MARK}(?P<end>(?:\n|(?<![ \t]))[ \t]*(?P=mark)[ \t]*(?=\n|\Z)|\Z)", re.DOTALL
)
# On lines of their own, maybe in an item of a list: what is code there.
_ON_LINES = re.compile(
    rf"^(?P<lead>(?P<indent>[ \t>]*)(?:(?:\d{{1,3}}[.)]|[-*+])[ \t]+)?){_MARK}"
    r"(?:^[ \t>]*(?P=mark)[ \t]*$|\Z)",
    re.MULTILINE | re.DOTALL,
)
_CODE = re.compile(r"(```.*?```|`[^`\n]+`)", re.DOTALL)


def around(text: str) -> str | None:
    """Return what is in the fence around all of a text; None if there is none, or it is open."""
    match = _ANYWHERE.fullmatch(text.strip())
    return match["inside"] if match and match["end"].strip() else None


def find(text: str) -> Iterator[re.Match[str]]:
    """Yield the blocks of a text, each with its `inside`; the last one may be cut off."""
    return _ANYWHERE.finditer(text)


def on_lines(text: str) -> Iterator[re.Match[str]]:
    """Yield the blocks whose fences have lines of their own, with what stands before them.

    `lead` is that, a marker included, `indent` its white space; `mark`, `language` and `info` are
    those of the fence.
    """
    return _ON_LINES.finditer(text)


def split(text: str) -> list[str]:
    """Return the parts of a text: what is no code, a piece of code, what is none, and so on."""
    return _CODE.split(text)
