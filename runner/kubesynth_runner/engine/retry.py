"""When to try a failed request again, and what it costs. Pure: the random number is passed in.

A refusal, or a connection that was closed, is no affair of the record: the server may be on its way
out, and then takes down whatever it has under way. Such a request is sent again, and spends none of
its record's attempts. It may be the request that breaks the server, though. Two things tell:

    the server answers others right now        asked for once in so many refusals of a request
    it broke so often, having answered since   it was back each time, until it met this request
"""

from __future__ import annotations

import dataclasses

BACKOFF_SECONDS = 0.5
BACKOFF_LIMIT_SECONDS = 30.0
# A request that is put off so often in a row may be at fault itself: it takes a gateway's patience,
# or the server down with it.
REFUSALS_PER_ATTEMPT = 4


def delay_seconds(attempts: int, random: float) -> float:
    """Return how long to wait after `attempts` failed tries; `random` is in [0, 1).

    Exponential with equal jitter: half of the wait is fixed, half random, so that records that
    failed together do not come back together.
    """
    full = min(BACKOFF_LIMIT_SECONDS, BACKOFF_SECONDS * 2.0 ** (attempts - 1))
    return full / 2 + full / 2 * random


@dataclasses.dataclass(slots=True)
class Patience:
    """What one request has met with that cost it nothing."""

    refusals: int = 0
    _breaks: int = 0
    _answers_at_break: int = -1

    def on_refusal(self) -> bool:
        """Note a refusal; return whether it is time to ask if the server answers others."""
        self.refusals += 1
        return self.refusals % REFUSALS_PER_ATTEMPT == 0

    def on_break(self, answers: int) -> bool:
        """Note that the connection failed; return whether the request is to blame for it.

        `answers` is how many the server has given to anybody.
        """
        if answers != self._answers_at_break:
            self._breaks += 1
        self._answers_at_break = answers
        return self._breaks >= REFUSALS_PER_ATTEMPT
