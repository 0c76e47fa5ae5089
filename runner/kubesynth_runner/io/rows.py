"""Records of a file as they are read, before anything is made of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class GoodRecord:
    """A record of a file: its position (1-based line, row or 1) and its columns."""

    position: int
    columns: dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that cannot be read, and why; `raw` is the beginning of it.

    `columns` are those that can be read by themselves, where the format has such.
    """

    position: int
    message: str
    raw: str
    columns: dict[str, Any] = dataclasses.field(default_factory=dict)


# Called with each record of a file in order: its position, and its columns, or None if it cannot be
# read or nobody asked for them. Returns whether to go on.
Visit = Callable[[int, dict[str, Any] | None], bool]
