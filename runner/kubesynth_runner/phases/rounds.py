"""Execution through a batch API: pass after pass over the records, level by level.

Each pass takes every unfinished record through its stages as far as the journal has its answers.
What is not there is collected and sent off; when all batches have ended, the next pass goes one
level further. Nothing is kept between passes but the journal, so that a restart is a pass like any
other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kubesynth_runner import errors
from kubesynth_runner.engine.batching import BatchCaller
from kubesynth_runner.engine.scheduler import Scheduler
from kubesynth_runner.io.journal import Journal
from kubesynth_runner.io.ledger import Ledger


class BatchRounds:
    """All passes of one attempt at a shard."""

    def __init__(
        self,
        caller: BatchCaller,
        journal: Journal,
        book: Ledger,
        make_pass: Callable[[], Scheduler],
        commit: Callable[[], Awaitable[None]],
    ) -> None:
        """`make_pass` returns a scheduler of all records that `book` lacks; `commit` adds some."""
        self._caller = caller
        self._journal = journal
        self._book = book
        self._make_pass = make_pass
        self._commit = commit
        self._pass: Scheduler | None = None
        self._stopping = False
        self.ended_early = False

    @property
    def is_held_back(self) -> bool:
        """Whether a cap holds everything back: batches have none."""
        return False

    def on_limits(self) -> None:
        """Do nothing: limits are for requests that are sent one by one."""

    def end_early(self) -> None:
        """Do nothing: there are no caps."""

    async def run(self) -> None:
        """Go on until every record is done.

        Raises:
            StoppedError: `stop` was called; batches under way go on without us.
            RunnerError: whatever made the shard impossible to go on with.
        """
        try:
            await self._run()
        finally:
            self._caller.drop()

    async def _run(self) -> None:
        if await self._caller.settle():
            await self._reopen()
        while True:
            if self._stopping:
                raise errors.StoppedError
            self._pass = self._make_pass()
            await self._pass.run()
            await self._caller.send_off()
            await self._commit()
            if not self._caller.has_open:
                return
            await self._caller.settle()
            await self._reopen()

    async def _reopen(self) -> None:
        await asyncio.to_thread(self._journal.reopen, self._book.done)

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopping = True
        self._caller.stopped.set()
        if self._pass is not None:
            self._pass.stop()
