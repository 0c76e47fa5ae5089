"""Telling a model that does not exist from one that is away for a moment. Pure.

HTTP 404 is not always the model's own word. A gateway answers so while it has no route, or nobody
behind it; so does a proxy on the way out of a cluster, for the address of a pod that has just gone.
A wrong name or url is answered so for ever.
"""

from __future__ import annotations

import dataclasses

from kubesynth_runner.llm.errors import ClientError, ErrorKind

ABSENCE_LIMIT_SECONDS = 10.0


@dataclasses.dataclass(slots=True)
class Absence:
    """Since when one model has been said not to exist, by one answer after the other."""

    _since: float | None = None

    def on_answer(self) -> None:
        """Note that the model is there."""
        self._since = None

    def is_final(self, failure: ClientError, now: float) -> bool:
        """Note a failure; return whether there is no such model, as far as waiting can tell."""
        if failure.kind is not ErrorKind.MODEL_NOT_FOUND:
            self._since = None
            return False
        if self._since is None:
            self._since = now
        return now - self._since > ABSENCE_LIMIT_SECONDS
