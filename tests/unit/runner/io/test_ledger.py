from __future__ import annotations

import itertools
import random
from pathlib import Path

import msgspec
import pytest

from kubesynth_runner import errors
from kubesynth_runner.io import layout, ledger, run_identity
from kubesynth_runner.io.ledger import CommitRecord, CommittedFile, Ledger
from kubesynth_runner.io.local_storage import LocalStorage
from kubesynth_runner.tally import Tally
from kubesynth_testing.crashing_storage import Crash, CrashingStorage, Fuse

RUN, SHARD, RECORDS = "uid-1", 0, 6
NAMES = layout.RunLayout(RUN)


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    opened = LocalStorage(tmp_path)
    run_identity.acquire(opened, uid=RUN, job="j", pipeline_hash="h", if_exists="Fail")
    return opened


def claimed(storage: LocalStorage | CrashingStorage) -> Ledger:
    book = Ledger(storage, SHARD, RUN, RECORDS)
    book.open("test")
    return book


def stage(book: Ledger, first: int, last: int) -> CommitRecord:
    """Write the staged file of the next part, and return the record that commits it."""
    part = book.next_part
    staged = NAMES.staged(SHARD, book.epoch, f"part-{part:05d}.jsonl")
    file = book.storage.open_staged(staged)
    file.write(f"{first}-{last} by {book.epoch}".encode())
    file.finish()
    final = f"data/{NAMES.part_name(SHARD, part, 'jsonl')}"
    data = CommittedFile(staged, final, last - first + 1, 1, "")
    tally = Tally(done=last - first + 1, accepted=last - first + 1)
    return CommitRecord(RUN, part, book.epoch, [(first, last)], tally, data)


def parts(storage: LocalStorage) -> list[str]:
    return [storage.read(file.path).decode() for file in storage.list_files("data")]


def test_committed_parts_are_known_to_the_next_writer(storage: LocalStorage) -> None:
    first = claimed(storage)
    first.commit(stage(first, 0, 1))
    first.commit(stage(first, 4, 5))
    second = claimed(storage)
    assert (first.epoch, second.epoch, second.next_part) == (1, 2, 2)
    assert second.done == bytearray([0b110011])
    assert second.tally == Tally(done=4, accepted=4)
    assert parts(storage) == ["0-1 by 1", "4-5 by 1"]


def test_writer_that_has_been_overtaken_is_fenced_at_its_next_commit(storage: LocalStorage) -> None:
    old = claimed(storage)
    record = stage(old, 0, 1)
    claimed(storage)
    with pytest.raises(errors.FencedError, match="newer writer"):
        old.commit(record)
    with pytest.raises(errors.FencedError):
        old.check_fence()
    assert parts(storage) == []


def test_commit_that_lost_the_race_after_its_check_is_refused(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old writer is stopped between its check and its commit, and goes on much later."""
    old = claimed(storage)
    record = stage(old, 0, 1)
    new = claimed(storage)
    new.commit(stage(new, 0, 2))
    monkeypatch.setattr(old, "check_fence", lambda: None)
    with pytest.raises(errors.FencedError, match="another writer has committed part 0"):
        old.commit(record)
    assert parts(storage) == ["0-2 by 2"]


def test_commit_before_the_take_over_is_finished_by_the_new_writer(storage: LocalStorage) -> None:
    fuse = Fuse()
    dying = claimed(CrashingStorage(storage, fuse))
    record = stage(dying, 0, 1)
    fuse.at, fuse.is_done = fuse.count, True  # right after the record was created
    with pytest.raises(Crash):
        dying.commit(record)
    assert parts(storage) == []
    new = claimed(storage)
    assert parts(storage) == ["0-1 by 1"]
    assert new.next_part == 1


def test_overwritten_output_fences_the_old_run(storage: LocalStorage) -> None:
    old = claimed(storage)
    record = stage(old, 0, 1)
    run_identity.acquire(storage, uid="uid-2", job="j2", pipeline_hash="h", if_exists="Overwrite")
    with pytest.raises(errors.FencedError, match="does not belong to this run"):
        old.commit(record)


def test_old_run_that_commits_after_its_check_touches_nothing_of_the_new_one(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = claimed(storage)
    run_identity.acquire(storage, uid="uid-2", job="j2", pipeline_hash="h", if_exists="Overwrite")
    new = Ledger(storage, SHARD, "uid-2", RECORDS)
    new.open("test")
    record = stage(old, 0, 1)  # into a folder that the new run has deleted
    monkeypatch.setattr(old, "check_fence", lambda: None)
    old.commit(record)
    again = Ledger(storage, SHARD, "uid-2", RECORDS)
    again.open("test")
    assert (again.epoch, again.next_part, again.tally) == (2, 0, Tally())


def test_committed_file_that_somebody_deleted_is_named(storage: LocalStorage) -> None:
    book = claimed(storage)
    record = stage(book, 0, 1)
    book.commit(record)
    assert record.data is not None
    storage.delete(record.data.path)
    with pytest.raises(errors.ConfigurationError, match=r"data/part-00000-00000-.* is gone"):
        claimed(storage)


def test_finished_shard_has_a_manifest_and_no_leftovers(storage: LocalStorage) -> None:
    book = claimed(storage)
    book.commit(stage(book, 0, 5))
    leftover = storage.open_staged(NAMES.staged(SHARD, 1, "leftover"))
    leftover.finish()
    manifest = book.finish()
    assert manifest == ledger.read_shard_manifest(storage, RUN, SHARD)
    assert manifest.tally == Tally(done=6, accepted=6)
    assert not storage.exists(NAMES.staging(SHARD))
    assert claimed(storage).finish().tally == manifest.tally


def test_shard_with_records_left_is_not_finished(storage: LocalStorage) -> None:
    book = claimed(storage)
    book.commit(stage(book, 0, 4))
    with pytest.raises(errors.RetryLaterError, match="5 of 6"):
        book.finish()
    assert ledger.read_shard_manifest(storage, RUN, SHARD) is None


def test_reading_commits_publishes_what_a_dead_writer_left(storage: LocalStorage) -> None:
    fuse = Fuse()
    dying = claimed(CrashingStorage(storage, fuse))
    record = stage(dying, 0, 1)
    fuse.at, fuse.is_done = fuse.count, True
    with pytest.raises(Crash):
        dying.commit(record)
    assert [commit.part for commit in ledger.read_commits(storage, RUN, SHARD)] == [0]
    assert parts(storage) == ["0-1 by 1"]


@pytest.mark.parametrize("seed", range(30))
def test_any_number_of_writers_commit_each_record_once(storage: LocalStorage, seed: int) -> None:
    """Writers that never look at their fences, in any order: the history stays one."""
    draw = random.Random(seed)
    writers: list[tuple[Ledger, CommitRecord]] = []
    for _ in range(60):
        if draw.random() < 0.3 or not writers:
            book = claimed(storage)
        else:
            book, record = writers.pop(draw.randrange(len(writers)))
            path = NAMES.commit(SHARD, record.part)
            if not storage.create(path, msgspec.json.encode(record)):
                continue  # refused: this writer is out
            if draw.random() < 0.5:
                ledger.publish(storage, record)
            ledger.mark_done(book.done, record.done)
            book.commits.append(record)
        left = [n for n in range(RECORDS) if not book.done[n >> 3] & (1 << (n & 7))]
        if left:
            writers.append((book, stage(book, left[0], left[0])))
    history = ledger.read_commits(storage, RUN, SHARD)
    ordinals = [commit.done[0][0] for commit in history]
    assert sorted(ordinals) == list(range(len(ordinals)))
    assert len(parts(storage)) == len(history)
    for commit in history:
        assert commit.data is not None
        text = storage.read(commit.data.path).decode()
        assert text == f"{commit.done[0][0]}-{commit.done[0][1]} by {commit.epoch}"


@pytest.mark.parametrize("seed", range(20))
def test_ranges_round_trip(seed: int) -> None:
    draw = random.Random(seed)
    total = draw.choice([1, 8, 9, 100])
    ordinals = draw.sample(range(total), draw.randrange(total + 1))
    done = bytearray((total + 7) // 8)
    ranges = ledger.to_ranges(ordinals)
    ledger.mark_done(done, ranges)
    assert [n for n in range(total) if done[n >> 3] & (1 << (n & 7))] == sorted(ordinals)
    assert all(left[1] + 1 < right[0] for left, right in itertools.pairwise(ranges))
