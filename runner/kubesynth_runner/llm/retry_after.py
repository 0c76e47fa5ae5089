"""Reading how long a server asks its clients to wait. Pure: the clock is a parameter.

Three dialects, most explicit first: `retry-after-ms` (OpenAI, Azure), `Retry-After` in seconds or
as an HTTP date (RFC 9110, section 10.2.3), and `x-ratelimit-reset-requests` and `-tokens` (OpenAI
and those that follow it), whose values look like `1s`, `6m0s` or `120ms`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

_SECONDS_PER_UNIT = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|h|m|s)")
# A plain number this large is a moment, not a duration: seconds since 1970 (in 2001 already).
_EPOCH_SECONDS_FROM = 1e9


def retry_after_seconds(status: int, headers: Mapping[str, str], *, now: datetime) -> float | None:
    """Return the wait that a refusal asks for, at least 0, or None if it asks for none.

    `headers` has lower-case names; `now` is timezone-aware. The rate limit's own headers count only
    with status 429: they come with every answer.
    """
    milliseconds = number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    retry_after = headers.get("retry-after")
    if retry_after is not None:
        seconds = number(retry_after)
        return seconds if seconds is not None else _until(retry_after, now)
    return _rate_limit_reset(headers, now) if status == 429 else None


def _rate_limit_reset(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return when the exhausted limit is whole again; the shorter one if none says it is."""
    resets: dict[str, float] = {}
    for unit in ("requests", "tokens"):
        seconds = duration_seconds(headers.get(f"x-ratelimit-reset-{unit}"), now)
        if seconds is not None:
            resets[unit] = seconds
    exhausted = [
        seconds
        for unit, seconds in resets.items()
        if number(headers.get(f"x-ratelimit-remaining-{unit}")) == 0
    ]
    if exhausted:
        return max(exhausted)
    return min(resets.values(), default=None)


def number(text: str | None) -> float | None:
    """Return a number of at least 0, or None if `text` is none."""
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return max(0.0, value) if math.isfinite(value) else None


def _until(text: str, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:  # "-0000": UTC, of unknown origin
        moment = moment.replace(tzinfo=now.tzinfo)
    return max(0.0, (moment - now).total_seconds())


def duration_seconds(text: str | None, now: datetime) -> float | None:
    """Return the seconds that `text` stands for: `1m2.5s`, a number, or a moment in seconds.

    None if it is nothing of these.
    """
    if text is None:
        return None
    plain = number(text)
    if plain is not None:
        return max(0.0, plain - now.timestamp()) if plain > _EPOCH_SECONDS_FROM else plain
    stripped = text.strip()
    if not stripped or _DURATION.sub("", stripped):
        return None
    return sum(
        float(value) * _SECONDS_PER_UNIT[unit] for value, unit in _DURATION.findall(stripped)
    )
