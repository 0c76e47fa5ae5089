"""Which models a process waits for, and why: told in the log once, and in its progress all along.

A model that cannot be reached is no error yet: it may be about to start. But whoever looks on must
learn of it within seconds, for as often the address is wrong, or something stands in between.
"""

from __future__ import annotations

import dataclasses
import logging
import re

from kubesynth_runner.llm.errors import ClientError

LOG = logging.getLogger(__name__)
# Of an answer that a server wrote; it ends up in a condition's message.
WHY_CHARACTERS = 400
# Numbers and identifiers that differ from try to try say nothing new.
_PASSING = re.compile(r"\b[0-9a-f]*\d[0-9a-f-]*\b", re.IGNORECASE)


@dataclasses.dataclass(frozen=True, slots=True)
class _Wait:
    why: str
    essence: tuple[str, ...]


class Waiting:
    """What is waited for, by role. One instance per process."""

    def __init__(self) -> None:
        self._waits: dict[str, _Wait] = {}

    def waits(self, role: str, failure: ClientError) -> None:
        """Note that the model of `role` does not answer; say so unless it has been said."""
        text = str(failure)
        status = str(failure.status_code or "")
        essence = (failure.kind.value, status, _PASSING.sub("#", text))
        known = self._waits.get(role)
        if known is not None and known.essence == essence:
            return
        why = text if len(text) <= WHY_CHARACTERS else text[: WHY_CHARACTERS - 1] + "…"
        self._waits[role] = _Wait(why, essence)
        LOG.warning("waiting for a model", extra={"model": role, "why": why})

    def answers(self, role: str) -> None:
        """Note that the model of `role` has answered."""
        if self._waits and self._waits.pop(role, None) is not None:
            LOG.info("the model answers", extra={"model": role})

    @property
    def sentence(self) -> str:
        """What is waited for, for people; nothing if nothing is."""
        return "; ".join(f"waiting for {role}: {wait.why}" for role, wait in self._waits.items())
