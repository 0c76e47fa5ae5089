"""Requests of one model on their way into a batch: a file in /tmp."""

from __future__ import annotations

import tempfile
from pathlib import Path


class Outbox:
    """An input file that is being written. It is gone when it is closed."""

    def __init__(self) -> None:
        self.requests = 0
        self.size_bytes = 0
        self._file = tempfile.NamedTemporaryFile(prefix="kubesynth-batch-", suffix=".jsonl")  # noqa: SIM115
        self.path = Path(self._file.name)

    def add(self, line: bytes) -> None:
        """Append a request."""
        self._file.write(line)
        self.requests += 1
        self.size_bytes += len(line)

    def finish(self) -> None:
        """Make all of it readable at `path`."""
        self._file.flush()

    def close(self) -> None:
        """Delete it. Safe to repeat."""
        self._file.close()
