"""From rows of files to root records: ids, column mapping, and what is wrong with a row."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from kubesynth_api.v1alpha1.pipeline import INPUT_PLACE
from kubesynth_api.v1alpha1.storage import InputSpec
from kubesynth_runner import records
from kubesynth_runner.io import readers, sampling
from kubesynth_runner.io.inputs import InputSource
from kubesynth_runner.io.plan_file import InputFile, Partition, Slice

_NOT_FULL = re.compile(rb"[^\xff]")


class RootInput(msgspec.Struct, frozen=True, gc=False):
    """A record of the input at its place in the shard: a Record, or why it cannot be one.

    `step` is where it enters the pipeline; the number of steps means that it is a row already.
    """

    ordinal: int
    record: records.Record | records.FailedRecord
    step: int = 0


def read_partition(
    partition: Partition,
    spec: InputSpec,
    inputs: InputSource,
    done: bytes | bytearray,
    sample: sampling.Sample | None = None,
) -> Iterator[RootInput]:
    """Yield the records of a partition in order, without those whose bit in `done` is set.

    Raises:
        ConfigurationError: a file is gone, has changed or cannot be read.
        RetryLaterError: a file is not available.
    """
    duplicates = frozenset(partition.duplicates)
    ordinal = 0
    for piece in partition.slices:
        end = ordinal + piece.roots
        first = first_not_done(done, ordinal, end)
        if first == end:
            ordinal = end
            continue
        rest = piece
        if piece.taken is None:
            skipped, ordinal = first - ordinal, first
            rest = msgspec.structs.replace(
                piece, first_record=piece.first_record + skipped, records=piece.records - skipped
            )
        for row in _taken(rest, inputs, sample):
            if not done[ordinal >> 3] & (1 << (ordinal & 7)):
                root = to_root(piece.file, row, spec)
                if ordinal in duplicates and isinstance(root, records.Record):
                    root = _duplicate(root, spec)
                yield RootInput(ordinal, root)
            ordinal += 1


def _taken(
    piece: Slice, inputs: InputSource, sample: sampling.Sample | None
) -> Iterator[readers.GoodRecord | readers.BadRecord]:
    for row in readers.read(piece, inputs.open(piece.file)):
        # The survey has seen the id alone, which can be read where another column cannot.
        if sample is None or sample.takes(piece.file.uri, row.position, row.columns):
            yield row


def read_seeds(partition: Partition, kind: str, done: bytes | bytearray) -> Iterator[RootInput]:
    """Yield the generated records of a partition, without those whose bit in `done` is set.

    `kind` is the stage that has made them: their source.
    """
    for ordinal, seed in enumerate(partition.seeds):
        if done[ordinal >> 3] & (1 << (ordinal & 7)):
            continue
        place = records.Source(kind, partition.first_seed + ordinal + 1)
        yield RootInput(
            ordinal,
            records.Record(
                seed.record_id, None, seed.record_id, (), seed.columns, place, seed.provenance
            ),
        )


def first_not_done(done: bytes | bytearray, first: int, end: int) -> int:
    """Return the first ordinal from `first` whose bit is not set, or `end`."""
    position = first
    while position < end and done[position >> 3] & (1 << (position & 7)):
        position += 1
        if position & 7 == 0:
            match = _NOT_FULL.search(done, position >> 3)
            position = match.start() << 3 if match else end
    return min(position, end)


def to_root(
    file: InputFile, row: readers.GoodRecord | readers.BadRecord, spec: InputSpec
) -> records.Record | records.FailedRecord:
    """Return the root record of a row: `columns` mapped, text checked, id made."""
    source = records.Source(file.uri, row.position)
    if isinstance(row, readers.BadRecord):
        return _bad_input(source, row.message, row.raw, {})
    columns = dict(row.columns)
    if file.format == "Text":
        columns[spec.text_column] = columns.pop("text")
    for name, original in spec.columns.items():
        if original not in row.columns:
            return _bad_input(source, f"column {original!r} is missing", "", columns)
        columns[name] = row.columns[original]
    text = columns.get(spec.text_column)
    if not isinstance(text, str) or not text.strip():
        problem = "is missing" if spec.text_column not in columns else "is not a text, or is empty"
        return _bad_input(source, f"column {spec.text_column!r} {problem}", "", columns)
    identifier = records.root_id(file.uri, row.position)
    if spec.id_column is not None:
        user_id = sampling.user_id_text(row.columns.get(spec.id_column))
        if user_id is None:
            return _bad_input(source, f"column {spec.id_column!r} is missing", "", columns)
        source = msgspec.structs.replace(source, user_id=user_id)
        identifier = records.root_id_of_user_id(user_id)
    return records.Record(identifier, None, identifier, (), columns, source)


def _bad_input(
    source: records.Source, message: str, raw: str, columns: records.Columns
) -> records.FailedRecord:
    where = records.root_id(source.uri, source.position)
    return records.FailedRecord(
        where, None, where, source, INPUT_PLACE, "BadInput", message, raw, columns=columns
    )


def _duplicate(root: records.Record, spec: InputSpec) -> records.FailedRecord:
    where = records.root_id(root.source.uri, root.source.position)
    return records.FailedRecord(
        where,
        None,
        where,
        root.source,
        INPUT_PLACE,
        "DuplicateId",
        f"column {spec.id_column!r}: an earlier record has the id {root.source.user_id!r}",
        columns=root.columns,
    )
