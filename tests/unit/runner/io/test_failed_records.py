from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from kubesynth_runner import records
from kubesynth_runner.io import failed_records, partition, parts, schema
from kubesynth_runner.io.failed_records import Entrance, ErrorRow
from kubesynth_runner.io.ledger import CommittedFile
from kubesynth_runner.io.local_storage import LocalStorage
from kubesynth_runner.io.plan_file import EarlierRun, StepIdentity

CALL = records.CallProvenance("a", "m", "hash", 7, 1, 2, "stop", 1)


def steps(*names: str) -> tuple[StepIdentity, ...]:
    """Return steps named by letters; what comes before one are the letters before."""
    return tuple(StepIdentity(name, "".join(names[:index])) for index, name in enumerate(names))


def earlier(*names: str) -> EarlierRun:
    return EarlierRun("file:///old", "run", steps(*names), "".join(names))


def entrance(old: str, new: str) -> Entrance:
    return Entrance(earlier(*old), steps(*new), new)


def row(stage: str, *, made: int = 0) -> ErrorRow:
    failed = records.FailedRecord(
        "id",
        "parent",
        "root",
        records.Source("file:///in", 3, "mine"),
        stage,
        "Timeout",
        "too late",
        columns={"text": "t"},
        path=(1, 0),
        made=made,
        provenance=(CALL,),
    )
    return msgspec.json.decode(msgspec.json.encode(schema.error_row(failed)), type=ErrorRow)


@pytest.mark.parametrize(
    ("old", "new", "stage", "step"),
    [
        pytest.param("abc", "abc", "a", 0, id="first"),
        pytest.param("abc", "abc", "c", 2, id="same-pipeline"),
        pytest.param("abc", "abx", "c", 2, id="changed-itself"),
        pytest.param("abc", "abxyz", "b", 1, id="changed-after-it"),
        pytest.param("abc", "xbc", "b", 0, id="changed-before-it"),
        pytest.param("abc", "x", "c", 0, id="shorter"),
        pytest.param("abc", "abc", "output", 3, id="not-stored"),
        pytest.param("abc", "abcd", "output", 3, id="not-stored-and-goes-on"),
        pytest.param("abc", "abx", "output", 0, id="not-stored-by-another"),
    ],
)
def test_record_enters_where_all_before_is_the_same(
    old: str, new: str, stage: str, step: int
) -> None:
    admitted = entrance(old, new).admit(5, row(stage, made=2))
    assert (admitted.ordinal, admitted.step) == (5, step)
    assert admitted.record == records.Record(
        "id",
        "parent",
        "root",
        (1, 0),
        {"text": "t"},
        records.Source("file:///in", 3, "mine"),
        (CALL,),
        made=2 if old[:1] == stage or step else 0,
    )


@pytest.mark.parametrize("stage", ["input", "topics-0/subtopics"])
def test_what_no_step_has_failed_stays_as_it_is(stage: str) -> None:
    error = row(stage)
    admitted = entrance("abc", "abc").admit(5, error)
    assert isinstance(admitted.record, records.FailedRecord)
    assert (
        msgspec.json.decode(msgspec.json.encode(schema.error_row(admitted.record)), type=ErrorRow)
        == error
    )


def write(storage: LocalStorage, stages: list[str]) -> CommittedFile:
    part = parts.JsonlPart(storage, "staged")
    for number, stage in enumerate(stages):
        source = records.Source("file:///in", number)
        part.write(
            schema.error_row(
                records.FailedRecord(str(number), None, "r", source, stage, "Timeout", "x\n" * 50)
            )
        )
    file = part.finish("errors/part.jsonl")
    storage.publish(file.staged, file.path)
    return file


@pytest.mark.parametrize("shards", [1, 3])
def test_shards_read_each_row_once_in_pieces_and_from_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards: int
) -> None:
    monkeypatch.setattr(failed_records, "_CHUNK_BYTES", 100)
    monkeypatch.setattr(failed_records, "ENTRY_EVERY_RECORDS", 4)
    storage = LocalStorage(tmp_path)
    stages = ["a" if number % 5 else "input" for number in range(50)]
    file, gate = write(storage, stages), entrance("a", "a")
    scanned, carried = failed_records.scan(storage, file, gate)
    assert scanned.file.records == 50
    assert carried == list(range(0, 50, 5))
    assert len(scanned.entries) == 13
    found = []
    for part in partition.assign([scanned], shards, None, carried):
        done = bytearray((part.records + 7) // 8)
        done[0] = 0b110
        for root in failed_records.read_partition(storage, part, gate, done):
            found.append(root.record.record_id)
            assert root.ordinal not in (1, 2)
            carried_over = isinstance(root.record, records.FailedRecord)
            assert carried_over == (root.ordinal in part.duplicates)
    assert len(found) == len(set(found)) == 50 - 2 * shards
