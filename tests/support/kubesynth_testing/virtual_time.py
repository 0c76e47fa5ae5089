"""An event loop whose clock jumps to the next timer instead of waiting for it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _JumpingSelector(selectors.SelectSelector):
    """Moves the loop's clock where a real one would sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout > 0:
            self.now += timeout
            timeout = 0
        return super().select(timeout)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop on which waiting takes no time, and neither does work in threads."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        self._threads = concurrent.futures.ThreadPoolExecutor(1)
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return virtual seconds since the loop began."""
        return self._jumping.now

    def run_in_executor(
        self,
        executor: concurrent.futures.Executor | None,
        func: Callable[[Unpack[Ts]], T],
        *args: *Ts,
    ) -> asyncio.Future[T]:
        """Run `func` in a thread and wait for it, so that the clock stands still."""
        work = self._threads.submit(func, *args)
        concurrent.futures.wait([work])
        return asyncio.wrap_future(work, loop=self)

    def close(self) -> None:
        """Close the loop and its thread."""
        self._threads.shutdown()
        super().close()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
