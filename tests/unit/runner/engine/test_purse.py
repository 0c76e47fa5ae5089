"""Caps on what a shard spends and makes, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from kubesynth_api.conditions import Reason
from kubesynth_api.v1alpha1.spending import Price
from kubesynth_runner import errors
from kubesynth_runner.engine.purse import Caps, Purse
from kubesynth_runner.tally import Tally
from kubesynth_testing import virtual_time

PRICES = {"judge": Price(prompt_per_million=10.0, completion_per_million=30.0)}


async def ask(purse: Purse, calls: int, *, tokens: int, role: str = "writer") -> None:
    """Make calls one after the other, each estimated at 100 tokens."""
    for _ in range(calls):
        taken = await purse.reserve(role, 80.0, 20.0)
        await asyncio.sleep(1.0)
        purse.settle(taken, tokens, 0)


def until_waiting(purse: Purse, workers: int, *, tokens: int, role: str = "writer") -> None:
    """Let workers spend until all of them wait."""

    async def main() -> None:
        work = [
            asyncio.create_task(ask(purse, 1000, tokens=tokens, role=role)) for _ in range(workers)
        ]
        while not purse.is_waiting:
            await asyncio.sleep(0.5)
        assert not purse.may_begin(0)
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)

    virtual_time.run(main())


def test_cap_is_met_to_the_call_where_estimates_are_right() -> None:
    purse = Purse(Caps(tokens=10_000), {})
    until_waiting(purse, 32, tokens=100)
    assert purse.tokens == 10_000
    assert purse.spent_up is Reason.BUDGET_SPENT


def test_cap_is_overshot_by_no_more_than_what_was_under_way() -> None:
    purse = Purse(Caps(tokens=10_000), {})
    until_waiting(purse, 8, tokens=700)
    assert 10_000 <= purse.tokens <= 10_000 + 8 * 700


def test_dollars_are_counted_by_the_price_of_the_model() -> None:
    purse = Purse(Caps(usd=0.1), PRICES)
    until_waiting(purse, 1, tokens=100, role="judge")
    assert purse.usd == pytest.approx(0.1, abs=0.002)
    assert purse.paid.by_model == {"judge": (purse.tokens, 0)}
    assert purse.paid.cost_usd(PRICES) == pytest.approx(purse.usd)
    assert Purse(Caps(), PRICES, purse.paid).usd == pytest.approx(purse.usd)


def test_model_without_a_price_costs_nothing() -> None:
    purse = Purse(Caps(usd=0.1), PRICES)
    purse.charge("writer", 10**9, 10**9)
    assert (purse.usd, purse.spent_up) == (0.0, None)


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    virtual_time.run(main())


def test_waiting_calls_go_on_when_the_cap_is_raised_and_end_when_all_is_stopped() -> None:
    async def main() -> None:
        purse, seen = Purse(Caps(tokens=0), {}), list[str]()
        purse.on_room = lambda: seen.append("room")
        waiting = [asyncio.create_task(ask(purse, 1, tokens=100)) for _ in range(3)]
        await asyncio.sleep(1.0)
        assert purse.is_waiting
        purse.change(Caps(tokens=150))
        assert seen == ["room"]
        await asyncio.sleep(0.1)
        assert not purse.is_waiting  # two are under way
        await asyncio.sleep(2.0)
        assert purse.is_waiting
        assert sum(task.done() for task in waiting) == 2
        purse.stop()
        await asyncio.sleep(0)
        with pytest.raises(errors.StoppedError):
            await waiting[2]
        with pytest.raises(errors.StoppedError):
            await purse.reserve("writer", 1.0, 1.0)

    run(main)


def test_reservation_is_returned_when_a_request_was_not_answered() -> None:
    async def main() -> None:
        purse = Purse(Caps(tokens=100), {})
        taken = await purse.reserve("writer", 80.0, 20.0)
        assert purse.spent_up is Reason.BUDGET_SPENT
        assert purse.committed.tokens == 100
        purse.settle(taken, 0, 0)
        assert (purse.tokens, purse.paid.requests_ok) == (0, 0)
        assert purse.may_begin(0)

    run(main)


def test_records_under_way_are_expected_to_become_as_many_rows_as_the_others() -> None:
    purse = Purse(Caps(records=100), {})
    assert purse.may_begin(99)
    assert not purse.may_begin(100)
    purse.accepted, purse.done = 60, 20
    assert purse.may_begin(13)
    assert not purse.may_begin(14)
    purse.accepted = 100
    assert not purse.may_begin(0)
    assert purse.spent_up is Reason.TARGET_REACHED


def test_difference_of_tallies_has_the_difference_of_models() -> None:
    paid, done = Tally(prompt_tokens=10, completion_tokens=5), Tally(prompt_tokens=4)
    paid.charge("a", 10, 5)
    done.charge("a", 4, 0)
    rest = paid.minus(done)
    assert (rest.prompt_tokens, rest.completion_tokens) == (6, 5)
    assert rest.by_model == {"a": (6, 5)}
    total = rest.copy()
    total.add(done)
    assert total.by_model == {"a": (10, 5)}
