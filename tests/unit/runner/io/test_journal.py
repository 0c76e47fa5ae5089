from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path

import pytest

from kubesynth_runner import errors
from kubesynth_runner.io.journal import CallFrame, Journal, call_key, read_frames
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
    opened.forget([0])
    assert segments(storage) == ["00000001-00000.log", "00000001-00001.log"]
    opened.forget([1])
    assert segments(storage) == ["00000001-00001.log"]
    opened.forget([2])  # the current segment stays: it is being written
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
    second.forget([0, 2])
    assert texts(second, range(3)) == [None, "text 1", None]
    second.forget([1])
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
    later.forget([0])
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
        good = [payload for _, payload in read_frames(data)]
        left = [payload for _, payload in read_frames(bytes(flipped))]
        assert left == good[: len(left)]
        assert len(left) < len(good)


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
    journal(storage, 3).forget([0])
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
