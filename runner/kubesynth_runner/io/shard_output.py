"""Where finished input records go: rows and errors into the open part, parts into the ledger."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Mapping

from kubesynth_api.conditions import Reason
from kubesynth_api.v1alpha1.pipeline import OUTPUT_PLACE
from kubesynth_runner import errors, records
from kubesynth_runner.io import layout, ledger, parts, schema
from kubesynth_runner.io.journal import Journal
from kubesynth_runner.io.plan_file import ColumnType
from kubesynth_runner.tally import Tally

# A failed or filtered record makes no row, so parts are also cut after so many input records.
ROOTS_PER_PART_FACTOR = 4
# Nor is a file larger than this and one record: object stores move it by one copy, which takes time
# and has a limit, S3's being 5 GiB.
BYTES_PER_PART = 1 << 30


@dataclasses.dataclass(frozen=True, slots=True)
class OutputOptions:
    """How the rows of a shard are written."""

    columns: Mapping[str, ColumnType]
    file_format: parts.Format
    rows_per_part: int
    logprobs: bool = False


@dataclasses.dataclass(slots=True)
class RootOutcome:
    """An input record whose pipeline has ended, with all that came of it.

    `tally` counts its tokens and requests, replayed calls included. The output goes on with it.
    """

    ordinal: int
    rows: list[records.Record]
    failed: list[records.FailedRecord]
    filtered: int
    tally: Tally


@dataclasses.dataclass(slots=True)
class _OpenPart:
    number: int
    data: parts.PartWriter | None = None
    errors: parts.JsonlPart | None = None
    ordinals: list[int] = dataclasses.field(default_factory=list)
    tally: Tally = dataclasses.field(default_factory=Tally)

    def abandon(self) -> None:
        """Give its files up: a writer that is left open would write on when it is collected."""
        for writer in (self.data, self.errors):
            if writer is not None:
                writer.abandon()


class ShardOutput:
    """The open part of a shard, and at most one part that is being committed behind it."""

    def __init__(
        self,
        book: ledger.Ledger,
        journal: Journal,
        options: OutputOptions,
        take_process_tally: Callable[[], Tally],
    ) -> None:
        """`take_process_tally` returns retries and 429s since it was last called."""
        self._book = book
        self._journal = journal
        self._options = options
        self._take_process_tally = take_process_tally
        self._schema = schema.build(options.columns, logprobs=options.logprobs)
        self._part = _OpenPart(book.next_part)
        self._committing: asyncio.Task[None] | None = None
        self._is_whole = True
        # While a commit is waited for, nobody adds to the part that is about to be cut.
        self._lock = asyncio.Lock()
        # Who has the lock and who waits for it, those included who are woken and still to come up:
        # it is free then, and whoever did not queue behind them would overfill the part.
        self._in_line = 0
        # Everything finished: committed in this or an earlier attempt, or in the open part.
        self.tally = book.tally.copy()

    async def add(self, outcome: RootOutcome) -> None:
        """Take a finished input record; commit the part when it is full.

        Raises:
            FencedError: another writer has taken over.
        """
        if self._in_line:  # a commit is waited for
            async with self._turn():
                self._take_wholly(outcome)
                await self._cut_if_full()
            return
        # The lock costs more than all that it would guard here: nothing is waited for.
        self._take_wholly(outcome)
        if self._is_full(self._part):
            async with self._turn():
                await self._cut_if_full()

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        self._in_line += 1
        try:
            async with self._lock:
                yield
        finally:
            self._in_line -= 1

    async def _cut_if_full(self) -> None:
        if self._is_full(self._part):
            self._refuse_broken_part()
            await self._cut()

    def _take_wholly(self, outcome: RootOutcome) -> None:
        self._refuse_broken_part()
        # False for good if a write fails: then the part holds rows of a record that is not done,
        # which somebody who is waiting for the lock must not commit.
        self._is_whole = False
        self._take(outcome)
        self._is_whole = True

    def _refuse_broken_part(self) -> None:
        if not self._is_whole:
            raise errors.RetryLaterError(
                Reason.OUTPUT_UNWRITABLE, "a part could not be written; see the error before"
            )

    def _take(self, outcome: RootOutcome) -> None:
        part, tally, failed, rows = self._part, outcome.tally, list(outcome.failed), outcome.rows
        if len(rows) > 1:
            rows = sorted(rows, key=lambda record: record.path)
        for record in rows:
            try:
                row = schema.to_row(record, self._options.columns, logprobs=self._options.logprobs)
            except ValueError as exc:
                failed.append(_unwritable(record, str(exc)))
                continue
            self._data_writer(part).write(row)
            tally.accepted += 1
        for failure in failed:
            self._error_writer(part).write(schema.error_row(failure))
            tally.note_failure(failure.kind, failure.message)
        tally.failed += len(failed)
        tally.filtered += outcome.filtered
        tally.done += 1
        tally.failed_roots += bool(failed and not tally.accepted)
        part.ordinals.append(outcome.ordinal)
        part.tally.add(tally)
        self.tally.add(tally)

    def _is_full(self, part: _OpenPart) -> bool:
        data, failed, limit = part.data, part.errors, self._options.rows_per_part
        if data is not None and (data.rows >= limit or data.size_bytes >= BYTES_PER_PART):
            return True
        if failed is not None and failed.size_bytes >= BYTES_PER_PART:
            return True
        return len(part.ordinals) >= limit * ROOTS_PER_PART_FACTOR

    def _data_writer(self, part: _OpenPart) -> parts.PartWriter:
        if part.data is None:
            staged = self._staged(part.number, parts.EXTENSIONS[self._options.file_format])
            part.data = parts.open_part(
                self._book.storage, staged, self._options.file_format, self._schema
            )
        return part.data

    def _error_writer(self, part: _OpenPart) -> parts.JsonlPart:
        if part.errors is None:
            staged = self._staged(part.number, "errors.jsonl")
            part.errors = parts.JsonlPart(self._book.storage, staged)
        return part.errors

    def _staged(self, number: int, extension: str) -> str:
        book = self._book
        return book.layout.staged(book.shard, book.epoch, f"part-{number:05d}.{extension}")

    async def _cut(self) -> None:
        """Hand the open part to a commit in the background, after the one before it."""
        await self._settle()
        part, self._part = self._part, _OpenPart(self._part.number + 1)
        delta = self._take_process_tally()
        part.tally.add(delta)
        self.tally.add(delta)
        self._journal.rotate()
        self._committing = asyncio.create_task(self._commit(part))

    async def _settle(self) -> None:
        """Wait for the running commit, which goes on if we are cancelled while we wait.

        After a commit that failed every call fails: a later part must never be committed over the
        gap, or a restart would commit its records again.
        """
        if self._committing is not None:
            await asyncio.shield(self._committing)
            self._committing = None

    async def _commit(self, part: _OpenPart) -> None:
        await asyncio.to_thread(self._commit_blocking, part)
        dead = self._journal.forget(part.ordinals)
        if dead:
            await asyncio.to_thread(self._journal.delete, dead)

    def _commit_blocking(self, part: _OpenPart) -> None:
        try:
            self._journal.close_rotated()
            record = self._complete(part)
        except errors.RunnerError:
            part.abandon()
            raise
        self._book.commit(record)

    def _complete(self, part: _OpenPart) -> ledger.CommitRecord:
        book = self._book
        data = failed = None
        if part.data is not None:
            extension = parts.EXTENSIONS[self._options.file_format]
            name = book.layout.part_name(book.shard, part.number, extension)
            data = part.data.finish(f"{layout.DATA}/{name}")
        if part.errors is not None:
            name = book.layout.part_name(book.shard, part.number, "jsonl")
            failed = part.errors.finish(f"{layout.ERRORS}/{name}")
        return ledger.CommitRecord(
            book.run_id,
            part.number,
            book.epoch,
            ledger.to_ranges(part.ordinals),
            part.tally,
            data,
            failed,
        )

    async def flush(self) -> None:
        """Commit what is open and wait until it is committed."""
        async with self._turn():
            self._refuse_broken_part()
            if self._part.ordinals:
                await self._cut()
            await self._settle()

    async def abandon(self) -> None:
        """Let a running commit end and leave the open part to the next attempt's journal."""
        try:
            await self._settle()
        finally:
            self._part.abandon()


def _unwritable(record: records.Record, message: str) -> records.FailedRecord:
    return records.FailedRecord(
        record.record_id,
        record.parent_id,
        record.root_id,
        record.source,
        OUTPUT_PLACE,
        "BadColumn",
        message,
        columns=record.columns,
        path=record.path,
        provenance=record.provenance,
    )
