"""What others wrote and we cannot read: left out, counted, and told once.

A pod's labels and last words, its answers, a stored object of another version: anybody who may
create a pod can write them, so one that makes no sense must cost nobody but its owner. It is left
out, with its name and a traceback in the log (for it may be our own mistake), once for each version
of it and not at every list.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from kubesynth_operator.metrics import Metrics

_logger = logging.getLogger(__name__)
# What reading raises when data is not what its reader takes it for. Anything else is no matter of
# data, and ends the process.
_READING_ERRORS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
# So many are remembered; of more than that some are told again.
_MEMORY = 2000


class Unreadable:
    """Leaves out what cannot be read, for all of the operator's readers."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._told: dict[tuple[str, str], str] = {}

    @contextmanager
    def left_out(self, kind: str, name: str, version: str = "") -> Iterator[None]:
        """Read one thing in this block; if that fails, the rest of the block is left out.

        Args:
            kind: What it is; a label of the metric.
            name: Which one.
            version: Of the thing; as long as it stays the same, nothing more is said.
        """
        which = (kind, name)
        try:
            yield
        except _READING_ERRORS as exc:
            if self._told.get(which) == version:
                return
            self._metrics.unreadable.labels(kind=kind).inc()
            fields = {"kind": kind, "object": name, "error": f"{type(exc).__name__}: {exc}"}
            _logger.exception("left out what cannot be read", extra=fields)
            while len(self._told) >= _MEMORY:
                del self._told[next(iter(self._told))]
            self._told[which] = version
        else:
            self._told.pop(which, None)
