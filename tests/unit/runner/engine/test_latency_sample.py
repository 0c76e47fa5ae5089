from __future__ import annotations

import math
import random

import pytest

from kubesynth_runner.engine.latency_sample import LatencySample, log_ratio


def sample(
    count: int, *, fixed: float, each: float, seed: int = 1, counts_tokens: bool = True
) -> LatencySample:
    """Return answers of about 100 tokens that take so long, and a bit more or less."""
    draw, found = random.Random(seed), LatencySample()
    for _ in range(count):
        tokens = 100.0 * draw.lognormvariate(0.0, 0.8)
        seconds = (fixed + each * tokens) * draw.uniform(0.98, 1.02)
        found.add(tokens if counts_tokens else 0.0, seconds, 7)
    return found


def test_answers_of_other_lengths_are_compared_at_the_same_length() -> None:
    before = sample(30, fixed=0.1, each=0.004, seed=1)
    after = sample(30, fixed=0.1, each=0.006, seed=2)
    ratio, error = log_ratio(before, after)
    same = before.work / before.count
    assert ratio == pytest.approx(math.log((0.1 + 0.006 * same) / (0.1 + 0.004 * same)), abs=0.05)
    assert error < 0.01


def test_without_lengths_the_mean_is_what_is_left_and_its_error_is_large() -> None:
    found = sample(400, fixed=0.0, each=0.01, counts_tokens=False)
    assert found.seconds_of(123.0) == found.mean_seconds
    assert 0.03 < found.error() < 0.07
    assert found.fixed_seconds() is None


@pytest.mark.parametrize("fixed", [0.0, 0.5, 3.0])
def test_time_that_does_not_depend_on_the_length_is_told(fixed: float) -> None:
    found = sample(200, fixed=fixed, each=0.01)
    assert found.fixed_seconds() == pytest.approx(fixed, abs=0.05)


def test_lengths_that_explain_nothing_say_nothing() -> None:
    draw, found = random.Random(1), LatencySample()
    for _ in range(200):
        found.add(draw.uniform(1.0, 5.0), draw.uniform(1.0, 3.0), 1)
    assert found.fixed_seconds() is None
    assert found.seconds_of(3.0) == pytest.approx(2.0, abs=0.1)


def test_answer_of_unknown_length_is_taken_for_one_of_the_mean() -> None:
    found = sample(50, fixed=0.0, each=0.01)
    mean = found.mean_work
    found.add(None, 60.0, 7)
    assert found.mean_work == pytest.approx(mean)
    empty = LatencySample()
    empty.add(None, 60.0, 7)
    assert empty.seconds_of(0.0) == 60.0


def test_what_is_remembered_counts_for_less() -> None:
    old, new = LatencySample(), LatencySample()
    for _ in range(10):
        old.add(0.0, 1.0, 10)
        new.add(0.0, 2.0, 20)
    both = old.plus(new, 0.5)
    assert both.count == 15
    assert both.mean_seconds == pytest.approx(25 / 15)
    assert both.mean_in_flight == pytest.approx(250 / 15)


def test_answers_that_take_no_time_divide_by_nothing() -> None:
    found = LatencySample()
    for _ in range(20):
        found.add(1.0, 0.0, 1)
    assert log_ratio(found, found) == (0.0, 0.0)
