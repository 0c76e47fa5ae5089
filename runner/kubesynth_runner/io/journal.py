"""The journal of a shard: every finished model call, so that nothing is paid for twice.

A segment is a sequence of frames (`io.segments`); the payload of each is a msgpack array
(`CallFrame`). Each attempt at a shard appends to segments of its own, named by its epoch, and reads
those of all attempts; a torn frame at a segment's end is where its writer died.

A call is found again by (record id, stage, number of the call), and is only used if the request is
still the same.
"""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec
import xxhash

from kubesynth_runner import errors
from kubesynth_runner.io import layout, segments
from kubesynth_runner.io.storage import AppendLog, Storage
from kubesynth_runner.llm.base import TokenLogprobs, TokenUsage

# A segment ends when it is so large, or when a part is cut.
SEGMENT_BYTES = 64 << 20
# Calls that are read at a time from storage that is far away.
READERS = 16


class ChoiceFrame(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One of the further choices of a call that asked for several."""

    text: str
    finish_reason: str | None
    reasoning: str | None = None
    refusal: str | None = None
    logprobs: TokenLogprobs | None = None


class CallFrame(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A finished call: what came back, or why nothing will.

    `ordinal` is the root record's place in the shard. `failure` is an ErrorKind when the call
    failed for good; `text` is then the message. `model_place` is the model's place in the spec.

    With `lost_by` it is no finished call, but an answer that was of no use to the call of that key
    and has been paid for all the same.
    """

    key: bytes
    request_hash: bytes
    ordinal: int
    text: str
    finish_reason: str | None
    prompt_tokens: int
    completion_tokens: int
    model: str
    attempts: int
    reasoning: str | None = None
    refusal: str | None = None
    failure: str | None = None
    status_code: int | None = None
    body: str = ""
    logprobs: TokenLogprobs | None = None
    others: list[ChoiceFrame] = []
    tokens_estimated: bool = False
    model_place: int = 0
    lost_by: bytes = b""


class Unfinished(msgspec.Struct, gc=False):
    """What answers for records that are not committed have taken, of one model.

    `tokens_estimated` are those of the tokens that no server has counted.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    calls: int = 0
    tokens_estimated: int = 0


def call_key(record_id: str, stage_index: int, call: int) -> bytes:
    """Return the name of a call, 16 bytes."""
    return xxhash.xxh3_128_digest(f"call\0{record_id}\0{stage_index}\0{call}".encode())


@dataclasses.dataclass(slots=True)
class _Segment:
    path: str
    live_roots: set[int] = dataclasses.field(default_factory=set)
    closed: bool = True
    size_bytes: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class _Place:
    segment: str
    offset: int
    length: int


class Journal:
    """The journal as one attempt sees it. One instance per shard and process.

    It finds the calls of earlier attempts: no attempt asks for the same call twice. Only where
    their frames lie is kept in memory (about 300 bytes a call), and only for records that are not
    committed; a replayed call is read from storage when it is asked for.
    """

    def __init__(self, storage: Storage, run_id: str, shard: int, epoch: int) -> None:
        self._storage = storage
        self._layout = layout.RunLayout(run_id)
        self._shard = shard
        self._epoch = epoch
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(CallFrame).decode
        self._places: dict[bytes, _Place] = {}
        self._segments: dict[str, _Segment] = {}
        self._keys_of_root: dict[int, list[bytes]] = {}
        # Tokens of lost answers, by the call's key and then the answer's own.
        self._lost: dict[bytes, dict[bytes, TokenUsage]] = {}
        self._log: AppendLog | None = None
        self._rotated: list[AppendLog] = []
        # Commits and heartbeats close in threads of their own.
        self._closing = threading.Lock()
        self._readers = (
            ThreadPoolExecutor(READERS, thread_name_prefix="journal") if storage.is_remote else None
        )
        self._current: _Segment | None = None
        self._sequence = 0
        self.dirty = False
        # What earlier attempts have paid, by the model's place in the spec.
        self.unfinished: dict[int, Unfinished] = {}

    def load(self, is_done: bytearray) -> None:
        """Index the calls of earlier attempts, except for records that are committed."""
        for path in self.read(is_done):
            if not path.startswith(self._own_prefix()):
                self._storage.delete(path)

    def read(self, is_done: bytearray) -> list[str]:
        """Do as `load` does, but return the segments that nobody needs instead of deleting them.

        For whoever has not claimed the shard: another attempt may be about to write to them.
        """
        unneeded = []
        for file in self._storage.list_files(self._layout.journal(self._shard)):
            segment = _Segment(file.path)
            try:
                for offset, payload in segments.scan(self._storage, file):
                    frame = self._decode(payload)
                    if is_done[frame.ordinal >> 3] & (1 << (frame.ordinal & 7)):
                        continue
                    self._index(frame, segment, _Place(file.path, offset, len(payload)))
            except FileNotFoundError:  # an older writer, not stopped yet, is done with it
                continue
            if segment.live_roots:
                self._segments[file.path] = segment
            else:
                unneeded.append(file.path)
        return unneeded

    def _own_prefix(self) -> str:
        return f"{self._layout.journal(self._shard)}/{self._epoch:08d}-"

    def _index(self, frame: CallFrame, segment: _Segment, place: _Place) -> None:
        segment.live_roots.add(frame.ordinal)
        if frame.lost_by:
            self._index_lost(frame)
            return
        if frame.key not in self._places:
            self._keys_of_root.setdefault(frame.ordinal, []).append(frame.key)
        self._places[frame.key] = place
        if frame.failure is None:
            self._count(frame, calls=1)

    def _index_lost(self, frame: CallFrame) -> None:
        lost = self._lost.get(frame.lost_by)
        if lost is None:
            lost = self._lost[frame.lost_by] = {}
            self._keys_of_root.setdefault(frame.ordinal, []).append(frame.lost_by)
        # A batch whose taking in broke off is taken in again.
        if frame.key not in lost:
            lost[frame.key] = TokenUsage(
                frame.prompt_tokens, frame.completion_tokens, frame.tokens_estimated
            )
            self._count(frame, calls=0)

    def _count(self, frame: CallFrame, calls: int) -> None:
        unfinished = self.unfinished.setdefault(frame.model_place, Unfinished())
        unfinished.prompt_tokens += frame.prompt_tokens
        unfinished.completion_tokens += frame.completion_tokens
        unfinished.calls += calls
        if frame.tokens_estimated:
            unfinished.tokens_estimated += frame.prompt_tokens + frame.completion_tokens

    def knows(self, key: bytes) -> bool:
        """Tell whether earlier attempts have left anything of a call."""
        return key in self._places or key in self._lost

    def lost(self, key: bytes) -> Iterable[TokenUsage]:
        """Return the tokens of answers that earlier attempts have paid for and could not use."""
        found = self._lost.get(key)
        return found.values() if found is not None else ()

    async def fetch(self, key: bytes, request_hash: bytes) -> CallFrame | None:
        """Do as `find` does, in a thread where the storage is far away: many are read at a time."""
        if self._readers is None or key not in self._places:
            return self.find(key, request_hash)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self.find, key, request_hash)

    def find(self, key: bytes, request_hash: bytes) -> CallFrame | None:
        """Return the call that an earlier attempt has finished, if it was exactly this request."""
        place = self._places.get(key)
        if place is None:
            return None
        try:
            payload = self._storage.read_range(place.segment, place.offset, place.length)
        except FileNotFoundError as exc:
            raise errors.FencedError(
                f"{place.segment} is gone: a newer writer is done with it"
            ) from exc
        frame = self._decode(payload)
        return frame if frame.request_hash == request_hash else None

    def append(self, frame: CallFrame) -> None:
        """Make a finished call survive the death of this process, before its result is used."""
        if self._log is None or self._current is None:
            path = self._layout.journal_segment(self._shard, self._epoch, self._sequence)
            self._sequence += 1
            self._log = self._storage.append_log(path)
            self._current = self._segments[path] = _Segment(path, closed=False)
        data = segments.to_frame(self._encode(frame))
        self._log.append(data)
        self._current.live_roots.add(frame.ordinal)
        self._current.size_bytes += len(data)
        self.dirty = True
        if self._current.size_bytes >= SEGMENT_BYTES:
            self.rotate()

    def sync(self) -> None:
        """Make everything appended so far survive the death of the machine."""
        log = self._log
        if self.dirty:
            self.dirty = False
            self.close_rotated()
            if log is not None:
                log.sync()

    def rotate(self) -> None:
        """End the current segment, so that it can be deleted once its records are committed.

        Does not block: `close_rotated` makes it durable.
        """
        if self._log is not None and self._current is not None:
            self._rotated.append(self._log)
            self._current.closed = True
        self._log = self._current = None

    def close_rotated(self) -> None:
        """Sync and close ended segments. May run in another thread than everything else."""
        with self._closing:
            while self._rotated:
                self._rotated[0].close()
                self._rotated.pop(0)

    def forget(self, ordinals: list[int]) -> list[str]:
        """Drop the calls of committed records; return the segments that held nothing else.

        These are for `delete`, which takes its time.
        """
        for ordinal in ordinals:
            for key in self._keys_of_root.pop(ordinal, ()):
                self._places.pop(key, None)
                self._lost.pop(key, None)
        done = set(ordinals)
        dead = []
        for path, segment in list(self._segments.items()):
            # There may be thousands of segments, with few records each.
            segment.live_roots -= segment.live_roots & done
            if segment.closed and not segment.live_roots:
                del self._segments[path]
                dead.append(path)
        return dead

    def delete(self, paths: Sequence[str]) -> None:
        """Delete segments that nobody needs. Blocking; may run in another thread.

        What a death in between leaves behind is deleted by the next attempt's `load`.
        """
        for path in paths:
            self._storage.delete(path)

    def reopen(self, is_done: bytearray) -> None:
        """Make what this attempt has appended findable, and forget what has been committed."""
        self.close()
        self._places.clear()
        self._segments.clear()
        self._keys_of_root.clear()
        self._lost.clear()
        self.unfinished.clear()
        self.load(is_done)

    def close(self) -> None:
        """Sync and close. Safe to repeat."""
        self.rotate()
        self.close_rotated()
