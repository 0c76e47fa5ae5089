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


def test_every_fourth_refusal_is_a_reason_to_ask() -> None:
    patience = retry.Patience()
    assert [patience.on_refusal() for _ in range(8)] == [False] * 3 + [True] + [False] * 3 + [True]


def test_request_is_to_blame_when_the_server_was_back_and_broke_again() -> None:
    patience = retry.Patience()
    assert not any(patience.on_break(answers=7) for _ in range(20)), "one outage"
    assert [patience.on_break(answers) for answers in (8, 8, 9, 12, 12, 13)] == [
        False,
        False,
        False,
        True,
        True,
        True,
    ]
