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


def test_the_first_requests_do_not_start_all_at_once() -> None:
    gate = Admission(1000)
    first = entered(gate, 0.0)
    assert first < 30
    moments = [step / 1000 for step in range(1, 500)]
    assert first + sum(entered(gate, moment) for moment in moments) == 1000


def test_requests_refused_together_are_one_event() -> None:
    together, alone = Admission(100), Admission(100)
    for gate in (together, alone):
        entered(gate, 0.0)
        gate.on_backpressure(0.01, None)
    for moment in range(5):
        together.on_backpressure(0.011 + moment / 1000, None)
    for gate in (together, alone):
        assert not gate.try_enter(0.1)
        assert gate.try_enter(0.2)
    assert together.pace(0.2) == alone.pace(0.2) < Admission(100).pace(0.0)


def refuse_at(gate: Admission, in_flight: int, now: float) -> float:
    """Let the gate fill up to a number, be refused there, and return the end of the pause."""
    while gate.in_flight <= in_flight:
        now = max(now, gate.opens_at)
        assert gate.try_enter(now)
    gate.leave()
    gate.on_backpressure(now, None)
    return gate.closed_until


def test_number_at_which_a_server_refuses_again_and_again_is_kept_to() -> None:
    gate, now = Admission(100), 0.0
    for _ in range(3):
        now = refuse_at(gate, 20, now)
        for _ in range(10):
            gate.leave()
            gate.on_answer()
    while gate.try_enter(now := max(now, gate.opens_at)):
        pass
    assert gate.in_flight == gate.limit == 20


def test_kept_number_rises_by_one_after_many_round_trips() -> None:
    gate, now = Admission(100), 0.0
    for _ in range(3):
        now = refuse_at(gate, 20, now)
        gate.leave()
    assert gate.try_enter(now)
    for _ in range(15 * 20):
        gate.on_answer()
    assert gate.limit == 20
    for _ in range(7 * 20):
        gate.on_answer()
    assert 21 <= gate.limit < 24


def test_refusals_at_changing_numbers_limit_no_number() -> None:
    gate, now = Admission(100), 0.0
    for number in (20, 31, 24, 28, 35):
        now = refuse_at(gate, number, now)
        while gate.in_flight:
            gate.leave()
            gate.on_answer()
    assert gate.try_enter(now)
    assert gate.limit == 100


def test_nobody_enters_before_the_server_allows_it() -> None:
    gate = Admission(4)
    gate.on_backpressure(10.0, 2.5)
    assert entered(gate, 12.4) == 0
    assert entered(gate, 12.5) == 1


def test_one_second_is_read_as_within_a_second() -> None:
    gate = Admission(4)
    entered(gate, 9.0)
    gate.leave()
    gate.on_backpressure(10.0, 1.0)
    assert not gate.try_enter(10.05)
    assert gate.try_enter(10.15)


def test_a_shorter_wish_does_not_shorten_a_longer_one() -> None:
    gate = Admission(4)
    gate.on_backpressure(10.0, 5.0)
    gate.on_backpressure(10.1, 2.0)
    assert gate.closed_until == 15.0


def test_a_long_wish_is_honoured_and_an_absurd_one_is_not() -> None:
    gate = Admission(4)
    gate.on_backpressure(0.0, 120.0)
    assert gate.closed_until == 120.0
    gate.on_backpressure(0.0, 86_400.0)
    assert gate.closed_until == admission.RETRY_AFTER_LIMIT_SECONDS


@pytest.mark.parametrize(
    ("retry_after_seconds", "longest_seconds"),
    [
        pytest.param(None, admission.PAUSE_LIMIT_SECONDS, id="server-says-nothing"),
        pytest.param(1.0, 1.0, id="server-says-one-second"),
    ],
)
def test_pauses_double_until_something_is_let_in(
    retry_after_seconds: float | None, longest_seconds: float
) -> None:
    gate, now, pauses = Admission(64), 0.0, []
    assert gate.try_enter(now)
    for _ in range(14):
        refused_at = now
        gate.leave()
        gate.on_backpressure(now, retry_after_seconds)
        while not gate.try_enter(now):
            now = gate.opens_at
        pauses.append(now - refused_at)
    # Nothing is known at the first refusal, so it does not count as the second in a row.
    assert pauses[:5] == pytest.approx([0.1, 0.2, 0.4, 0.8, min(1.6, longest_seconds)])
    assert pauses[-1] == pytest.approx(longest_seconds)
    assert gate.in_flight == 1


def test_a_few_failures_to_connect_are_no_outage() -> None:
    gate = Admission(8)
    gate.on_unreachable(0.0)
    gate.on_unreachable(0.1)
    gate.on_answer()
    gate.on_unreachable(0.2)
    assert entered(gate, 0.3) == 8


def test_in_an_outage_one_request_at_a_time_asks_less_and_less_often() -> None:
    gate = Admission(8)
    now, pauses = 0.0, []
    for failure in range(12):
        gate.on_unreachable(now)
        is_outage = gate.outage_since is not None
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
    gate.on_unreachable(0.0)
    assert gate.outage_since is None


@pytest.mark.parametrize("limits_rate", [False, True])
def test_server_that_is_unable_for_long_is_out_and_not_slow(limits_rate: bool) -> None:
    gate, now = Admission(64), 0.0
    assert gate.try_enter(now)
    for _ in range(8):
        gate.leave()
        gate.on_backpressure(now, None, limits_rate=limits_rate)
        while not gate.try_enter(now):
            now = gate.opens_at
    gate.leave()
    assert (gate.outage_since is not None) is not limits_rate
    gate.on_answer()
    assert (gate.pace(now) > 100) is not limits_rate
