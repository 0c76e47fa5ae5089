from __future__ import annotations

import asyncio

from kubesynth_operator.kube.limiter import RateLimiter
from kubesynth_testing import virtual_time


def test_a_burst_passes_and_a_flood_is_spread() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        limiter = RateLimiter(10, loop.time)
        await asyncio.sleep(5)
        began: list[float] = []

        async def call() -> None:
            await limiter.wait()
            began.append(loop.time() - 5)

        await asyncio.gather(*(call() for _ in range(30)))
        return began

    began = virtual_time.run(main())
    assert sum(at == 0 for at in began) == 10, "one second's worth at once"
    assert began == sorted(began)
    assert max(began) <= 2.01, "and the rest at ten a second"
