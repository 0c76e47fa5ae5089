"""The plan as it is stored: which files, which columns, and which records each shard gets."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import msgspec
import xxhash

from kubesynth_api import input_formats
from kubesynth_api.conditions import Reason
from kubesynth_runner import errors
from kubesynth_runner.io import layout
from kubesynth_runner.io.storage import Storage
from kubesynth_runner.records import CallProvenance

# Thousands of small files: each waits for the disk or the store, not for us.
PARALLEL_WRITES = 16
FileFormat = input_formats.FileFormat
# The type of an input column that is carried to the output. "json": anything, as JSON text.
ColumnType = Literal["string", "integer", "number", "boolean", "json"]


class InputFile(msgspec.Struct, frozen=True, rename="camel"):
    """A file of the input as plan saw it. `version` differs when the content may differ."""

    uri: str
    format: FileFormat
    size_bytes: int
    version: str
    records: int = 0


class Slice(msgspec.Struct, frozen=True, rename="camel"):
    """Consecutive records of one file.

    `first_record` counts from 0 over the file's records (blank lines are none). Where the file can
    be entered in the middle, `offset` and `line` belong to the record `entry_record` at or before
    the first one. `taken` is how many of the records belong to a sample; None: all of them.
    """

    file: InputFile
    first_record: int
    records: int
    entry_record: int = 0
    offset: int = 0
    line: int = 0
    taken: int | None = None

    @property
    def roots(self) -> int:
        """Number of records that are taken."""
        return self.records if self.taken is None else self.taken


class Seed(msgspec.Struct, frozen=True, rename="camel"):
    """A generated record that the pipeline starts from, with the completions that it comes of."""

    record_id: str
    columns: dict[str, Any]
    provenance: tuple[CallProvenance, ...] = ()


class Partition(msgspec.Struct, frozen=True, rename="camel"):
    """The input of one shard: slices of files in order, or generated records.

    A record's ordinal counts from 0 over all of them. `duplicates` are ordinals of records whose id
    an earlier record of the input has; in a replay, of failures that are carried over as they are.
    `first_seed` is the place of the first generated record among those of all shards.
    """

    shard: int
    slices: tuple[Slice, ...] = ()
    duplicates: tuple[int, ...] = ()
    seeds: tuple[Seed, ...] = ()
    first_seed: int = 0

    @property
    def records(self) -> int:
        """Number of records."""
        return sum(piece.roots for piece in self.slices) + len(self.seeds)


class StepIdentity(msgspec.Struct, frozen=True, rename="camel"):
    """A step of a run's pipeline: its name in errors/, and a hash of everything before it."""

    name: str
    before: str


class EarlierRun(msgspec.Struct, frozen=True, rename="camel"):
    """The run whose failed records a run replays, as far as it must be known to do so.

    `whole` is the hash of its whole pipeline. `input` is the `spec.input` of the run that first
    read these records, None if they were generated.
    """

    uri: str
    run_id: str
    steps: tuple[StepIdentity, ...]
    whole: str
    input: dict[str, Any] | None = None


class PlanFile(msgspec.Struct, frozen=True, rename="camel"):
    """What plan found out, for all shards and for finalize.

    `partitions` is the version of the partitions that belong to it: two plan pods at once may have
    seen different input.
    """

    run_id: str
    pipeline_hash: str
    partitions: str
    shards: int
    records: int
    files: tuple[InputFile, ...]
    column_types: dict[str, ColumnType]
    estimated_calls: int
    estimated_tokens: int
    estimated_rows: int
    # True where plan has generated the input.
    generated: bool = False
    replays: EarlierRun | None = None
    estimated_cost_usd: float | None = None
    # Hashes of the texts that the spec refers to, by field; None in plans of older versions.
    texts: dict[str, str] | None = None
    # Files of the input's folder that are not read, by their ending.
    left_out: dict[str, int] = {}


_PLAN_DECODER = msgspec.json.Decoder(PlanFile)
_PARTITION_DECODER = msgspec.json.Decoder(Partition)


def version_of(partitions: list[Partition]) -> str:
    """Return a name for partitions: equal ones have equal names."""
    return xxhash.xxh3_64_hexdigest(msgspec.json.encode(partitions))


def save(storage: Storage, plan: PlanFile, partitions: list[Partition]) -> PlanFile:
    """Store the partitions, then the plan, which makes them count; return the plan that counts.

    Safe to repeat; the first one to be stored is the run's plan.
    """
    names = layout.RunLayout(plan.run_id)

    def put(part: Partition) -> None:
        storage.put(names.partition(plan.partitions, part.shard), msgspec.json.encode(part))

    with ThreadPoolExecutor(PARALLEL_WRITES) as pool:
        list(pool.map(put, partitions))
    if storage.create(names.plan, msgspec.json.encode(plan)):
        return plan
    return load(storage, plan.run_id) or plan


def load(storage: Storage, run_id: str) -> PlanFile | None:
    """Return the stored plan of a run, if there is one."""
    try:
        data = storage.read(layout.RunLayout(run_id).plan)
    except FileNotFoundError:
        return None
    return _PLAN_DECODER.decode(data)


def load_partition(storage: Storage, plan: PlanFile, shard: int) -> Partition:
    """Return a shard's partition."""
    path = layout.RunLayout(plan.run_id).partition(plan.partitions, shard)
    try:
        data = storage.read(path)
    except FileNotFoundError as exc:
        raise errors.RetryLaterError(
            Reason.RUNNER_FAILED, f"{storage.uri}/{path} is missing: is the run being deleted?"
        ) from exc
    return _PARTITION_DECODER.decode(data)
