"""The failed records of a finished run as the input of another one.

What is in errors/ is all that it takes: a record enters the pipeline at the step where it failed,
with the columns, the lineage and the completions that it had there. So its rows get the ids that
they would have had, the rows that the old run has of it are not made again, and nothing that led
up to it is asked again.

Where it enters is decided by what comes before: a step can be changed and tried again, together
with all after it. If the pipeline differs before the step, the columns may mean something else, and
the record enters at the beginning as any input record does.

Failures of the input itself are carried over: there is nothing that could be tried.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from kubesynth_api.conditions import Reason
from kubesynth_api.v1alpha1.pipeline import INPUT_PLACE, OUTPUT_PLACE
from kubesynth_runner import errors, records
from kubesynth_runner.io import layout
from kubesynth_runner.io.ledger import CommittedFile
from kubesynth_runner.io.partition import Entry, ScannedFile
from kubesynth_runner.io.plan_file import (
    EarlierRun,
    InputFile,
    Partition,
    Slice,
    StepIdentity,
)
from kubesynth_runner.io.readers import ENTRY_EVERY_RECORDS
from kubesynth_runner.io.source import RootInput, first_not_done
from kubesynth_runner.io.storage import Storage

# Of a file at once. Lines may be longer.
_CHUNK_BYTES = 4 * 1024 * 1024
_FIELD = "retryFailed.fromOutput"


class EarlierManifest(msgspec.Struct, frozen=True, rename="camel"):
    """The part of manifest.json that a replay reads, see `io.run_manifest`."""

    run_id: str
    columns: dict[str, str]
    errors: tuple[CommittedFile, ...]
    steps: tuple[StepIdentity, ...]
    whole: str
    input: dict[str, Any] | None = None


class _Source(msgspec.Struct):
    uri: str
    position: int
    id: str | None = None


class ErrorRow(msgspec.Struct):
    """A line of errors/, see `schema.error_row`."""

    id: str
    root_id: str
    source: _Source
    stage: str
    kind: str
    message: str
    parent_id: str | None = None
    status_code: int | None = None
    attempts: int = 0
    raw: str = ""
    columns: dict[str, Any] = {}
    path: tuple[int, ...] = ()
    made: int = 0
    provenance: list[dict[str, Any]] = []


_decode = msgspec.json.Decoder(ErrorRow).decode
_decode_manifest = msgspec.json.Decoder(EarlierManifest).decode


class Entrance:
    """Where the failed records of a run enter a pipeline."""

    def __init__(self, earlier: EarlierRun, steps: Sequence[StepIdentity], whole: str) -> None:
        """`steps` and `whole` are the new pipeline's."""
        self._indexes = {step.name: index for index, step in enumerate(earlier.steps)}
        self._indexes[OUTPUT_PLACE] = len(earlier.steps)
        before = [*(step.before for step in steps), whole]
        was_before = [*(step.before for step in earlier.steps), earlier.whole]
        same = [old == new for old, new in zip(was_before, before, strict=False)]
        self._is_same = [*same, *([False] * (len(was_before) - len(same)))]

    def is_replayed(self, row: ErrorRow) -> bool:
        """Tell whether there is a step that could be tried again."""
        return row.stage in self._indexes

    def admit(self, ordinal: int, row: ErrorRow) -> RootInput:
        """Return a failed record as an input record of its own, or as the failure that it is."""
        source = records.Source(row.source.uri, row.source.position, row.source.id)
        provenance = tuple(records.CallProvenance(**call) for call in row.provenance)
        index = self._indexes.get(row.stage)
        if index is None:
            failed = records.FailedRecord(
                row.id,
                row.parent_id,
                row.root_id,
                source,
                row.stage,
                row.kind,
                row.message,
                row.raw,
                row.status_code,
                row.attempts,
                row.columns,
                row.path,
                row.made,
                provenance,
            )
            return RootInput(ordinal, failed)
        step = index if self._is_same[index] else 0
        record = records.Record(
            row.id,
            row.parent_id,
            row.root_id,
            row.path,
            row.columns,
            source,
            provenance,
            # Ids depend on the step's place: elsewhere the old run has made none of these.
            row.made if step == index else 0,
        )
        return RootInput(ordinal, record, step)


def find(storage: Storage) -> EarlierManifest:
    """Return the manifest of the run in an output.

    Raises:
        ConfigurationError: there is no finished run, or one whose failures are ambiguous.
    """
    try:
        found = _decode_manifest(storage.read(layout.MANIFEST))
    except FileNotFoundError as exc:
        has_begun = storage.exists(layout.RUN)
        problem = (
            "the run is not finished: it has no manifest.json yet"
            if has_begun
            else "there is no run: it holds neither run.json nor manifest.json"
        )
        raise _unusable(storage, problem) from exc
    except msgspec.MsgspecError as exc:
        raise _unusable(storage, f"manifest.json is not that of a run: {exc}") from exc
    for step in found.steps:
        if step.name in (INPUT_PLACE, OUTPUT_PLACE):
            raise _unusable(
                storage,
                f"the run has a stage with the id {step.name!r}, as older versions allowed: its "
                f"failures cannot be told from those of the {step.name}; run all of it again, "
                "with another id",
            )
    return found


def scan(
    storage: Storage, file: CommittedFile, entrance: Entrance
) -> tuple[ScannedFile, list[int]]:
    """Return a file of errors/ with its entry points, and the places of what is carried over.

    Raises:
        ConfigurationError: it is gone, or not what the run has written.
    """
    digest = hashlib.sha256()
    entries, carried = [Entry(0, 0, 0)], list[int]()
    count = offset = 0
    for line in _lines(storage, file.path, 0):
        digest.update(line)
        if count and count % ENTRY_EVERY_RECORDS == 0:
            entries.append(Entry(count, offset, count))
        if not entrance.is_replayed(_parse(storage, file.path, line)):
            carried.append(count)
        count += 1
        offset += len(line)
    if digest.hexdigest() != file.sha256:
        raise _unusable(storage, f"{file.path} is not as the run has written it; restore it")
    described = InputFile(file.path, "JSONL", file.size_bytes, file.sha256, count)
    return ScannedFile(described, tuple(entries), content_bytes=offset), carried


def read_partition(
    storage: Storage, partition: Partition, entrance: Entrance, done: bytes | bytearray
) -> Iterator[RootInput]:
    """Yield the records of a partition in order, without those whose bit in `done` is set.

    Raises:
        ConfigurationError: a file is gone.
    """
    ordinal = 0
    for piece in partition.slices:
        end = ordinal + piece.records
        skipped = first_not_done(done, ordinal, end) - ordinal
        for row in _rows(storage, piece, skipped):
            place = ordinal + skipped
            skipped += 1
            if not done[place >> 3] & (1 << (place & 7)):
                yield entrance.admit(place, row)
        ordinal = end


def _rows(storage: Storage, piece: Slice, skipped: int) -> Iterator[ErrorRow]:
    """Yield the rows of a slice but the first `skipped`."""
    index, end = piece.entry_record, piece.first_record + piece.records
    first = piece.first_record + skipped
    if first >= end:
        return
    for line in _lines(storage, piece.file.uri, piece.offset):
        if index >= end:
            return
        if index >= first:
            yield _parse(storage, piece.file.uri, line)
        index += 1


def _lines(storage: Storage, path: str, offset: int) -> Iterator[bytes]:
    """Yield the lines of a file from an offset, each with its line break."""
    rest = b""
    while True:
        try:
            chunk = storage.read_range(path, offset, _CHUNK_BYTES)
        except FileNotFoundError as exc:
            raise _unusable(storage, f"{path} is gone; restore it") from exc
        if not chunk:
            break
        offset += len(chunk)
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line + b"\n"
    if rest:
        yield rest


def _parse(storage: Storage, path: str, line: bytes) -> ErrorRow:
    try:
        return _decode(line)
    except msgspec.MsgspecError as exc:
        raise _unusable(storage, f"{path} holds a line that is no failed record: {exc}") from exc


def _unusable(storage: Storage, problem: str) -> errors.ConfigurationError:
    return errors.ConfigurationError(Reason.INPUT_UNREADABLE, f"{_FIELD}: {storage.uri}: {problem}")
