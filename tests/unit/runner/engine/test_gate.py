from __future__ import annotations

import asyncio
import random

import pytest

from kubesynth_runner import errors
from kubesynth_runner.engine.gate import Gate
from kubesynth_testing import virtual_time


def now() -> float:
    return asyncio.get_running_loop().time()


def test_slots_are_handed_out_in_order() -> None:
    async def main() -> list[int]:
        gate, order = Gate(2), list[int]()

        async def use(number: int) -> None:
            await gate.enter()
            order.append(number)
            await asyncio.sleep(1)
            gate.leave()

        await asyncio.gather(*(use(number) for number in range(9)))
        assert now() == pytest.approx(5.0)
        return order

    assert virtual_time.run(main()) == list(range(9))


def test_closed_gate_opens_by_itself_when_the_time_has_come() -> None:
    async def main() -> list[float]:
        gate, entered = Gate(3), list[float]()
        gate.admission.on_backpressure(now(), 7.0)

        async def use() -> None:
            await gate.enter()
            entered.append(now())
            gate.leave()

        await asyncio.gather(*(use() for _ in range(4)))
        return entered

    moments = virtual_time.run(main())
    assert moments[0] == pytest.approx(7.0)
    assert moments[-1] < 7.1  # they do not all start in the same moment


def test_wish_that_comes_while_waiting_is_honoured() -> None:
    async def main() -> float:
        gate = Gate(1)
        gate.admission.on_backpressure(now(), 2.0)
        waiting = asyncio.create_task(gate.enter())
        await asyncio.sleep(0.5)
        gate.admission.on_backpressure(now(), 9.0)
        gate.on_change()
        await waiting
        return now()

    assert virtual_time.run(main()) == pytest.approx(9.5)


@pytest.mark.parametrize("seed", range(50))
def test_no_slot_leaks_however_users_are_cancelled(seed: int) -> None:
    async def main() -> None:
        draw = random.Random(seed)
        gate, peak, inside = Gate(3), 0, 0

        async def use(work: float) -> None:
            nonlocal peak, inside
            await gate.enter()
            inside += 1
            peak = max(peak, inside)
            try:
                await asyncio.sleep(work)
            finally:
                inside -= 1
                gate.leave()

        tasks = []
        for _ in range(40):
            tasks.append(asyncio.create_task(use(draw.random())))
            if draw.random() < 0.4:
                draw.choice(tasks).cancel()
            if draw.random() < 0.5:
                await asyncio.sleep(draw.random() / 4)
            if draw.random() < 0.1:
                gate.admission.on_backpressure(now(), draw.random())
                gate.on_change()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert gate.admission.in_flight == 0
        assert peak <= 3
        await asyncio.wait_for(gate.enter(), 10)

    virtual_time.run(main())


def test_cancelling_a_waiter_in_the_moment_of_its_turn_passes_the_slot_on() -> None:
    async def main() -> None:
        gate = Gate(1)
        await gate.enter()
        first = asyncio.create_task(gate.enter())
        second = asyncio.create_task(gate.enter())
        await asyncio.sleep(0)
        gate.leave()  # the first one's turn, but it has not run yet
        first.cancel()
        await asyncio.wait_for(second, 1)
        assert gate.admission.in_flight == 1
        assert gate.waiting == 0

    virtual_time.run(main())


def test_stopping_refuses_those_who_wait_and_those_who_come() -> None:
    async def main() -> None:
        gate = Gate(1)
        await gate.enter()
        waiting = [asyncio.create_task(gate.enter()) for _ in range(3)]
        await asyncio.sleep(0)
        assert gate.waiting == 3
        gate.stop()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(result, errors.StoppedError) for result in results)
        with pytest.raises(errors.StoppedError):
            await gate.enter()
        gate.leave()

    virtual_time.run(main())
