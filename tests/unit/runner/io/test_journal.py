from __future__ import annotations

import asyncio
import random
import struct
import threading
import zlib
from pathlib import Path

import pytest

from kubesynth_runner import errors
from kubesynth_runner.io import journal as journals
from kubesynth_runner.io import segments as stored
from kubesynth_runner.io.journal import CallFrame, Journal, call_key
from kubesynth_runner.io.layout import RunLayout
from kubesynth_runner.io.local_storage import LocalStorage

RUN, SHARD = "run", 3
NAMES = RunLayout(RUN)
REQUEST = b"r" * 16


def frame(ordinal: int, text: str = "", call: int = 0, request: bytes = REQUEST) -> CallFrame:
    key = call_key(f"record-{ordinal}", 0, call)
    return CallFrame(key, request, ordinal, text or f"text {ordinal}", "stop", 1, 2, "m", 1)


def journal(storage: LocalStorage, epoch: int, done: bytes = bytes(8)) -> Journal:
    opened = Journal(storage, RUN, SHARD, epoch)
    opened.load(bytearray(done))
    return opened


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path)


def segments(storage: LocalStorage) -> list[str]:
    return [file.path.rsplit("/", 1)[1] for file in storage.list_files(NAMES.journal(SHARD))]


def forget(opened: Journal, ordinals: list[int]) -> None:
    opened.delete(opened.forget(ordinals))


def texts(found: Journal, ordinals: range) -> list[str | None]:
    frames = [found.find(frame(n).key, REQUEST) for n in ordinals]
    return [item.text if item else None for item in frames]


def test_a_finished_call_is_found_by_every_later_attempt(storage: LocalStorage) -> None:
    first = journal(storage, 1)
    first.append(frame(0))
    second = journal(storage, 2)  # the first one was killed: it has closed nothing
    assert second.find(frame(0).key, REQUEST) == frame(0)
    second.append(frame(1))
    first.close()
    second.close()
    assert texts(journal(storage, 3), range(3)) == ["text 0", "text 1", None]


class FarStorage(LocalStorage):
    """A store that gives an answer when as many questions are under way as `meeting` waits for."""

    is_remote = True
    meeting: threading.Barrier | None = None

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        if self.meeting is not None:
            self.meeting.wait(timeout=30)
        return super().read_range(path, offset, length)


async def test_calls_are_fetched_from_a_store_side_by_side(tmp_path: Path) -> None:
    storage = FarStorage(tmp_path)
    first = journal(storage, 1)
    for ordinal in range(journals.READERS):
        first.append(frame(ordinal))
    first.close()
    second = journal(storage, 2)
    storage.meeting = threading.Barrier(journals.READERS)
    wanted = [frame(ordinal) for ordinal in range(journals.READERS)]
    found = await asyncio.gather(*(second.fetch(each.key, REQUEST) for each in wanted))
    assert found == wanted
    # What is not there is not asked for.
    assert await second.fetch(frame(99).key, REQUEST) is None


def test_another_request_under_the_same_name_is_no_match(storage: LocalStorage) -> None:
    first = journal(storage, 1)
    first.append(frame(0))
    first.close()
    assert journal(storage, 2).find(frame(0).key, b"x" * 16) is None


def test_the_newest_attempt_at_a_call_counts(storage: LocalStorage) -> None:
    for epoch in (1, 2):
        opened = Journal(storage, RUN, SHARD, epoch)  # has not seen the other's
        opened.append(frame(0, f"of epoch {epoch}"))
        opened.close()
    assert texts(journal(storage, 3), range(1)) == ["of epoch 2"]


def test_failed_calls_are_kept_like_others(storage: LocalStorage) -> None:
    failed = CallFrame(
        frame(0).key,
        REQUEST,
        0,
        "no",
        None,
        0,
        0,
        "",
        6,
        failure="Timeout",
        status_code=408,
        body="b",
    )
    first = journal(storage, 1)
    first.append(failed)
    first.close()
    assert journal(storage, 2).find(failed.key, REQUEST) == failed


def test_calls_of_committed_records_are_not_loaded(storage: LocalStorage) -> None:
    first = journal(storage, 1)
    for ordinal in range(4):
        first.append(frame(ordinal))
    first.close()
    second = journal(storage, 2, bytes([0b0101]))
    assert texts(second, range(4)) == [None, "text 1", None, "text 3"]


def test_segments_of_committed_records_alone_are_deleted(storage: LocalStorage) -> None:
    first = journal(storage, 1)
    first.append(frame(0))
    first.rotate()
    first.append(frame(1))
    first.close()
    assert segments(storage) == ["00000001-00000.log", "00000001-00001.log"]
    journal(storage, 2, bytes([0b01]))
    assert segments(storage) == ["00000001-00001.log"]


def test_forgetting_deletes_ended_segments_that_hold_nothing_else(storage: LocalStorage) -> None:
    opened = journal(storage, 1)
    opened.append(frame(0))
    opened.append(frame(1))
    opened.rotate()
    opened.append(frame(2))
    forget(opened, [0])
    assert segments(storage) == ["00000001-00000.log", "00000001-00001.log"]
    forget(opened, [1])
    assert segments(storage) == ["00000001-00001.log"]
    forget(opened, [2])  # the current segment stays: it is being written
    assert segments(storage) == ["00000001-00001.log"]
    opened.append(frame(3))
    opened.close()
    assert texts(journal(storage, 2), range(4)) == [None, None, "text 2", "text 3"]


def test_calls_of_earlier_attempts_are_forgotten_too(storage: LocalStorage) -> None:
    first = journal(storage, 1)
    for ordinal in range(3):
        first.append(frame(ordinal))
    first.close()
    second = journal(storage, 2)
    forget(second, [0, 2])
    assert texts(second, range(3)) == [None, "text 1", None]
    forget(second, [1])
    assert segments(storage) == []


def test_a_call_that_spans_two_segments_keeps_both(storage: LocalStorage) -> None:
    opened = journal(storage, 1)
    opened.append(frame(0, call=0))
    opened.rotate()
    opened.append(frame(0, call=1))
    opened.rotate()
    opened.close_rotated()
    later = journal(storage, 2)
    assert len(segments(storage)) == 2
    forget(later, [0])
    assert segments(storage) == []


@pytest.mark.parametrize("seed", range(5))
def test_segment_torn_at_any_byte_loses_only_the_frames_behind(
    storage: LocalStorage, seed: int
) -> None:
    draw = random.Random(seed)
    opened = journal(storage, 1)
    ends = [0]
    path = storage.root / NAMES.journal_segment(SHARD, 1, 0)
    for ordinal in range(4):
        opened.append(frame(ordinal, "x" * draw.randrange(40)))
        ends.append(path.stat().st_size)
    opened.close()
    data = path.read_bytes()
    for length in range(len(data) + 1):
        path.write_bytes(data[:length])
        whole = sum(end <= length for end in ends) - 1
        found = Journal(storage, RUN, SHARD, 2)
        found.load(bytearray(8))
        known = [found.find(frame(n).key, REQUEST) is not None for n in range(4)]
        assert known == [n < whole for n in range(4)], length
        path.write_bytes(data)


@pytest.mark.parametrize("seed", range(5))
def test_a_flipped_bit_is_noticed(storage: LocalStorage, seed: int) -> None:
    draw = random.Random(seed)
    opened = journal(storage, 1)
    for ordinal in range(3):
        opened.append(frame(ordinal))
    opened.close()
    path = storage.root / NAMES.journal_segment(SHARD, 1, 0)
    data = path.read_bytes()
    for position in draw.sample(range(len(data)), 60):
        flipped = bytearray(data)
        flipped[position] ^= 1 << draw.randrange(8)
        good = [payload for _, payload in stored.read_frames(data)]
        left = [payload for _, payload in stored.read_frames(bytes(flipped))]
        assert left == good[: len(left)]
        assert len(left) < len(good)


@pytest.mark.parametrize("chunk_bytes", [1, 7, 64, 1 << 20])
def test_segment_is_read_in_chunks_whatever_their_size_and_wherever_it_is_torn(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    monkeypatch.setattr(stored, "CHUNK_BYTES", chunk_bytes)
    whole = b"".join(stored.to_frame(bytes([65 + size]) * size) for size in (1, 90, 5, 33))
    for data in (*(whole[:end] for end in range(len(whole) + 1)), whole + bytes(50), whole * 3):
        storage.put("segment", data)
        (file,) = storage.list_files("")
        assert list(stored.scan(storage, file)) == list(stored.read_frames(data)), len(data)


class RangesOnly(LocalStorage):
    """Remembers how much was asked for at once, and refuses to read whole files."""

    most_bytes = 0

    def read(self, path: str) -> bytes:
        raise AssertionError(f"{path} was read whole")

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        self.most_bytes = max(self.most_bytes, length)
        return super().read_range(path, offset, length)


def test_large_segment_is_never_in_memory_as_a_whole(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "CHUNK_BYTES", 1000)
    first = journal(storage, 1)
    for ordinal in range(60):
        first.append(frame(ordinal, "x" * 400))
    first.close()
    ranges = RangesOnly(storage.root)
    second = Journal(ranges, RUN, SHARD, 2)
    second.load(bytearray(8))
    assert texts(second, range(60)) == ["x" * 400] * 60
    assert 0 < ranges.most_bytes <= 1000


def test_broken_length_is_not_believed(storage: LocalStorage) -> None:
    storage.put("segment", stored.HEADER.pack(4_000_000_000, 1) + b"x" * 100)
    ranges = RangesOnly(storage.root)
    (file,) = storage.list_files("")
    assert list(stored.scan(ranges, file)) == []
    assert ranges.most_bytes <= 108


def test_segment_ends_at_a_size_and_no_answer_with_it(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "SEGMENT_BYTES", 500)
    first = journal(storage, 1)
    for ordinal in range(20):
        first.append(frame(ordinal, "x" * 90))
    assert first.dirty
    first.sync()
    assert not first._rotated  # what has ended is durable, too
    sizes = [file.size_bytes for file in storage.list_files(NAMES.journal(SHARD))]
    assert len(sizes) > 3
    assert max(sizes) < 700
    later = journal(storage, 2)
    assert texts(later, range(20)) == ["x" * 90] * 20
    forget(later, list(range(20)))
    assert segments(storage) == []


def test_zeros_at_the_end_are_no_frames(storage: LocalStorage) -> None:
    """A machine that dies may leave a file longer than what reached the disk."""
    opened = journal(storage, 1)
    opened.append(frame(0))
    opened.close()
    path = storage.root / NAMES.journal_segment(SHARD, 1, 0)
    path.write_bytes(path.read_bytes() + bytes(4096))
    assert texts(journal(storage, 2), range(2)) == ["text 0", None]


def test_frame_is_length_checksum_and_payload(storage: LocalStorage) -> None:
    opened = journal(storage, 1)
    opened.append(frame(0))
    opened.close()
    data = (storage.root / NAMES.journal_segment(SHARD, 1, 0)).read_bytes()
    length, checksum = struct.unpack_from("<II", data)
    assert length == len(data) - 8
    assert checksum == zlib.crc32(data[8:])


def test_segment_that_a_newer_writer_has_deleted_fences_this_one(storage: LocalStorage) -> None:
    dead = journal(storage, 1)
    dead.append(frame(0))
    dead.close()
    second = journal(storage, 2)
    forget(journal(storage, 3), [0])
    with pytest.raises(errors.FencedError):
        second.find(frame(0).key, REQUEST)


def test_syncing_what_is_clean_or_closed_is_harmless(storage: LocalStorage) -> None:
    opened = journal(storage, 1)
    opened.sync()
    opened.append(frame(0))
    assert opened.dirty
    opened.sync()
    assert not opened.dirty
    opened.close()
    opened.close()
    opened.sync()


def test_call_names_differ_in_every_part() -> None:
    names = {call_key(r, s, c) for r in ("a", "b", "a1") for s in range(3) for c in range(3)}
    assert len(names) == 27
