"""Requests and tokens per minute of one model, in this process. Pure: time is passed in.

Both are kept by the same scheme, the generic cell rate algorithm (GCRA, ITU-T I.371): a bucket that
holds next to nothing, so that a limit per minute is also kept in every second. What a minute allows
is handed out evenly; only what a late event loop has missed is made up for.

A request's tokens are known when it has been answered. They are reserved before, as many as the
prompt seems to have and as completions have had lately, and settled by the server's own count.
"""

from __future__ import annotations

import dataclasses
import math

SECONDS_PER_MINUTE = 60.0
# Starts that are late by a busy event loop or a coarse timer are made up for, up to this much.
TOLERANCE_SECONDS = 0.05
# Before anything is known: characters of a prompt per token, and tokens of a completion.
CHARACTERS_PER_TOKEN = 4.0
COMPLETION_TOKENS = 256.0
# Of a new measure in the moving averages.
WEIGHT = 0.05


class Meter:
    """Hands out so many units per minute, evenly. None hands out any number at once."""

    def __init__(self, per_minute: float | None) -> None:
        self.per_minute = per_minute
        self.opens_at = -math.inf

    def take(self, now: float, units: float) -> None:
        """Take units, and put off the next taker by the time that these are worth."""
        if self.per_minute is not None:
            start = max(self.opens_at, now - TOLERANCE_SECONDS)
            self.opens_at = start + units * SECONDS_PER_MINUTE / self.per_minute

    def correct(self, units: float) -> None:
        """Take so many more, or give so many back (negative), for something taken before."""
        if self.per_minute is not None:
            self.opens_at += units * SECONDS_PER_MINUTE / self.per_minute

    def change(self, now: float, per_minute: float | None) -> None:
        """Go on at another rate; what has been taken too early is still owed."""
        owed = max(0.0, self.opens_at - now)
        if self.per_minute is None or per_minute is None:
            self.opens_at = -math.inf if per_minute is None else now
        elif owed:
            self.opens_at = now + owed * self.per_minute / per_minute
        self.per_minute = per_minute


@dataclasses.dataclass(slots=True)
class TokenEstimator:
    """Guesses the tokens of a request from what answers have used so far."""

    _characters_per_token: float = CHARACTERS_PER_TOKEN
    _completion_tokens: float | None = None

    def prompt_tokens(self, characters: int) -> float:
        """Return how many tokens a prompt of so many characters seems to have."""
        return characters / self._characters_per_token

    def tokens(self, characters: int, max_tokens: int | None) -> float:
        """Return the tokens, prompt and completion, to reserve for a request."""
        completion = self._completion_tokens
        if completion is None:
            completion = COMPLETION_TOKENS if max_tokens is None else float(max_tokens)
        if max_tokens is not None:
            completion = min(completion, float(max_tokens))
        return self.prompt_tokens(characters) + completion

    def learn(self, characters: int, prompt_tokens: int, completion_tokens: int) -> None:
        """Take the server's count of an answered request."""
        if prompt_tokens > 0 and characters > 0:
            ratio = characters / prompt_tokens
            self._characters_per_token += WEIGHT * (ratio - self._characters_per_token)
        if self._completion_tokens is None:
            self._completion_tokens = float(completion_tokens)
        self._completion_tokens += WEIGHT * (completion_tokens - self._completion_tokens)


class Buckets:
    """What one model may be asked per minute by this process."""

    def __init__(
        self, requests_per_minute: float | None = None, tokens_per_minute: float | None = None
    ) -> None:
        self._requests = Meter(requests_per_minute)
        self._tokens = Meter(tokens_per_minute)

    @property
    def counts_tokens(self) -> bool:
        """Whether tokens are limited, so that requests have to be measured."""
        return self._tokens.per_minute is not None

    @property
    def limits_nothing(self) -> bool:
        """Whether nothing is limited."""
        return self._requests.per_minute is None and self._tokens.per_minute is None

    @property
    def opens_at(self) -> float:
        """When the next request may start. It may be in the past."""
        return max(self._requests.opens_at, self._tokens.opens_at)

    def start(self, now: float, tokens: float) -> None:
        """Count a request that starts, with the tokens reserved for it."""
        self._requests.take(now, 1.0)
        self._tokens.take(now, tokens)

    def settle(self, reserved: float, used: float) -> None:
        """Replace a reservation by what the request has really used."""
        self._tokens.correct(used - reserved)

    def change(
        self, now: float, requests_per_minute: float | None, tokens_per_minute: float | None
    ) -> None:
        """Go on with other limits."""
        self._requests.change(now, requests_per_minute)
        self._tokens.change(now, tokens_per_minute)
