"""However files are cut into shards, every record is somewhere, once."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import pytest

from kubesynth_runner.io import readers
from kubesynth_runner.io.contents import LocalContent
from kubesynth_runner.io.partition import Entry, ScannedFile, assign, shard_range
from kubesynth_runner.io.plan_file import InputFile


def scanned(name: str, records: int, draw: random.Random) -> ScannedFile:
    starts = sorted(draw.sample(range(1, records), min(3, records - 1))) if records > 1 else []
    entries = (Entry(0, 0, 0), *(Entry(start, start * 10, start) for start in starts))
    return ScannedFile(InputFile(name, "JSONL", records * 10, "v", records), entries)


@pytest.mark.parametrize("seed", range(100))
def test_every_record_is_in_exactly_one_shard(seed: int) -> None:
    draw = random.Random(seed)
    files = [
        scanned(f"f{number}", draw.choice([0, 0, 1, 2, 7, 40]), draw)
        for number in range(draw.randrange(8))
    ]
    shards = draw.choice([1, 2, 3, 7, 50])
    everything = [(file.file.uri, n) for file in files for n in range(file.file.records)]
    limit = draw.choice([None, 1, 5, 10_000])
    wanted = everything[:limit]
    duplicates = sorted(draw.sample(range(len(everything)), len(everything) // 5))

    partitions = assign(files, shards, limit, duplicates)

    found = [
        (piece.file.uri, piece.first_record + n)
        for part in partitions
        for piece in part.slices
        for n in range(piece.records)
    ]
    assert found == wanted
    assert [part.shard for part in partitions] == list(range(shards))
    sizes = [part.records for part in partitions]
    assert max(sizes) - min(sizes) <= 1
    marked, first = [], 0
    for part in partitions:
        marked += [first + ordinal for ordinal in part.duplicates]
        first += part.records
    assert marked == [position for position in duplicates if position < len(wanted)]


@pytest.mark.parametrize("seed", range(100))
def test_a_slice_is_entered_at_the_last_entry_before_it(seed: int) -> None:
    draw = random.Random(seed)
    file = scanned("f", 40, draw)
    for part in assign([file], 9, None, []):
        for piece in part.slices:
            before = [entry for entry in file.entries if entry.record <= piece.first_record]
            assert (piece.entry_record, piece.offset, piece.line) == (
                before[-1].record,
                before[-1].offset,
                before[-1].line,
            )


def test_shard_ranges_cover_everything_in_order() -> None:
    for total in (0, 1, 5, 1000):
        for shards in (1, 3, 7, 1001):
            ranges = [shard_range(total, shards, shard) for shard in range(shards)]
            assert ranges[0][0] == 0
            assert ranges[-1][1] == total
            assert all(left[1] == right[0] for left, right in itertools.pairwise(ranges))


@pytest.mark.parametrize("seed", range(20))
def test_slices_of_a_real_file_read_back_as_the_whole(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "ENTRY_EVERY_RECORDS", 5)
    draw = random.Random(seed)
    lines, values = [b"\xef\xbb\xbf"] if draw.random() < 0.3 else [], []
    for number in range(draw.randrange(60)):
        lines += [draw.choice([b"\n", b" \r\n", b"\t\n"])] * draw.choice([0, 0, 1, 3])
        lines.append(json.dumps({"n": number, "t": "x" * draw.randrange(50)}).encode())
        lines.append(draw.choice([b"\n", b"\r\n"]))
        values.append(number)
    data = b"".join(lines)
    path = tmp_path / "a.jsonl"
    path.write_bytes(data.rstrip() if draw.random() < 0.5 else data)
    file = readers.scan(InputFile(path.as_uri(), "JSONL", len(data), "v"), LocalContent(path))
    assert file.file.records == len(values)
    for shards in (1, 2, 7):
        rows = [
            row
            for part in assign([file], shards, None, [])
            for piece in part.slices
            for row in readers.read(piece, LocalContent(path))
        ]
        assert all(isinstance(row, readers.GoodRecord) for row in rows)
        assert [row.columns["n"] for row in rows if isinstance(row, readers.GoodRecord)] == values
        positions = [row.position for row in rows]
        assert positions == sorted(set(positions))
