"""When to try a failed request again. Pure: the random number is passed in."""

from __future__ import annotations

BACKOFF_SECONDS = 0.5
BACKOFF_LIMIT_SECONDS = 30.0


def delay_seconds(attempts: int, random: float) -> float:
    """Return how long to wait after `attempts` failed tries; `random` is in [0, 1).

    Exponential with equal jitter: half of the wait is fixed, half random, so that records that
    failed together do not come back together.
    """
    full = min(BACKOFF_LIMIT_SECONDS, BACKOFF_SECONDS * 2.0 ** (attempts - 1))
    return full / 2 + full / 2 * random
