"""Records: what flows through a pipeline, with deterministic ids and their lineage."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import xxhash

Columns = dict[str, Any]


class CallProvenance(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """One completion that a record owes its existence to.

    `prompt_hash` is the hash of the request body's messages, `seed` the seed that was sent. Tokens
    are those of the whole request, estimated if the server does not count; where it asked for
    several choices, `choice` is the record's. `logprobs` is in the form of `io.schema`, if log
    probabilities were asked for.
    """

    stage: str
    model: str
    prompt_hash: str
    seed: int | None
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str | None
    attempts: int
    choice: int = 0
    logprobs: dict[str, Any] | None = None
    tokens_estimated: bool = False


class Source(msgspec.Struct, frozen=True, gc=False):
    """Where a root record comes from: file, 1-based position in it, and the user's id if any."""

    uri: str
    position: int
    user_id: str | None = None


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record at some stage of the pipeline.

    `path` is the list of ordinals from the root: it orders the records of one root. `made` is how
    many children its next stage made of it in an earlier run, before it failed: they are there.
    """

    record_id: str
    parent_id: str | None
    root_id: str
    path: tuple[int, ...]
    columns: Columns
    source: Source
    provenance: tuple[CallProvenance, ...] = ()
    made: int = 0

    def child(
        self,
        stage_index: int,
        ordinal: int,
        columns: Columns,
        provenance: tuple[CallProvenance, ...],
    ) -> Record:
        """Return the `ordinal`-th record that stage `stage_index` makes of this one.

        `columns` are added to this record's.
        """
        return Record(
            child_id(self.record_id, stage_index, ordinal),
            self.record_id,
            self.root_id,
            (*self.path, ordinal),
            {**self.columns, **columns},
            self.source,
            (*self.provenance, *provenance),
        )


@dataclasses.dataclass(frozen=True, slots=True)
class FailedRecord:
    """A record that will not become a row, and why. Goes to errors/.

    `kind` is an `llm.errors.ErrorKind`, or BadInput, DuplicateId, UnparsableCompletion,
    TooFewItems, Refusal, TemplateError, InternalError. `raw` is what the model or the file said.
    With `path`, `provenance`, and `made`, how many children the stage had made before it failed,
    another run can go on where this one was.
    """

    record_id: str
    parent_id: str | None
    root_id: str
    source: Source
    stage: str
    kind: str
    message: str
    raw: str = ""
    status_code: int | None = None
    attempts: int = 0
    columns: Columns = dataclasses.field(default_factory=dict)
    path: tuple[int, ...] = ()
    made: int = 0
    provenance: tuple[CallProvenance, ...] = ()


def root_id(uri: str, position: int) -> str:
    """Return the id of a record known by its place."""
    return xxhash.xxh3_128_hexdigest(f"place\0{uri}\0{position}".encode())


def root_id_of_user_id(user_id: str) -> str:
    """Return the id of a record that the user has given an id."""
    return xxhash.xxh3_128_hexdigest(f"id\0{user_id}".encode())


def child_id(parent_id: str, stage_index: int, ordinal: int) -> str:
    """Return the id of a stage's output record: hash(parent id, stage index, ordinal)."""
    return xxhash.xxh3_128_hexdigest(f"child\0{parent_id}\0{stage_index}\0{ordinal}".encode())


def derive_seed(seed: int, record_id: str, stage_index: int, call: int) -> int:
    """Return the seed of one request, in 0 .. 2**31 - 1, the range every server takes."""
    digest = xxhash.xxh3_64_intdigest(f"seed\0{seed}\0{record_id}\0{stage_index}\0{call}".encode())
    return digest & 0x7FFFFFFF
