from __future__ import annotations

import random

from kubesynth_runner.engine import retry


def test_waits_double_between_half_and_all_of_their_length() -> None:
    assert [retry.delay_seconds(n, 0.0) for n in (1, 2, 3)] == [0.25, 0.5, 1.0]
    assert [retry.delay_seconds(n, 1.0) for n in (1, 2, 3)] == [0.5, 1.0, 2.0]


def test_waits_are_bounded_whatever_the_number_of_attempts() -> None:
    draw = random.Random(1)
    for attempts in range(1, 101):
        delay = retry.delay_seconds(attempts, draw.random())
        assert 0.25 <= delay <= retry.BACKOFF_LIMIT_SECONDS
