"""Looking at all records of the input once: how many, which are taken, duplicates, column types.

Files are looked at side by side, since most of the time is spent waiting for the store. What comes
out is in the order of the files.
"""

from __future__ import annotations

import collections
import dataclasses
from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import xxhash

from kubesynth_api.v1alpha1.storage import InputSpec
from kubesynth_runner import errors
from kubesynth_runner.io import readers
from kubesynth_runner.io.column_presence import ColumnPresence
from kubesynth_runner.io.inputs import InputSource
from kubesynth_runner.io.partition import ScannedFile
from kubesynth_runner.io.plan_file import ColumnType, InputFile
from kubesynth_runner.io.sampling import Sample, user_id_text

PARALLEL_FILES = 16
_CHECK_STOP_EVERY_RECORDS = 4096
_STRING: frozenset[ColumnType] = frozenset({"string"})
_BOOLEAN: frozenset[ColumnType] = frozenset({"boolean"})
_INTEGER: frozenset[ColumnType] = frozenset({"integer"})
_NUMBER: frozenset[ColumnType] = frozenset({"number"})
_JSON: frozenset[ColumnType] = frozenset({"json"})


@dataclasses.dataclass(frozen=True, slots=True)
class Survey:
    """What is in the input.

    `duplicates` are sorted positions, among the records that are taken, of those whose id an
    earlier one has. `column_types` are those of the carried columns. `left_out` says how many
    files of a folder are not read, by their ending.
    """

    files: tuple[ScannedFile, ...]
    duplicates: tuple[int, ...]
    column_types: dict[str, ColumnType]
    left_out: dict[str, int]


def survey(
    source: InputSource,
    files: Sequence[InputFile],
    spec: InputSpec,
    sample: Sample | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Survey:
    """Look at the records of `files`, or at as many as `input.limit` asks for.

    Holds 8 bytes per record where there is an id column, and as much per record of a sample.

    Raises:
        ConfigurationError: a file as a whole cannot be read, or has changed; or no record has the
            column of the texts, of the ids, or one that is carried.
        RetryLaterError: it is not available.
        StoppedError: `stopped` said so.
    """
    found: list[_FileSurvey] = []
    taken = 0
    with ThreadPoolExecutor(PARALLEL_FILES, thread_name_prefix="survey") as pool:
        waiting = iter(files)
        running: collections.deque[Future[_FileSurvey]] = collections.deque()
        cancelled = False
        presence = ColumnPresence(spec)
        look = _Look(source, spec, sample, lambda: cancelled or stopped(), presence)
        try:
            while True:
                while len(running) < 2 * PARALLEL_FILES and (file := next(waiting, None)):
                    running.append(pool.submit(look.at, file))
                if not running:
                    break
                one = running.popleft().result()
                found.append(one)
                taken += one.scanned.taken
                if spec.limit is not None and taken >= spec.limit:
                    break
        finally:
            cancelled = True
            for future in running:
                future.cancel()
    presence.check()
    return Survey(
        tuple(one.scanned for one in found),
        tuple(_repeated(one.ids for one in found)) if spec.id_column is not None else (),
        {name: _widest([one.types[name] for one in found]) for name in spec.columns},
        dict(source.left_out),
    )


@dataclasses.dataclass(slots=True)
class _FileSurvey:
    scanned: ScannedFile
    ids: array[int]
    types: dict[str, frozenset[ColumnType]]


@dataclasses.dataclass(frozen=True, slots=True)
class _Look:
    """How one file is looked at."""

    source: InputSource
    spec: InputSpec
    sample: Sample | None
    stopped: Callable[[], bool]
    presence: ColumnPresence

    def at(self, file: InputFile) -> _FileSurvey:
        """Look at one file."""
        if self.stopped():
            raise errors.StoppedError
        content = self.source.open(file)
        types = dict.fromkeys(self.spec.columns, frozenset[ColumnType]())
        carried = dict(self.spec.columns)
        names: Collection[str] = ()  # of the whole file, where it has some
        if file.format == "Parquet" and (carried or not self.presence.is_settled):
            known = readers.column_types(file, content)
            names = known
            types = {name: known.get(original, types[name]) for name, original in carried.items()}
            carried = {}
        elif file.format == "Text":
            names = ("text", self.spec.text_column)
        visitor = _Visitor(self, file, carried, types)
        wanted = {*carried.values()}
        if self.spec.id_column is not None:
            wanted.add(self.spec.id_column)
        scanned = readers.scan(
            file, content, visitor.visit, wanted or None, lambda: not self.presence.is_settled
        )
        if scanned.file.records:
            self.presence.see(names)
        if self.sample is not None:
            scanned = dataclasses.replace(scanned, sample=visitor.indexes)
        return _FileSurvey(scanned, visitor.ids, visitor.types)


class _Visitor:
    """Takes down what is wanted of each record of a file."""

    def __init__(
        self,
        look: _Look,
        file: InputFile,
        carried: dict[str, str],
        types: dict[str, frozenset[ColumnType]],
    ) -> None:
        self.ids = array("Q")
        self.indexes = array("Q")
        self.types = types
        self._look = look
        self._file = file
        self._carried = carried
        self._limit = look.spec.limit
        self._records = 0
        self._taken = 0

    def visit(self, position: int, columns: dict[str, Any] | None) -> bool:
        """Look at a record; return whether more are wanted."""
        index = self._records
        self._records += 1
        if index % _CHECK_STOP_EVERY_RECORDS == 0 and self._look.stopped():
            raise errors.StoppedError
        sample = self._look.sample
        if sample is not None:
            if not sample.takes(self._file.uri, position, columns):
                return True
            self.indexes.append(index)
        self._taken += 1
        if self._look.spec.id_column is not None:
            self.ids.append(self._id_hash(position, columns))
        if columns is not None:
            self._look.presence.see(columns)
            for name, original in self._carried.items():
                self.types[name] |= _types_of(columns.get(original))
        return self._limit is None or self._taken < self._limit

    def _id_hash(self, position: int, columns: dict[str, Any] | None) -> int:
        """Return a hash of the id. Two ids count as equal if their 64-bit hashes are."""
        user_id = None
        if columns is not None:
            user_id = user_id_text(columns.get(self._look.spec.id_column or ""))
        # A record without an id is nobody's duplicate: its place makes it unique.
        name = f"none\0{self._file.uri}\0{position}" if user_id is None else f"id\0{user_id}"
        return xxhash.xxh3_64_intdigest(name.encode("utf-8", "surrogatepass"))


def _repeated(ids: Iterator[array[int]]) -> list[int]:
    """Return the positions of hashes that an earlier position has, too."""
    chunks = [
        pa.Array.from_buffers(pa.uint64(), len(one), [None, pa.py_buffer(one)])
        for one in ids
        if len(one)
    ]
    if not chunks:
        return []
    column = pa.chunked_array(chunks)
    table = pa.table({"hash": column, "position": pa.array(range(len(column)), pa.int64())})
    firsts = table.group_by("hash").aggregate([("position", "min")])["position_min"]
    if len(firsts) == len(column):
        return []
    import pyarrow.compute as pc  # a fourteenth of the time that a start takes

    is_first = pc.is_in(table["position"], value_set=firsts.combine_chunks())
    return list(table.filter(pc.invert(is_first))["position"].to_pylist())


def _types_of(value: Any) -> frozenset[ColumnType]:
    match value:
        case None:
            return frozenset()
        case str():
            return _STRING
        case bool():
            return _BOOLEAN
        case int() if -(2**63) <= value < 2**63:
            return _INTEGER
        case float():
            return _NUMBER
        case _:
            return _JSON


def _widest(seen: list[frozenset[ColumnType]]) -> ColumnType:
    """Return the type that holds every value.

    Every record is looked at: one that does not fit its column would fail only after its
    completions have been paid for.
    """
    types = frozenset[ColumnType]().union(*seen)
    if not types:
        return "string"
    if len(types) == 1:
        return next(iter(types))
    return "number" if types <= {"integer", "number"} else "json"
