"""What a server says about its rate limits with every answer: `x-ratelimit-*`. Pure.

OpenAI's names, which Azure OpenAI, Groq, LiteLLM and others follow:

    x-ratelimit-limit-requests      x-ratelimit-limit-tokens        of the whole window
    x-ratelimit-remaining-requests  x-ratelimit-remaining-tokens    left of it now
    x-ratelimit-reset-requests      x-ratelimit-reset-tokens        until all of it is there again

A reset is `20ms`, `1s`, `6m0s`, plain seconds, or a moment in seconds since 1970.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime

from kubesynth_runner.llm.retry_after import duration_seconds, number

_REMAINING = ("x-ratelimit-remaining-requests", "x-ratelimit-remaining-tokens")


@dataclasses.dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of one limit; None where the server does not say."""

    remaining: float
    limit: float | None = None
    reset_seconds: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class RateLimits:
    """The allowances of one answer."""

    requests: Allowance | None = None
    tokens: Allowance | None = None


def is_announced(headers: Mapping[str, str]) -> bool:
    """Tell quickly whether there is anything to read; names are compared as `headers` does."""
    return _REMAINING[0] in headers or _REMAINING[1] in headers


def read(headers: Mapping[str, str], *, now: datetime) -> RateLimits:
    """Return what the headers of an answer say; what makes no sense is left out."""
    return RateLimits(
        _allowance(headers, "requests", now),
        _allowance(headers, "tokens", now),
    )


def _allowance(headers: Mapping[str, str], unit: str, now: datetime) -> Allowance | None:
    remaining = number(headers.get(f"x-ratelimit-remaining-{unit}"))
    limit = number(headers.get(f"x-ratelimit-limit-{unit}"))
    # Some servers write 0 of 0 for "no limit".
    if remaining is None or limit == 0:
        return None
    reset_seconds = duration_seconds(headers.get(f"x-ratelimit-reset-{unit}"), now)
    return Allowance(remaining, limit, reset_seconds)
