"""Progress lines for people who watch the harness build for minutes."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_START = time.monotonic()
_LOCK = threading.Lock()


def say(message: str) -> None:
    """Print one line on stderr, with the seconds since the process started."""
    with _LOCK:
        print(f"[cluster {time.monotonic() - _START:6.1f}s] {message}", file=sys.stderr, flush=True)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Say that a step begins, and how many seconds it took or that it failed."""
    say(f"{title} ...")
    began = time.monotonic()
    try:
        yield
    except BaseException:
        say(f"{title}: FAILED after {time.monotonic() - began:.1f} s")
        raise
    say(f"{title}: {time.monotonic() - began:.1f} s")
