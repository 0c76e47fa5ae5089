"""Telling a model that fails everybody from records that no model could answer. Pure.

An error of a server (500, a body that is no completion) may be the record's own fault, so each one
spends an attempt of its record. When a server answers nobody any more, that would turn a whole
shard into failures within seconds. So after a few such errors in a row, with no completion between
them, the server is asked for next to nothing, once for everybody who waits for the verdict:

    it answers         the records are at fault; they go on paying, and it is left alone for a while
    it does not        an outage: nobody pays, and one request at a time asks whether it is over
"""

from __future__ import annotations

import dataclasses
import math

from kubesynth_runner.llm.errors import ErrorKind

# The record's fault or the server's: when there are many of them, it is to be found out.
SUSPECT = frozenset({ErrorKind.SERVER_ERROR, ErrorKind.TIMEOUT, ErrorKind.MALFORMED_RESPONSE})
# Fewer than a record's default attempts: a single slot must not fail its first record either.
SUSPECT_AFTER_ERRORS = 5
# Less than what the pauses between a record's attempts add up to: an outage that begins right after
# a good verdict is found out in time.
ACQUITTAL_SECONDS = 5.0


@dataclasses.dataclass(slots=True)
class Breaker:
    """What is known of one model's errors."""

    _errors_in_a_row: int = 0
    _acquitted_until: float = -math.inf

    def on_answer(self) -> None:
        """Note a completion, or an answer that blames the request alone."""
        self._errors_in_a_row = 0

    def on_error(self, now: float) -> bool:
        """Note an error of the server; return whether it is time to ask it for a verdict."""
        self._errors_in_a_row += 1
        return self._errors_in_a_row >= SUSPECT_AFTER_ERRORS and now >= self._acquitted_until

    def acquit(self, now: float) -> None:
        """Note that the server does answer others."""
        self._errors_in_a_row = 0
        self._acquitted_until = now + ACQUITTAL_SECONDS
