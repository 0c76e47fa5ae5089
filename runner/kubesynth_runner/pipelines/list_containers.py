"""Lists in tables, markup, YAML objects, and on one line."""

from __future__ import annotations

import re
from collections.abc import Iterator

_TAGS = ("li", "item", "question", "topic", "fact")
_TAG = re.compile(rf"<({'|'.join(_TAGS)})\b[^>]{{0,200}}>", re.I)
_END_TAGS = {tag: re.compile(f"</{tag}>", re.I) for tag in _TAGS}
_LATEX = re.compile(
    r"^[ \t]{0,12}\\item[ \t]+(.*?)(?=\n[ \t]{0,12}\\(?:item\b|end\{)|\Z)", re.MULTILINE | re.DOTALL
)
_ROW = re.compile(r"^[ \t]*\|", re.MULTILINE)
_RULE_ROW = re.compile(r"\s*+(?:\|\s*+)?:?-{2,}+:?\s*+(?:\|\s*+:?-{2,}+:?\s*+)*+(?:\|\s*+)?")
_NUMBER_HEADS = frozenset({"#", "no", "no.", "nr", "nr.", "id", "number", "\u2116"})
_YAML_OBJECT = re.compile(
    r"^([ \t]{0,12})[-*][ \t]+(?:(?:id|no|number)[ \t]*:[ \t]*\d+[ \t]*\n[ \t]+)?"
    r"(?:question|topic|title|name|item|fact|text)[ \t]*:[ \t]+(\S.*)$",
    re.I | re.M,
)
_FOLDED = re.compile(r"^([ \t]*[-*][ \t]+)[>|][-+]?[ \t]*\n[ \t]+(?=\S)", re.MULTILINE)
_STRAIGHT = re.compile("\"([^\"\n]+)\"|'((?:[^'\n]|(?<=\\w)'(?=\\w))+)'")
_QUOTED = re.compile(f"{_STRAIGHT.pattern}|\u201c([^\u201d\n]+)(?:\u201d|(?P<open>\\Z))")
_SEPARATORS = (";", "\uff1b", "\u3001", "\u060c", "\uff0c", "\u2022", "\u00b7", "|", ",")
# Before the last one.
_AND = re.compile(r"(?:,|(?<!\s))\s++(?:and|und|et|y)\s+")
_LABEL = re.compile(r"\A[^:\uff1a,;\u3001\u060c\n]{0,60}[:\uff1a]\s*")
_LONGEST_INLINE_ITEM = 80
_SENTENCE_END = re.compile(r"[.!?\u3002\uff01\uff1f\u061f](?:\s|\Z)")


def items(text: str, expected: int | None) -> list[str] | None:
    """Return the items of a list in one of these forms, or None if it is in another."""
    for read in (_elements, _table, objects):
        found = read(text)
        if found:
            return found
    return _on_one_line(text, expected)


def above_table(text: str) -> str:
    """Return what stands above a table; all of a text without one is."""
    row = _ROW.search(text)
    return text[: row.start()] if row else ""


def unfold(text: str) -> str:
    """Return YAML with its block scalars behind their markers."""
    return _FOLDED.sub(r"\1", text)


def _elements(text: str) -> list[str]:
    found = [inside.strip() for inside in _inside_tags(text)]
    return found if len(found) > 1 else [match[1].strip() for match in _LATEX.finditer(text)]


def _inside_tags(text: str) -> Iterator[str]:
    """Yield what stands between a tag and the next one that closes it."""
    open_ended: set[str] = set()
    position = 0
    while tag := _TAG.search(text, position):
        name = tag[1].lower()
        end = None if name in open_ended else _END_TAGS[name].search(text, tag.end())
        if end is None:
            open_ended.add(name)  # nothing closes the later ones either
            position = tag.start() + 1
        else:
            yield text[tag.end() : end.start()]
            position = end.end()


def objects(text: str) -> list[str]:
    """Return the texts of a YAML list of objects."""
    found = [match[2].strip() for match in _YAML_OBJECT.finditer(text)]
    return found if len(found) > 1 else []


def _table(text: str) -> list[str]:
    """Return the first column of a Markdown table that does not number its rows."""
    lines = text.split("\n")
    rule = next(
        (
            i
            for i, line in enumerate(lines)
            if "-" in line and "|" in line and _RULE_ROW.fullmatch(line)
        ),
        None,
    )
    if rule is None or rule == 0 or "|" not in lines[rule - 1]:
        return []
    head = _cells(lines[rule - 1])
    rows = [_cells(line) for line in _until_blank(lines[rule + 1 :])]
    if not rows:
        return []
    column = 0
    while column + 1 < len(head) and _numbers(head[column], [row[column] for row in rows]):
        column += 1
        rows = [row for row in rows if column < len(row)]
    return [row[column] for row in rows if row[column]]


def _until_blank(lines: list[str]) -> Iterator[str]:
    for line in lines:
        if "|" not in line:
            return
        yield line


def _cells(line: str) -> list[str]:
    return [
        cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))
    ]


def _numbers(head: str, cells: list[str]) -> bool:
    plain = head.strip("*_ ").lower()
    return plain in _NUMBER_HEADS or all(cell.strip("*_. )").isdigit() for cell in cells)


def _on_one_line(text: str, expected: int | None) -> list[str] | None:
    """Return what stands between commas, if it is as much as was asked for."""
    line = text.strip()
    if "\n" in line or not line:
        return None
    quoted, around = _quoted(line)
    rest = around.strip(" ,;()[]=")
    if len(quoted) > 1 and (not rest or re.fullmatch(r"\w+", rest)):
        return quoted
    line = _LABEL.sub("", line)
    if _SENTENCE_END.search(line.rstrip(".\u3002")):
        return None
    for separator in _SEPARATORS:
        joined = line.rstrip(".\u3002").strip(f"{separator} ")
        parts = [part.strip() for part in joined.split(separator)]
        if separator == "," and len(listed := _listed(joined)) == expected:
            parts = [part.strip() for part in listed]
        if len(parts) > 1 and len(parts) == expected:
            return parts if all(0 < len(part) <= _LONGEST_INLINE_ITEM for part in parts) else None
    return None


def _quoted(line: str) -> tuple[list[str], str]:
    """Return what stands between quotes, and what stands around them."""
    found: list[str] = []
    around: list[str] = []
    pattern = _QUOTED
    position = start = 0
    while match := pattern.search(line, start):
        if match.lastgroup == "open":
            pattern, start = _STRAIGHT, match.start() + 1  # nothing closes the later ones either
            continue
        found.append(next(filter(None, match.groups())))
        around.append(line[position : match.start()])
        position = start = match.end()
    return found, "".join((*around, line[position:]))


def _listed(line: str) -> list[str]:
    """Return what stands between commas, and around the words behind the last one that are one."""
    last = max(0, line.rfind(","))
    return (line[:last] + _AND.sub(", ", line[last:])).split(",")
