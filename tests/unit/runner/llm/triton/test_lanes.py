"""Requests of different lanes are never under way together, and nobody starves."""

from __future__ import annotations

import asyncio
import random

from kubesynth_runner.llm.triton.lanes import Lanes


async def test_lanes_never_mix_and_all_get_through() -> None:
    lanes = Lanes()
    under_way: list[int] = []
    together = 0
    draw = random.Random(3)

    async def one(lane: int) -> None:
        nonlocal together
        await asyncio.sleep(draw.random() * 0.005)
        async with lanes.enter(lane):
            under_way.append(lane)
            assert len(set(under_way)) == 1, "two lanes at once"
            together = max(together, len(under_way))
            await asyncio.sleep(draw.random() * 0.001)
            under_way.remove(lane)

    async with asyncio.timeout(20):
        await asyncio.gather(*(one(n % 3) for n in range(300)))
    assert together > 10, "requests of one lane go together"


async def test_those_who_come_later_wait_behind_another_lane() -> None:
    lanes, order = Lanes(), []

    async def one(name: str, lane: int) -> None:
        async with lanes.enter(lane):
            order.append(name)
            await asyncio.sleep(0.001)

    async with asyncio.timeout(5):
        await asyncio.gather(one("first", 1), one("other", 2), one("late", 1))
    assert order == ["first", "other", "late"]


async def test_cancelled_requests_leave_no_lane_closed() -> None:
    lanes = Lanes()
    draw = random.Random(5)

    async def one(lane: int) -> None:
        async with lanes.enter(lane):
            await asyncio.sleep(draw.random() * 0.002)

    async with asyncio.timeout(20):
        for _ in range(30):
            tasks = [asyncio.create_task(one(n % 2)) for n in range(10)]
            await asyncio.sleep(draw.random() * 0.002)
            for task in draw.sample(tasks, 5):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await one(7)
