"""Which models answer nobody, since when, and when that is too long to go on."""

from __future__ import annotations

import dataclasses

from kubesynth_api.conditions import Reason
from kubesynth_runner import errors
from kubesynth_runner.llm.absence import Absence
from kubesynth_runner.llm.errors import FATAL_AT_ONCE, ClientError


@dataclasses.dataclass(slots=True)
class Silence:
    """What is known of one model that does not answer."""

    role: str
    # A longer outage ends the process; its work is taken up again later.
    limit_seconds: float
    _since: float | None = None
    _absence: Absence = dataclasses.field(default_factory=Absence)

    def on_answer(self) -> None:
        """Note that it answers."""
        self._since = None
        self._absence.on_answer()

    def give_up_if_fatal(self, failure: ClientError, now: float) -> None:
        """Note a failure.

        Raises:
            RetryLaterError: no record can succeed until a person changes something.
        """
        absent = self._absence.is_final(failure, now)
        if absent or failure.kind in FATAL_AT_ONCE:
            raise errors.RetryLaterError(
                Reason.MODEL_UNHEALTHY, f"model {self.role!r}: {failure}"
            ) from failure

    def give_up_if_long(self, failure: ClientError, now: float) -> None:
        """Note a failure that anybody would have met.

        Raises:
            RetryLaterError: there has been no answer for too long.
        """
        if self._since is None:
            self._since = now
        seconds = now - self._since
        if seconds > self.limit_seconds:
            raise errors.RetryLaterError(
                Reason.MODEL_UNHEALTHY,
                f"model {self.role!r} has not answered for {seconds:.0f} s: {failure}",
            ) from failure
