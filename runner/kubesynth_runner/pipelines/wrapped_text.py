"""A text that is wrapped over lines: these are added one by one, in time linear in all of them.

An answer may be one item of thousands of lines. What decides whether the next one belongs to it is
looked for at its end, never in all of it, and it is put together once.
"""

from __future__ import annotations

# Enough for the end of a sentence, whatever quotes and brackets are closed behind it.
_TAIL_CHARACTERS = 64
_BOLD = "**"


class WrappedText:
    """The text of an item, so far. `tail` is its end, `length` counts its characters."""

    __slots__ = ("_has_bold_inside", "_pieces", "length", "tail")

    def __init__(self, first: str) -> None:
        """Begin with a line; without text if that stands below."""
        self._pieces: list[str] = []
        self._has_bold_inside = False
        self.length = 0
        self.tail = ""
        self.add(first)

    def __str__(self) -> str:
        """Return all of it, a blank between two lines."""
        return " ".join(self._pieces)

    def add(self, line: str) -> None:
        """Add a line; an empty one is none."""
        if not line:
            return
        blank = " " if self._pieces else ""
        self._pieces.append(line)
        self.length += len(blank) + len(line)
        self.tail = (self.tail + blank + line[-_TAIL_CHARACTERS:])[-_TAIL_CHARACTERS:]

    @property
    def is_bold(self) -> bool:
        """Whether one pair of `**` is around all of it."""
        is_around = self.length > 2 * len(_BOLD) and self.tail.endswith(_BOLD)
        if self._has_bold_inside or not is_around or not self._pieces[0].startswith(_BOLD):
            return False
        # What is inside stays there, and a text that is bold as a whole gets no more lines.
        self._has_bold_inside = _BOLD in str(self)[len(_BOLD) : -len(_BOLD)]
        return not self._has_bold_inside
