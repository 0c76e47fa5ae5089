"""Running a scheduler: its stages bound to models, its journal synced, its claim watched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from kubesynth_api.conditions import Reason
from kubesynth_runner import models
from kubesynth_runner.engine.calls import StageBinding, StagePlace
from kubesynth_runner.engine.connection import ModelConnection
from kubesynth_runner.engine.scheduler import BoundStage
from kubesynth_runner.io.journal import Journal
from kubesynth_runner.io.ledger import Ledger
from kubesynth_runner.phases.context import RunContext
from kubesynth_runner.pipelines.compile import CompiledStep

# How often the journal is made durable and the claim looked at: what a dead machine may cost.
HEARTBEAT_SECONDS = 1.0
# How often a shard that may end by itself looks whether it waits at a cap.
CAP_SECONDS = 0.1


def bind(
    steps: Iterable[CompiledStep],
    connections: Mapping[str, ModelConnection],
    seed: int | None,
    *,
    first_index: int = 0,
) -> list[BoundStage]:
    """Return steps in their places from `first_index` on, connected to their models."""
    bound = []
    for index, item in enumerate(steps, first_index):
        bindings = {
            field: StageBinding(
                index,
                item.stage_id,
                connections[use.role],
                use.sampling.to_request_fields(),
                use.sampling.seed if use.sampling.seed is not None else seed,
                use.reasoning_column,
            )
            for field, use in item.uses.items()
        }
        main = next(iter(bindings.values()), StagePlace(index, item.stage_id))
        bound.append(BoundStage(item.step.stage, main, bindings, item.condition, item.skips))
    return bound


class Runnable(Protocol):
    """A scheduler, or what runs several one after the other."""

    # Whether it has returned from `run` because of a cap, with work left.
    ended_early: bool

    @property
    def is_held_back(self) -> bool:
        """Whether a cap holds everything back."""
        ...

    async def run(self) -> None:
        """Work until everything is done."""
        ...

    def on_limits(self) -> None:
        """Look again after limits or caps have changed."""
        ...

    def end_early(self) -> None:
        """Begin nothing more, and return from `run` when what is under way has ended."""
        ...

    def stop(self) -> None:
        """Begin nothing more."""
        ...


async def supervise(
    context: RunContext,
    scheduler: Runnable,
    pool: models.ModelPool,
    book: Ledger,
    journal: Journal,
    waits_for: Callable[[Runnable], str] | None = None,
) -> Reason | None:
    """Run the scheduler beside the heartbeat, the stop signal and our own servers.

    `waits_for` returns the reason that the scheduler waits at a cap, or nothing; if it waits, it
    ends. It is given where nobody can raise the cap meanwhile.

    Returns:
        Why it ended before its input did, if it did.

    Raises:
        FencedError: another writer has taken over the shard, or the output.
        RunnerError: whatever ended one of them first.
    """
    # Whoever has waited for a model for hours may have lost the output meanwhile: nothing is paid
    # for then.
    await asyncio.to_thread(book.check_fence)
    work = asyncio.create_task(scheduler.run())
    why: Reason | None = None
    watchers = [
        asyncio.create_task(_heartbeat(context, book, journal)),
        asyncio.create_task(_stop_on(context.stop, scheduler)),
        asyncio.create_task(_fail_on(pool)),
    ]
    try:
        pending = {work, *watchers}
        while not work.done():
            done, pending = await asyncio.wait(
                pending,
                timeout=CAP_SECONDS if waits_for is not None else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                task.result()
            reason = waits_for(scheduler) if waits_for is not None else ""
            if reason and not context.stop.is_set():
                why = Reason(reason)
                scheduler.end_early()
        return why if scheduler.ended_early else None
    finally:
        for task in (work, *watchers):
            task.cancel()
        await asyncio.gather(work, *watchers, return_exceptions=True)


async def _heartbeat(context: RunContext, book: Ledger, journal: Journal) -> None:
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(HEARTBEAT_SECONDS)
        context.progress.tick(loop.time())
        await asyncio.to_thread(journal.sync)
        await asyncio.to_thread(book.check_fence)


async def _stop_on(stop: asyncio.Event, scheduler: Runnable) -> None:
    await stop.wait()
    scheduler.stop()


async def _fail_on(pool: models.ModelPool) -> None:
    raise await pool.wait_failed()
