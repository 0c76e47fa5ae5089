from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kubesynth_runner.llm.retry_after import retry_after_seconds

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param({}, None, id="nothing"),
        pytest.param({"retry-after": "7"}, 7.0, id="seconds"),
        pytest.param({"retry-after": "0.25"}, 0.25, id="fraction"),
        pytest.param({"retry-after": "-3"}, 0.0, id="negative"),
        pytest.param({"retry-after": "inf"}, None, id="infinite"),
        pytest.param({"retry-after": "soon"}, None, id="garbage"),
        pytest.param({"retry-after": "Sun, 01 Mar 2026 12:01:30 GMT"}, 90.0, id="http-date"),
        pytest.param({"retry-after": "Sun, 01 Mar 2026 11:00:00 GMT"}, 0.0, id="past-date"),
        pytest.param({"retry-after": "Sun, 01 Mar 2026 12:00:10 -0000"}, 10.0, id="no-zone-date"),
        pytest.param({"retry-after-ms": "1500", "retry-after": "60"}, 1.5, id="milliseconds-win"),
        pytest.param(
            {"retry-after": "2", "x-ratelimit-reset-requests": "60s"}, 2.0, id="retry-after-wins"
        ),
        pytest.param({"x-ratelimit-reset-requests": "6m0s"}, 360.0, id="minutes"),
        pytest.param({"x-ratelimit-reset-requests": "1h2m3.5s"}, 3723.5, id="hours"),
        pytest.param({"x-ratelimit-reset-tokens": "120ms"}, 0.12, id="reset-milliseconds"),
        pytest.param({"x-ratelimit-reset-tokens": "30"}, 30.0, id="plain-number"),
        pytest.param(
            {"x-ratelimit-reset-tokens": str(int(NOW.timestamp()) + 45)}, 45.0, id="epoch-seconds"
        ),
        pytest.param({"x-ratelimit-reset-tokens": "tomorrow"}, None, id="odd-reset"),
        pytest.param(
            {
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-requests": "10",
                "x-ratelimit-reset-tokens": "20s",
                "x-ratelimit-remaining-tokens": "0",
            },
            20.0,
            id="the-exhausted-limit-counts",
        ),
        pytest.param(
            {"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "20s"},
            1.0,
            id="shorter-one-if-none-is-exhausted",
        ),
    ],
)
def test_wait_is_read_from_headers(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_seconds(429, headers, now=NOW) == seconds


def test_rate_limit_headers_do_not_delay_an_outage() -> None:
    assert retry_after_seconds(503, {"x-ratelimit-reset-requests": "60s"}, now=NOW) is None
