from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kubesynth_runner.llm.rate_limits import Allowance, RateLimits, is_announced, read

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _headers(unit: str, **values: str) -> dict[str, str]:
    return {f"x-ratelimit-{name}-{unit}": value for name, value in values.items()}


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        pytest.param("1s", 1.0, id="seconds"),
        pytest.param("6m0s", 360.0, id="minutes"),
        pytest.param("20ms", 0.02, id="milliseconds"),
        pytest.param("2m59.56s", 179.56, id="fraction"),
        pytest.param("1h2m3s", 3723.0, id="hours"),
        pytest.param("7", 7.0, id="azure"),
        pytest.param(str(NOW.timestamp() + 5), 5.0, id="moment"),
        pytest.param("soon", None, id="nonsense"),
    ],
)
def test_reset_is_read_in_every_format(reset: str, seconds: float | None) -> None:
    headers = _headers("requests", limit="60", remaining="59", reset=reset)
    assert is_announced(headers)
    assert read(headers, now=NOW) == RateLimits(Allowance(59.0, 60.0, seconds))


def test_both_units_are_read() -> None:
    headers = _headers("requests", remaining="1") | _headers(
        "tokens", limit="150000", remaining="149984", reset="6ms"
    )
    assert read(headers, now=NOW) == RateLimits(
        Allowance(1.0), Allowance(149984.0, 150000.0, 0.006)
    )


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="none"),
        pytest.param(_headers("requests", limit="0", remaining="0"), id="no-limit"),
        pytest.param(_headers("tokens", remaining="many"), id="nonsense"),
    ],
)
def test_what_makes_no_sense_is_no_limit(headers: dict[str, str]) -> None:
    assert read(headers, now=NOW) == RateLimits()
