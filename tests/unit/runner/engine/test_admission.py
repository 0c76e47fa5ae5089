from __future__ import annotations

import pytest

from kubesynth_runner.engine import admission
from kubesynth_runner.engine.admission import Admission


def entered(gate: Admission, now: float) -> int:
    """Take every free slot and return how many there were."""
    count = 0
    while gate.try_enter(now):
        count += 1
    return count


def test_as_many_may_enter_as_were_configured() -> None:
    gate = Admission(8)
    assert entered(gate, 0.0) == 8
    gate.leave()
    assert entered(gate, 0.0) == 1


def test_one_congestion_event_cuts_once() -> None:
    gate = Admission(100)
    for moment in range(100):  # all hundred are refused within half a second
        gate.on_backpressure(10.0 + moment / 250, None)
    assert gate.limit == pytest.approx(70.0)


def test_the_next_event_cuts_again() -> None:
    gate = Admission(100)
    gate.on_backpressure(10.0, None)
    gate.on_backpressure(10.6, None)
    assert gate.limit == pytest.approx(49.0)


def test_the_limit_never_falls_below_one_and_never_rises_above_the_configured() -> None:
    gate = Admission(4)
    for event in range(50):
        gate.on_backpressure(event * 10.0, None)
    assert gate.limit == 1.0
    for _ in range(1000):
        gate.on_answer()
    assert gate.limit == 4.0


def test_answers_add_about_one_slot_per_round() -> None:
    gate = Admission(100)
    gate.on_backpressure(0.0, None)
    before = gate.limit
    for _ in range(int(before)):
        gate.on_answer()
    assert before + 0.9 < gate.limit < before + 1.1


def test_nobody_enters_before_the_server_allows_it() -> None:
    gate = Admission(4)
    gate.on_backpressure(10.0, 2.5)
    assert entered(gate, 12.4) == 0
    assert entered(gate, 12.5) == 2


def test_a_shorter_wish_does_not_shorten_a_longer_one() -> None:
    gate = Admission(4)
    gate.on_backpressure(10.0, 5.0)
    gate.on_backpressure(10.1, 1.0)
    assert gate.closed_until == 15.0


def test_a_long_wish_is_honoured_and_an_absurd_one_is_not() -> None:
    gate = Admission(4)
    gate.on_backpressure(0.0, 120.0)
    assert gate.closed_until == 120.0
    gate.on_backpressure(0.0, 86_400.0)
    assert gate.closed_until == admission.RETRY_AFTER_LIMIT_SECONDS


def test_pauses_double_until_something_is_answered() -> None:
    gate = Admission(64)
    pauses = []
    now = 0.0
    for _ in range(12):
        now = max(now, gate.closed_until) + 1.0
        gate.on_backpressure(now, None)
        pauses.append(gate.closed_until - now)
    assert pauses[:4] == pytest.approx([0.25, 0.5, 1.0, 2.0])
    assert pauses[-1] == admission.PAUSE_LIMIT_SECONDS
    gate.on_answer()
    gate.on_backpressure(now + 100.0, None)
    assert gate.closed_until == pytest.approx(now + 100.25)


def test_a_few_failures_to_connect_are_no_outage() -> None:
    gate = Admission(8)
    assert not gate.on_unreachable(0.0)
    assert not gate.on_unreachable(0.1)
    gate.on_answer()
    assert not gate.on_unreachable(0.2)
    assert entered(gate, 0.3) == 8


def test_in_an_outage_one_request_at_a_time_asks_less_and_less_often() -> None:
    gate = Admission(8)
    now, pauses = 0.0, []
    for failure in range(12):
        is_outage = gate.on_unreachable(now)
        assert is_outage == (failure >= 2)
        if is_outage:
            pauses.append(gate.closed_until - now)
            assert not gate.try_enter(gate.closed_until - 0.01)
            now = gate.closed_until
            assert entered(gate, now) == 1
            gate.leave()
    assert pauses[:5] == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert pauses[-1] == admission.OUTAGE_PAUSE_LIMIT_SECONDS
    gate.on_answer()
    assert entered(gate, now) == 8


def test_a_refusal_shows_that_the_server_is_there() -> None:
    gate = Admission(8)
    gate.on_unreachable(0.0)
    gate.on_unreachable(0.0)
    gate.on_backpressure(0.0, None)
    assert not gate.on_unreachable(0.0)
