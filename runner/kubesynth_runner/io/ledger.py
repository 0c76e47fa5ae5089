"""The commit log of a shard: what is done, decided in one place and exactly once.

A part is committed by creating its commit record, whose name is the shard's next part number. The
creation is exclusive, and a writer creates number N only after it has read 0 .. N-1, so the records
form one history whatever the number of writers: a row cannot be committed twice. What a record
names in staging/ is then moved to data/ and errors/, by whoever comes first.

A claim (epoch) makes older writers stop soon; correctness does not rest on it.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator

import msgspec

from kubesynth_api.conditions import Reason
from kubesynth_runner import errors
from kubesynth_runner.io import layout, run_identity
from kubesynth_runner.io.storage import Storage
from kubesynth_runner.tally import Tally


class CommittedFile(msgspec.Struct, frozen=True, rename="camel"):
    """A file of a part: where it waited, where it belongs, and what is in it."""

    staged: str
    path: str
    rows: int
    size_bytes: int
    sha256: str


class CommitRecord(msgspec.Struct, frozen=True, rename="camel"):
    """A committed part. `done` holds first and last ordinals of runs of finished input records."""

    run_id: str
    part: int
    epoch: int
    done: list[tuple[int, int]]
    tally: Tally
    data: CommittedFile | None = None
    errors: CommittedFile | None = None


class ShardManifest(msgspec.Struct, frozen=True, rename="camel"):
    """A finished shard: its files and its exact counts."""

    run_id: str
    shard: int
    epoch: int
    records: int
    tally: Tally
    data: tuple[CommittedFile, ...]
    errors: tuple[CommittedFile, ...]


# Made here, once: msgspec looks at a type when it is first used, and two threads that do so at
# once take the process down.
_COMMIT_DECODER = msgspec.json.Decoder(CommitRecord)
_MANIFEST_DECODER = msgspec.json.Decoder(ShardManifest)


class Ledger:
    """One attempt's hold on a shard. Blocking; one call at a time."""

    def __init__(self, storage: Storage, shard: int, run_id: str, records: int) -> None:
        self.storage = storage
        self.shard = shard
        self.run_id = run_id
        self.layout = layout.RunLayout(run_id)
        self.records = records
        self.epoch = 0
        self.done = no_records_done(records)
        self.tally = Tally()
        self.commits: list[CommitRecord] = []

    def open(self, writer: str) -> None:
        """Claim the shard, read its history and finish what an earlier writer left half moved."""
        self._claim(writer)
        for record in _read_history(self.storage, self.layout, self.shard):
            self._take(record)

    def _claim(self, writer: str) -> None:
        claims = self.storage.list_files(self.layout.claims(self.shard))
        self.epoch = max((int(file.path.rsplit("/", 1)[1]) for file in claims), default=0) + 1
        # Two claims are never equal, whatever writers call themselves; see Storage.create.
        mark = f"{writer} {uuid.uuid4().hex}".encode()
        while not self.storage.create(self.layout.claim(self.shard, self.epoch), mark):
            self.epoch += 1

    def _take(self, record: CommitRecord) -> None:
        publish(self.storage, record)
        mark_done(self.done, record.done)
        self.tally.add(record.tally)
        self.commits.append(record)

    def check_fence(self) -> None:
        """Make sure that nobody has taken over this shard or the whole output.

        Raises:
            FencedError: somebody has.
        """
        if self.storage.exists(self.layout.claim(self.shard, self.epoch + 1)):
            raise errors.FencedError(
                f"shard {self.shard}: a newer writer has claimed it (epoch {self.epoch + 1})"
            )
        identity = run_identity.load(self.storage)
        if identity is None or identity.run_id != self.run_id:
            raise errors.FencedError(
                f"{self.storage.uri} does not belong to this run any more (run {self.run_id})"
            )

    @property
    def next_part(self) -> int:
        """Number of the part that comes next."""
        return len(self.commits)

    def commit(self, record: CommitRecord) -> None:
        """Append a part to the history and move its files into place.

        Raises:
            FencedError: another writer has committed this part.
        """
        self.check_fence()
        path = self.layout.commit(self.shard, record.part)
        if not self.storage.create(path, msgspec.json.encode(record)):
            raise errors.FencedError(
                f"shard {self.shard}: another writer has committed part {record.part}"
            )
        self._take(record)

    def finish(self) -> ShardManifest:
        """Record that the shard is finished. Safe to repeat.

        Raises:
            RetryLaterError: an input record is not done, which only a bug can bring about.
        """
        if self.tally.done != self.records:
            raise errors.RetryLaterError(
                Reason.RUNNER_FAILED,
                f"shard {self.shard}: {self.tally.done} of {self.records} input records are done, "
                "yet there is nothing left to do",
            )
        manifest = ShardManifest(
            self.run_id,
            self.shard,
            self.epoch,
            self.records,
            self.tally,
            tuple(record.data for record in self.commits if record.data is not None),
            tuple(record.errors for record in self.commits if record.errors is not None),
        )
        path = self.layout.shard_manifest(self.shard)
        self.storage.create(path, msgspec.json.encode(manifest))
        tidy(self.storage, self.run_id, self.shard)
        return manifest


def tidy(storage: Storage, run_id: str, shard: int) -> None:
    """Delete what a finished shard does not need any more. Safe to repeat."""
    names = layout.RunLayout(run_id)
    storage.delete(names.staging(shard))
    storage.delete(names.journal(shard))
    storage.delete(names.batches(shard))


def read_shard_manifest(storage: Storage, run_id: str, shard: int) -> ShardManifest | None:
    """Return the manifest of a finished shard, or None while it is not finished."""
    try:
        data = storage.read(layout.RunLayout(run_id).shard_manifest(shard))
    except FileNotFoundError:
        return None
    return _MANIFEST_DECODER.decode(data)


def read_commits(storage: Storage, run_id: str, shard: int) -> list[CommitRecord]:
    """Return the committed parts of a shard without claiming it, all files in their places."""
    commits = list(_read_history(storage, layout.RunLayout(run_id), shard))
    for record in commits:
        publish(storage, record)
    return commits


def publish(storage: Storage, record: CommitRecord) -> None:
    """Move what a record commits to its place. Safe to repeat.

    Raises:
        ConfigurationError: somebody has deleted a committed file.
    """
    for file in (record.data, record.errors):
        if file is None:
            continue
        try:
            storage.publish(file.staged, file.path)
        except FileNotFoundError as exc:
            raise errors.ConfigurationError(
                Reason.OUTPUT_CONFLICT,
                f"{storage.uri}/{file.path} is gone, though its {file.rows} rows were committed; "
                "put it back, or begin again with another output.uri or output.ifExists: Overwrite",
            ) from exc


def _read_history(storage: Storage, names: layout.RunLayout, shard: int) -> Iterator[CommitRecord]:
    for part in itertools.count():
        try:
            data = storage.read(names.commit(shard, part))
        except FileNotFoundError:
            return
        yield _COMMIT_DECODER.decode(data)


def no_records_done(records: int) -> bytearray:
    """Return the bits of so many input records, none of which is done."""
    return bytearray((records + 7) // 8)


def mark_done(done: bytearray, ranges: list[tuple[int, int]]) -> None:
    """Set the bits of inclusive ranges."""
    for first, last in ranges:
        # Whole bytes at once: a shard may have many millions of records.
        first_byte, end_byte = (first + 7) >> 3, (last + 1) >> 3
        if first_byte < end_byte:
            done[first_byte:end_byte] = b"\xff" * (end_byte - first_byte)
            edges = (*range(first, first_byte << 3), *range(end_byte << 3, last + 1))
        else:
            edges = tuple(range(first, last + 1))
        for ordinal in edges:
            done[ordinal >> 3] |= 1 << (ordinal & 7)


def to_ranges(ordinals: list[int]) -> list[tuple[int, int]]:
    """Return distinct ordinals as sorted, inclusive ranges."""
    ranges: list[tuple[int, int]] = []
    for ordinal in sorted(ordinals):
        if ranges and ordinal == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], ordinal)
        else:
            ranges.append((ordinal, ordinal))
    return ranges
