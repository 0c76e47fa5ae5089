"""Waiting for what no `kubectl wait` can express."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(
    look: Callable[[], T], *, what: str, seconds: float = 400, every_seconds: float = 0.5
) -> T:
    """Look again and again until there is something true, and return it.

    Raises:
        TimeoutError: it did not come; the message says what was waited for and what was last seen.
    """
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s; last seen: {seen!r}")
        time.sleep(every_seconds)
