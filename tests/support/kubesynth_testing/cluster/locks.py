"""A lock between processes, so that two builds or two starts at once do not meet."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_POLL_SECONDS = 0.3


@contextmanager
def file_lock(path: Path, *, until: Callable[[], bool] = lambda: False) -> Iterator[bool]:
    """Hold an exclusive lock on a file; the kernel frees it when the process dies.

    Args:
        path: The lock file, made if it is missing and left behind.
        until: Asked while another process holds the lock. When it turns true the wait ends.

    Yields:
        True with the lock held, False when `until` ended the wait.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if until():
                    yield False
                    return
                time.sleep(_POLL_SECONDS)
            else:
                yield True
                return
    finally:
        os.close(descriptor)
