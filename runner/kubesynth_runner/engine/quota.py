"""The pace that a server's own account of its limits allows. Pure: time is passed in.

Servers with `x-ratelimit-*` headers say with every answer how much of a limit is left and when all
of it will be there again. What is left is spread evenly over that time: the pace is
remaining / reset. That suits both kinds of limits without telling them apart:

- a window that is emptied at its end: the rest of it is spread over its rest;
- a bucket that is filled steadily: at half full, remaining / reset is the rate at which it is
  filled; above that the pace is faster and the bucket goes down, below it is slower and the bucket
  fills up. So it settles at the filling rate with half of the bucket in reserve.

Clients that share a key need not know of each other: each sees what all have left over.

Requests under way are taken off what is left, for the server's count is from the time at which the
answered request arrived. Where next to nothing is left, a bucket is trusted to be filled, and is
used at a tenth of its rate, which soon brings better news; in a window one request asks at its end.
"""

from __future__ import annotations

import math

from kubesynth_runner.llm.rate_limits import Allowance, RateLimits

# Limits are per minute where a server does not say when they are whole again.
WINDOW_SECONDS = 60.0
# Faster paces limit nothing.
UNLIMITED_PER_SECOND = 5_000.0
# A wish of a server is followed for so long at most; then it is asked again.
LONGEST_WAIT_SECONDS = 300.0
# A bucket that is filled within this share of a minute's limit per minute is one of a minute.
BUCKET_SHARE = 0.25
# Of the rate at which a bucket is filled, so much is used however little is left.
LEAST_SHARE = 0.1
# Starts that are late by a busy event loop are made up for, up to this much.
TOLERANCE_SECONDS = 0.02
# Weight of the newest answer in the mean of tokens per request.
TOKENS_WEIGHT = 0.05


class Quota:
    """When the next request may start, as far as the server's headers are concerned."""

    def __init__(self) -> None:
        self.next_start = -math.inf
        self.counts_tokens = False
        self._rate = math.inf
        self._last_start = -math.inf
        self._tokens_per_request: float | None = None

    @property
    def per_second(self) -> float:
        """The pace in requests per second, infinite if nothing limits it."""
        return self._rate

    def learn(self, tokens: int) -> None:
        """Take the tokens that an answered request has used."""
        if self._tokens_per_request is None:
            self._tokens_per_request = float(tokens)
        self._tokens_per_request += TOKENS_WEIGHT * (tokens - self._tokens_per_request)

    def update(self, now: float, limits: RateLimits, in_flight: int) -> None:
        """Take the newest account of the server's."""
        rates = []
        if limits.requests is not None:
            rates.append(_pace(limits.requests, float(in_flight), 1.0))
        if limits.tokens is not None:
            self.counts_tokens = True
            if self._tokens_per_request:
                cost = self._tokens_per_request
                rates.append(_pace(limits.tokens, in_flight * cost, cost))
        rate = min(rates, default=math.inf)
        self._rate = rate if rate < UNLIMITED_PER_SECOND else math.inf
        if self._rate == math.inf:
            self.next_start = -math.inf
            return
        wait_seconds = min(1.0 / self._rate, LONGEST_WAIT_SECONDS)
        begin = max(self._last_start, now - TOLERANCE_SECONDS - wait_seconds)
        self.next_start = begin + wait_seconds

    def start(self, now: float) -> None:
        """Note a request that starts."""
        self._last_start = now
        if self._rate < math.inf:
            wait_seconds = min(1.0 / self._rate, LONGEST_WAIT_SECONDS)
            self.next_start = max(self.next_start, now - TOLERANCE_SECONDS) + wait_seconds


def _pace(allowance: Allowance, under_way: float, cost: float) -> float:
    """Return requests per second for one limit, when each costs `cost` of its units."""
    reset_seconds = allowance.reset_seconds
    if reset_seconds is None:
        reset_seconds = WINDOW_SECONDS
    if reset_seconds <= 0.0:
        return math.inf
    left = allowance.remaining - under_way
    even = left / reset_seconds / cost
    least = max(1.0 / reset_seconds, 1.0 / LONGEST_WAIT_SECONDS)
    limit = allowance.limit
    if limit is not None and limit > allowance.remaining:
        filled_per_second = (limit - allowance.remaining) / reset_seconds
        if abs(filled_per_second * WINDOW_SECONDS / limit - 1.0) < BUCKET_SHARE:
            least = max(least, LEAST_SHARE * filled_per_second / cost)
    return max(even, least)
