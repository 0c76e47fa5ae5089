"""Code in the items of a list, hidden from what reads the list, and put back as it was."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kubesynth_runner.pipelines import fences, json_lists, marked_lines

_OPENING = re.compile(r"(`{3,})(?:markdown|md|text|txt|plaintext)?\s*")
# In these a whole list may stand.
_OF_LISTS = frozenset(
    (
        *("", "json", "jsonl", "json5", "yaml", "yml", "text", "txt", "plaintext"),
        *("markdown", "md", "html", "xml", "latex", "tex", "csv", "list"),
    )
)
_LEFT, _RIGHT = "\ue000", "\ue001"
_HIDDEN = re.compile(rf"^([^\n]*?){_LEFT}(\d{{1,6}}){_RIGHT}", re.MULTILINE)
# The marks where an answer has them itself, also as JSON escapes, which are read later.
_NOT_OURS = re.compile(rf"[{_LEFT}{_RIGHT}]|(?<!\\)((?:\\\\)*+)\\u[eE]00[01]")


def hide(text: str, expected: int | None) -> tuple[str, list[str]]:
    """Return a text with a line in the place of each block of code, and the blocks.

    A block that holds the list itself stays.
    """
    text = _unwrapped(_NOT_OURS.sub(r"\1", text.replace("\r\n", "\n")))
    found = list(fences.on_lines(text))
    blocks: list[str] = []
    pieces: list[str] = []
    position = behind = 0
    is_below = False
    for match in found:
        is_below = is_below or bool(marked_lines.items(text[behind : match.start()]))
        behind = match.end()
        stays = not is_below and _holds_list(text, match, len(found), expected)
        if stays or "</think>" in match["inside"]:
            continue
        pieces += (text[position : match.start()], f"{match['lead']}{_LEFT}{len(blocks)}{_RIGHT}")
        blocks.append(_block(match))
        position = match.end()
    return "".join((*pieces, text[position:])), blocks


def restore(text: str, blocks: Sequence[str]) -> str:
    """Return a text with its blocks of code back in their places; other marks stay."""

    def block(match: re.Match[str]) -> str:
        before, number = match[1], int(match[2])
        if number >= len(blocks):
            return match[0]
        indent = before if not before.strip() else ""
        return before + blocks[number].replace("\n", f"\n{indent}")

    return _HIDDEN.sub(block, text)


def without(text: str) -> str:
    """Return a text without the lines that stand for blocks of code."""
    return _HIDDEN.sub(r"\1", text)


def count(text: str) -> int:
    """Return how many blocks are hidden in a text."""
    return text.count(_LEFT)


def _unwrapped(text: str) -> str:
    """Return a list out of a fence around all of it, which has fences of its own within."""
    lines = text.strip().split("\n")
    opening = _OPENING.fullmatch(lines[0])
    if opening is None or len(lines) < 3 or lines[-1].strip() != opening[1]:
        return text
    is_nested = any(line.lstrip().startswith(opening[1]) for line in lines[1:-1])
    return "\n".join(lines[1:-1]) if is_nested and marked_lines.items(lines[1]) else text


def _holds_list(text: str, match: re.Match[str], fences: int, expected: int | None) -> bool:
    if match["language"].lower() not in _OF_LISTS or match["lead"].strip(" \t>"):
        return False
    before, inside = _last_character(text, match.start()), match["inside"]
    if match["language"].lower().startswith("json"):
        return True
    if before in marked_lines.QUESTION_MARKS:
        return False
    is_json = inside.lstrip().startswith(("[", "{")) and json_lists.find(inside) is not None
    if is_json or marked_lines.items(inside):
        return True
    return fences == 1 and (expected != 1 or not before)


def _last_character(text: str, end: int) -> str:
    """Return the last character before a place that is no white space; "" if there is none."""
    while end and text[end - 1].isspace():
        end -= 1
    return text[max(0, end - 1) : end]


def _block(match: re.Match[str]) -> str:
    width = len(match["indent"].expandtabs(4)) or (3 if match["lead"] else 0)
    lines = [_dedented(line, width) for line in match["inside"].rstrip("\n").split("\n")]
    is_closed = match[0].rstrip(" \t").endswith(match["mark"])
    fence = f"{match['mark']}{match['language']}{match['info']}".rstrip()
    return "\n".join((fence, *lines, *((match["mark"],) if is_closed else ())))


def _dedented(line: str, width: int) -> str:
    """Return a line without the white space that it has because its block is in a list."""
    blank = len(line) - len(line.lstrip(" \t>"))
    return line[min(width, blank) :]
