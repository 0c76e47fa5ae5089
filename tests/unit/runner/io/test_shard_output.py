from __future__ import annotations

import asyncio
import random
import threading
from pathlib import Path
from typing import Any

import pytest

from kubesynth_api.conditions import Reason
from kubesynth_runner import errors, records
from kubesynth_runner.io import layout, ledger, parts, run_identity, shard_output
from kubesynth_runner.io.journal import CallFrame, Journal, call_key
from kubesynth_runner.io.ledger import CommitRecord, Ledger
from kubesynth_runner.io.local_storage import LocalStagedFile, LocalStorage
from kubesynth_runner.io.shard_output import OutputOptions, RootOutcome, ShardOutput
from kubesynth_runner.tally import Tally
from kubesynth_testing import runs

RUN = "run"
SOURCE = records.Source("file:///a", 1)


class Attempt:
    """One attempt at a shard of 100 records."""

    def __init__(
        self,
        root: Path,
        rows_per_part: int = 2,
        book: Ledger | None = None,
        file_format: parts.Format = "JSONL",
    ) -> None:
        self.storage = LocalStorage(root)
        run_identity.acquire(self.storage, uid=RUN, job="j", pipeline_hash="h", if_exists="Fail")
        self.book = book or Ledger(self.storage, 0, RUN, 100)
        self.book.open("test")
        self.journal = Journal(self.storage, RUN, 0, self.book.epoch)
        self.journal.load(self.book.done)
        self.process_tally = Tally(requests_retried=1)
        options = OutputOptions({"text": "string"}, file_format, rows_per_part)
        self.output = ShardOutput(self.book, self.journal, options, self._take)

    def _take(self) -> Tally:
        taken, self.process_tally = self.process_tally, Tally()
        return taken

    def journal_call(self, ordinal: int) -> None:
        key = call_key(f"r{ordinal}", 0, 0)
        self.journal.append(CallFrame(key, b"", ordinal, "", None, 0, 0, "", 1))

    def segments(self) -> int:
        return len(self.storage.list_files(self.book.layout.journal(0)))


def outcome(ordinal: int, *, rows: int = 1, text: Any = "t", failed: int = 0) -> RootOutcome:
    root = f"r{ordinal}"
    made = [
        records.Record(f"{root}-{n}", root, root, (n,), {"text": text}, SOURCE)
        for n in reversed(range(rows))
    ]
    errors_ = [
        records.FailedRecord(f"{root}-f{n}", root, root, SOURCE, "s", "Timeout", "m")
        for n in range(failed)
    ]
    return RootOutcome(ordinal, made, errors_, 0, Tally(requests_ok=1))


def committed(attempt: Attempt) -> list[CommitRecord]:
    return ledger.read_commits(attempt.storage, RUN, 0)


async def test_full_part_is_committed_in_the_background_and_the_rest_by_flush(
    tmp_path: Path,
) -> None:
    attempt = Attempt(tmp_path)
    for ordinal in range(5):
        await attempt.output.add(outcome(ordinal))
    await attempt.output.flush()
    assert [record.done for record in committed(attempt)] == [[(0, 1)], [(2, 3)], [(4, 4)]]
    assert attempt.output.tally.accepted == 5
    total = Tally()
    for record in committed(attempt):
        total.add(record.tally)
    assert total == attempt.output.tally
    assert total.requests_retried == 1


async def test_rows_of_a_record_are_in_the_order_of_its_pipeline(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, rows_per_part=100)
    await attempt.output.add(outcome(0, rows=3))
    await attempt.output.flush()
    rows = runs.read_committed(tmp_path / "data")
    assert [row["id"] for row in rows] == ["r0-0", "r0-1", "r0-2"]


async def test_flush_without_anything_commits_nothing(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path)
    await attempt.output.flush()
    assert committed(attempt) == []


async def test_records_without_rows_fill_parts_too(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, rows_per_part=1)
    for ordinal in range(4):
        await attempt.output.add(outcome(ordinal, rows=0))
    await attempt.output.flush()
    (record,) = committed(attempt)
    assert (record.done, record.data, record.errors) == ([(0, 3)], None, None)


@pytest.mark.parametrize("file_format", ["JSONL", "Parquet"])
async def test_part_is_cut_before_it_is_too_large_to_be_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_format: parts.Format
) -> None:
    monkeypatch.setattr(shard_output, "BYTES_PER_PART", 100_000)
    monkeypatch.setattr(parts, "CHARACTERS_PER_GROUP", 10_000)
    attempt = Attempt(tmp_path, rows_per_part=100, file_format=file_format)
    for ordinal in range(12):
        await attempt.output.add(outcome(ordinal, text=random.randbytes(20_000).hex()))
    await attempt.output.flush()
    sizes = [record.data.size_bytes for record in committed(attempt) if record.data]
    assert len(sizes) > 1
    assert max(sizes) < 160_000


async def test_errors_are_cut_before_they_are_too_large_to_be_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_output, "BYTES_PER_PART", 5000)
    attempt = Attempt(tmp_path, rows_per_part=100)
    for ordinal in range(50):
        await attempt.output.add(outcome(ordinal, rows=0, failed=1))
    await attempt.output.flush()
    sizes = [record.errors.size_bytes for record in committed(attempt) if record.errors]
    assert len(sizes) > 1
    assert max(sizes) < 6000


async def test_failures_go_to_errors_and_count_their_records(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, rows_per_part=100)
    await attempt.output.add(outcome(0, rows=2, failed=1))  # partly there: not a failed record
    await attempt.output.add(outcome(1, rows=0, failed=2))
    await attempt.output.add(outcome(2, rows=0, failed=0))  # filtered
    await attempt.output.flush()
    tally = attempt.output.tally
    assert (tally.done, tally.accepted, tally.failed, tally.failed_roots) == (3, 2, 3, 1)
    assert len(runs.read_committed(tmp_path / "errors")) == 3


async def test_row_that_does_not_fit_the_schema_becomes_an_error(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, rows_per_part=100)
    await attempt.output.add(outcome(0, text=7))
    await attempt.output.flush()
    (row,) = runs.read_committed(tmp_path / "errors")
    assert (row["kind"], row["stage"], row["columns"]) == ("BadColumn", "output", {"text": 7})
    assert attempt.output.tally.failed_roots == 1


async def test_committing_forgets_the_journal_of_what_is_committed(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path)
    attempt.journal_call(9)  # still under way
    for ordinal in range(4):
        attempt.journal_call(ordinal)
        await attempt.output.add(outcome(ordinal))
    await attempt.output.flush()
    assert attempt.segments() == 1  # the one with the call under way
    attempt.journal_call(9)
    await attempt.output.add(outcome(9))
    await attempt.output.flush()
    assert attempt.segments() <= 1
    assert attempt.journal.find(call_key("r9", 0, 0), b"") is None


class SlowLedger(Ledger):
    """Whose commits wait to be let through, and may fail."""

    def __init__(self, storage: LocalStorage) -> None:
        super().__init__(storage, 0, RUN, 100)
        self.started = threading.Event()
        self.proceed = threading.Event()
        self.failure: Exception | None = None

    def commit(self, record: CommitRecord) -> None:
        self.started.set()
        assert self.proceed.wait(10)
        if self.failure is not None:
            raise self.failure
        super().commit(record)


async def test_being_cancelled_while_waiting_for_a_commit_does_not_stop_it(tmp_path: Path) -> None:
    book = SlowLedger(LocalStorage(tmp_path))
    attempt = Attempt(tmp_path, book=book)
    for ordinal in range(2):
        await attempt.output.add(outcome(ordinal))
    await asyncio.to_thread(book.started.wait)
    waiting = [asyncio.create_task(attempt.output.add(outcome(n))) for n in range(2, 6)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    book.proceed.set()
    await attempt.output.flush()
    # 2 and 3 were taken before anybody was cancelled, 4 and 5 were not.
    assert [record.done for record in committed(attempt)] == [[(0, 1)], [(2, 3)]]


async def test_parts_keep_to_their_size_however_many_wait_for_a_commit(tmp_path: Path) -> None:
    book = SlowLedger(LocalStorage(tmp_path))
    attempt = Attempt(tmp_path, book=book)
    waiting = [asyncio.create_task(attempt.output.add(outcome(n))) for n in range(21)]
    await asyncio.to_thread(book.started.wait)
    book.proceed.set()
    await asyncio.gather(*waiting)
    await attempt.output.flush()
    sizes = [record.data.rows for record in committed(attempt) if record.data is not None]
    assert sizes == [2] * 10 + [1]


async def test_parts_keep_to_their_size_whoever_comes_while_another_is_woken(
    tmp_path: Path,
) -> None:
    """Between the end of a wait for a commit and the turn of who is next, the lock is free."""
    attempt = Attempt(tmp_path)

    async def work(first: int) -> None:
        for ordinal in range(first, 20, 2):
            await attempt.output.add(outcome(ordinal))

    await asyncio.gather(*(work(first) for first in range(2)))
    await attempt.output.flush()
    sizes = [record.data.rows for record in committed(attempt) if record.data is not None]
    assert sizes == [2] * 10


async def test_nothing_is_committed_after_a_commit_that_failed(tmp_path: Path) -> None:
    """The next part over the gap would be committed again by whoever fills it."""
    book = SlowLedger(LocalStorage(tmp_path))
    attempt = Attempt(tmp_path, book=book)
    book.failure = errors.RetryLaterError(Reason.OUTPUT_UNWRITABLE, "No space left on device")
    for ordinal in range(3):
        await attempt.output.add(outcome(ordinal))
    book.proceed.set()
    with pytest.raises(errors.RetryLaterError, match="No space"):
        await attempt.output.add(outcome(3))
    book.failure = None  # somebody has made room
    for _ in range(2):
        with pytest.raises(errors.RetryLaterError, match="No space"):
            await attempt.output.flush()
    with pytest.raises(errors.RetryLaterError, match="No space"):
        await attempt.output.abandon()
    assert committed(attempt) == []


async def test_part_with_half_a_record_is_never_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = Attempt(tmp_path, rows_per_part=100)
    await attempt.output.add(outcome(0))
    calls = 0

    def full_after_one(self: object, data: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise errors.RetryLaterError(Reason.OUTPUT_UNWRITABLE, "No space left on device")

    monkeypatch.setattr("kubesynth_runner.io.local_storage.LocalStagedFile.write", full_after_one)
    with pytest.raises(errors.RetryLaterError, match="No space"):
        await attempt.output.add(outcome(1, rows=2))
    monkeypatch.undo()
    with pytest.raises(errors.RetryLaterError, match="see the error before"):
        await attempt.output.add(outcome(2))
    with pytest.raises(errors.RetryLaterError, match="see the error before"):
        await attempt.output.flush()
    await attempt.output.abandon()
    assert committed(attempt) == []


@pytest.mark.parametrize("file_format", ["JSONL", "Parquet"])
async def test_part_that_cannot_be_committed_leaves_no_open_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_format: parts.Format
) -> None:
    """Collected, it would write on, and print a traceback where the disk is full."""
    attempt = Attempt(tmp_path, rows_per_part=100, file_format=file_format)
    abandoned: list[object] = []
    abandon = LocalStagedFile.abandon

    def note(file: LocalStagedFile) -> None:
        abandoned.append(file)
        abandon(file)

    def fail() -> None:
        raise errors.RetryLaterError(Reason.OUTPUT_UNWRITABLE, "No space left on device")

    monkeypatch.setattr(LocalStagedFile, "abandon", note)
    monkeypatch.setattr(attempt.journal, "close_rotated", fail)
    await attempt.output.add(outcome(0, failed=1))
    with pytest.raises(errors.RetryLaterError, match="No space"):
        await attempt.output.flush()
    assert len(abandoned) == 2


async def test_abandoned_part_is_left_to_the_next_attempt(tmp_path: Path) -> None:
    first = Attempt(tmp_path, rows_per_part=100)
    await first.output.add(outcome(0))
    await first.output.abandon()
    assert committed(first) == []
    second = Attempt(tmp_path, rows_per_part=100)
    await second.output.add(outcome(0))
    await second.output.flush()
    assert [row["id"] for row in runs.read_committed(tmp_path / "data")] == ["r0-0"]
    assert layout.token(RUN) in next((tmp_path / "data").iterdir()).name
