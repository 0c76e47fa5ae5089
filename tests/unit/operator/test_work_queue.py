"""The queue on virtual time: no test here waits."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest

from kubesynth_operator.work_queue import Backoff, Schedule, WorkQueue
from kubesynth_testing import virtual_time


def a_queue(backoff: Backoff | None = None) -> WorkQueue[str]:
    loop = asyncio.get_running_loop()
    return WorkQueue(clock=loop.time, random=lambda: 0.5, backoff=backoff)


def test_a_key_added_twice_is_worked_on_once() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.add("a")
    schedule.add("b")
    schedule.add("a")
    assert [schedule.pop(0), schedule.pop(0), schedule.pop(0)] == ["a", "b", None]


def test_a_key_added_while_worked_on_comes_again_only_afterwards() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.add("a")
    assert schedule.pop(0) == "a"
    schedule.add("a")
    assert schedule.pop(0) is None, "no two workers on one key"
    schedule.done("a")
    assert schedule.pop(0) == "a"
    schedule.done("a")
    assert schedule.pop(0) is None


def test_of_several_delays_the_earliest_counts_and_fires_once() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.add_at("a", 30.0)
    schedule.add_at("a", 10.0)
    schedule.add_at("a", 20.0)
    assert schedule.next_due() == 10.0
    assert schedule.pop(9.9) is None
    assert schedule.pop(10.0) == "a"
    schedule.done("a")
    assert schedule.next_due() is None
    assert schedule.pop(100.0) is None


def test_a_delayed_key_may_be_delayed_anew_after_it_fired() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.add_at("a", 1.0)
    assert schedule.pop(1.0) == "a"
    schedule.add_at("a", 2.0)
    schedule.done("a")
    assert schedule.pop(1.5) is None
    assert schedule.pop(2.0) == "a"


def test_times_that_an_earlier_one_has_replaced_do_not_pile_up() -> None:
    """A job with a deadline in a week is looked at every few seconds until then."""
    schedule: Schedule[str] = Schedule()
    week = 7 * 86400.0
    schedule.add_at("b", week)
    tracemalloc.start()
    try:
        for now in range(10_000):
            schedule.add_at("a", week + now)
            schedule.add_at("a", float(now))
            assert schedule.pop(float(now)) == "a"
            schedule.done("a")
        used_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used_bytes < 100_000
    assert schedule.next_due() == week
    assert schedule.pop(week) == "b"


@pytest.mark.parametrize(
    ("failures", "uniform", "seconds"),
    [
        pytest.param(1, 0.5, 0.5, id="first"),
        pytest.param(2, 0.5, 1.0, id="doubles"),
        pytest.param(5, 0.5, 8.0, id="and-again"),
        pytest.param(40, 0.5, 300.0, id="has-a-ceiling"),
        pytest.param(10_000, 0.5, 300.0, id="never-overflows"),
        pytest.param(2, 0.0, 0.8, id="least-jitter"),
        pytest.param(2, 1.0, 1.2, id="most-jitter"),
    ],
)
def test_backoff_doubles_up_to_a_ceiling_with_jitter(
    failures: int, uniform: float, seconds: float
) -> None:
    assert Backoff().delay_seconds(failures, uniform) == pytest.approx(seconds)


def test_a_waiting_worker_gets_a_key_at_once() -> None:
    async def main() -> tuple[str, float]:
        queue = a_queue()
        worker = asyncio.create_task(queue.get())
        await asyncio.sleep(5)
        queue.add("a")
        return await worker, asyncio.get_running_loop().time()

    assert virtual_time.run(main()) == ("a", 5.0)


def test_a_waiting_worker_wakes_up_when_a_delay_is_over() -> None:
    async def main() -> tuple[str, float]:
        queue = a_queue()
        worker = asyncio.create_task(queue.get())
        await asyncio.sleep(1)
        queue.add_after("a", 60)
        await asyncio.sleep(1)
        queue.add_after("a", 10)
        return await worker, asyncio.get_running_loop().time()

    key, at = virtual_time.run(main())
    assert key == "a"
    assert at == pytest.approx(12, abs=0.01)


def test_failures_in_a_row_wait_longer_until_one_success() -> None:
    async def main() -> list[float]:
        queue = a_queue()
        delays = [queue.retry("a") for _ in range(3)]
        queue.forget("a")
        return [*delays, queue.retry("a")]

    assert virtual_time.run(main()) == pytest.approx([0.5, 1.0, 2.0, 0.5])


def test_a_server_that_asks_for_patience_gets_it() -> None:
    async def main() -> float:
        return a_queue().retry("a", at_least_seconds=17)

    assert virtual_time.run(main()) == 17


def test_many_workers_never_share_a_key_and_lose_none() -> None:
    async def main() -> tuple[int, int]:
        queue = a_queue()
        at_work: set[str] = set()
        clashes = 0
        handled = 0

        async def work() -> None:
            nonlocal clashes, handled
            while True:
                key = await queue.get()
                clashes += key in at_work
                at_work.add(key)
                await asyncio.sleep(0.3)
                at_work.discard(key)
                handled += 1
                queue.done(key)

        workers = [asyncio.create_task(work()) for _ in range(8)]
        for round_number in range(40):
            for key in "abc":
                queue.add(key)
            await asyncio.sleep(0.1 if round_number % 2 else 0.25)
        await asyncio.sleep(10)
        for worker in workers:
            worker.cancel()
        return clashes, handled

    clashes, handled = virtual_time.run(main())
    assert clashes == 0
    assert 3 * 20 <= handled <= 3 * 40
