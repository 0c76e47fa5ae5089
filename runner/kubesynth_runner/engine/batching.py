"""Calls through a batch API: collected, sent off many at a time, journalled when they come back.

A call that is not in the journal goes into its model's outbox, and its record is put off
(`Deferred`). Full outboxes, and all at the end of a pass over the records, are sent off as batches.
Every batch is written down before it is created, so that whoever comes after a death here takes the
same batch up again. Answers become the same frames in the same journal as those of single requests;
calls that were not carried out, or may succeed another time, go round again with the next pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import msgspec

from kubesynth_api.conditions import Reason
from kubesynth_runner import errors
from kubesynth_runner.engine import frames, retry
from kubesynth_runner.engine.batch_outbox import Outbox
from kubesynth_runner.engine.batch_sizes import LEAST_BYTES, MAX_BYTES, MAX_REQUESTS, BatchSize
from kubesynth_runner.engine.calls import Caller, Deferred, NewCall
from kubesynth_runner.engine.connection import ModelConnection
from kubesynth_runner.io.batch_book import BatchBook, OpenBatch
from kubesynth_runner.io.journal import CallFrame, Journal
from kubesynth_runner.llm import batch_wire
from kubesynth_runner.llm.absence import Absence
from kubesynth_runner.llm.base import Completion, CompletionRequest
from kubesynth_runner.llm.batches import BatchApi, BatchState
from kubesynth_runner.llm.errors import BACKPRESSURE, FATAL, UNREACHED, ClientError, ErrorKind

LOG = logging.getLogger(__name__)
T = TypeVar("T")

FIRST_POLL_SECONDS = 0.5
LAST_POLL_SECONDS = 60.0
POLL_GROWTH = 1.3
# A result may come faster than a far store takes the journal: no more than this waits in memory.
RESULT_SYNC_BYTES = 16 << 20
# So many batches in a row that end without a single answer are an outage.
FRUITLESS_BATCHES = 3
# Too many tokens are waiting in the account's other batches.
_FULL_QUEUE_CODES = frozenset({"token_limit_exceeded", "rate_limit_exceeded"})
FULL_QUEUE_PAUSE_SECONDS = 60.0
_HOPELESS = frozenset({ErrorKind.BAD_REQUEST, ErrorKind.CONTEXT_OVERFLOW})


@dataclasses.dataclass(frozen=True, slots=True)
class BatchSettings:
    """How batches are made. `check_fence` raises when somebody else has taken over the shard."""

    check_fence: Callable[[], None]
    report: Callable[[str], None] = lambda _: None
    max_requests: int = MAX_REQUESTS
    max_bytes: int = MAX_BYTES
    least_bytes: int = LEAST_BYTES


class _Lane:
    """One model's batches. Whoever adds to the outbox, or sends it off, holds the lock.

    So there is one file of a model at a time, in /tmp, whatever the number of records under way.
    """

    def __init__(self, settings: BatchSettings) -> None:
        self.lock = asyncio.Lock()
        self.outbox: Outbox | None = None
        self.size = BatchSize(settings.max_requests, settings.max_bytes, settings.least_bytes)


class BatchCaller(Caller):
    """A `Caller` whose calls are answered by batches. One instance per shard and event loop."""

    def __init__(
        self,
        journal: Journal,
        book: BatchBook,
        connections: Mapping[str, ModelConnection],
        settings: BatchSettings,
    ) -> None:
        super().__init__(journal)
        self._book = book
        self._connections = connections
        self._settings = settings
        self._lanes: defaultdict[str, _Lane] = defaultdict(lambda: _Lane(settings))
        # Tries that calls have behind them, by key, where there was one.
        self._attempts: dict[bytes, int] = {}
        self._open: dict[str, OpenBatch] = {}
        self._fruitless = 0
        # Why requests were not carried out that no other record helps: told when all is taken in.
        self._fatal: str | None = None

    @property
    def has_open(self) -> bool:
        """Whether answers are awaited."""
        return bool(self._open)

    async def _obtain(
        self, connection: ModelConnection, call: NewCall, request: CompletionRequest
    ) -> CallFrame:
        attempts = self._attempts.get(call.key, 0)
        named = batch_wire.BatchCall(call.key, call.request_hash, call.ordinal, attempts)
        try:
            line = batch_wire.request_line(named, connection.model, request)
        except ClientError as error:
            return self._finish(connection, named, error)
        lane = self._lanes[connection.role]
        async with lane.lock:
            outbox = lane.outbox
            if outbox is not None and not lane.size.has_room(
                outbox.requests, outbox.size_bytes, len(line)
            ):
                await self._send_off(connection)
            if lane.outbox is None:
                lane.outbox = Outbox()
            lane.outbox.add(line)
        raise Deferred

    def _finish(
        self,
        connection: ModelConnection,
        call: batch_wire.BatchCall,
        result: Completion | ClientError,
    ) -> CallFrame:
        frame = frames.from_outcome(
            (result, call.attempts + 1),
            call.key,
            call.request_hash,
            call.ordinal,
            connection.place,
        )
        self._journal.append(frame)
        return frame

    def drop(self) -> None:
        """Forget what has been collected and not sent off. Safe to repeat."""
        for lane in self._lanes.values():
            if lane.outbox is not None:
                lane.outbox.close()
                lane.outbox = None

    async def send_off(self) -> None:
        """Send off what has been collected."""
        for role, lane in list(self._lanes.items()):
            async with lane.lock:
                await self._send_off(self._connections[role])

    async def _send_off(self, connection: ModelConnection) -> None:
        """Send off what has been collected for a model, whose lock is ours."""
        lane = self._lanes[connection.role]
        outbox, lane.outbox = lane.outbox, None
        if outbox is None:
            return
        api = _api(connection)
        try:
            outbox.finish()
            await asyncio.to_thread(self._settings.check_fence)
            token = uuid.uuid4().hex
            name = f"kubesynth-{token}.jsonl"
            file_id = await self._insist(connection, lambda: api.upload(outbox.path, name))
        finally:
            outbox.close()
        batch = OpenBatch(connection.role, token, outbox.requests, file_id)
        path = await asyncio.to_thread(self._book.add, batch)
        self._open[path] = batch
        state = await self._create(connection, batch)
        await self._note_id(path, batch, state)
        LOG.info("batch created", extra={"batch": state.batch_id, "requests": batch.requests})

    async def _note_id(self, path: str, batch: OpenBatch, state: BatchState) -> OpenBatch:
        known = msgspec.structs.replace(batch, batch_id=state.batch_id)
        await asyncio.to_thread(self._book.put, path, known)
        self._open[path] = known
        return known

    async def _create(self, connection: ModelConnection, batch: OpenBatch) -> BatchState:
        """Create a batch; before a second try, look whether the first one has arrived."""
        api = _api(connection)
        is_first = True

        async def ask() -> BatchState:
            nonlocal is_first
            found = None if is_first else await api.find(batch.token)
            is_first = False
            return found or await api.create(batch.file_id, batch.token)

        return await self._insist(connection, ask)

    async def _insist(self, connection: ModelConnection, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask until there is an answer.

        Raises:
            ConfigurationError: there will never be one.
            RetryLaterError: there was none for too long, or the key is wrong.
            StoppedError: the process is stopping.
        """
        loop, absence, attempts = asyncio.get_running_loop(), Absence(), 0
        began = loop.time()
        while True:
            try:
                answer = await ask()
            except ClientError as error:
                where = f"model {connection.role!r}, execution: Batch: "
                if absence.is_final(error, loop.time()) or error.kind in _HOPELESS:
                    raise errors.ConfigurationError(
                        Reason.INVALID_SPEC,
                        f"{where}the endpoint does not know it; does it have OpenAI's /files and "
                        f"/batches? {error}",
                    ) from error
                is_long = loop.time() - began > connection.outage_limit_seconds
                if is_long or error.kind in FATAL - UNREACHED:
                    unhealthy = errors.RetryLaterError(Reason.MODEL_UNHEALTHY, f"{where}{error}")
                    raise unhealthy from error
                wait_seconds = error.retry_after_seconds or 0.0
                self.waiting.waits(connection.role, error)
            else:
                self.waiting.answers(connection.role)
                return answer
            attempts += 1
            wait_seconds = max(wait_seconds, retry.delay_seconds(attempts, self._random.random()))
            await self._pause(wait_seconds)

    async def settle(self) -> bool:
        """Wait for all open batches, those of earlier attempts included, and journal the answers.

        Returns whether there were any.

        Raises:
            StoppedError: the process is stopping; the batches go on.
            RunnerError: there is no point in waiting, or in sending more.
        """
        self._open = await asyncio.to_thread(self._book.load)
        had_some, pause_seconds = self.has_open, FIRST_POLL_SECONDS
        while self._open:
            states = [await self._look(path) for path in list(self._open)]
            under_way = [state for state in states if state is not None]
            if under_way:
                done = sum(state.completed + state.failed for state in under_way)
                total = sum(state.total for state in under_way)
                self._settings.report(
                    f"{len(under_way)} batches under way: {done} of {total} requests done"
                )
                await self._pause(pause_seconds)
                pause_seconds = min(pause_seconds * POLL_GROWTH, LAST_POLL_SECONDS)
        self._settings.report("")
        if self._fatal is not None:
            raise errors.RetryLaterError(Reason.MODEL_UNHEALTHY, self._fatal)
        are_full = [lane.size.end_round() for lane in self._lanes.values()]
        if any(are_full):
            self._settings.report("waiting for room in the account's queue of batches")
            await self._pause(FULL_QUEUE_PAUSE_SECONDS)
            self._settings.report("")
        return had_some

    async def _look(self, path: str) -> BatchState | None:
        """Look after a batch; return its state while it is under way, None if it is done with."""
        batch = self._open[path]
        connection = self._connections[batch.role]
        api = _api(connection)
        batch_id = batch.batch_id
        if batch_id is None:
            found = await self._insist(connection, lambda: api.find(batch.token))
            if found is None:  # the writer died before it was created: its calls go round again
                await self._close(path, batch)
                return None
            batch = await self._note_id(path, batch, found)
            batch_id = found.batch_id
        known_id = batch_id
        try:
            state = await self._insist(connection, lambda: api.look(known_id))
            if not state.has_ended:
                return state
            fatal = await self._take_in(connection, state)
        except errors.ConfigurationError as exc:
            # Sending its calls again might pay for them twice: that is for a person to decide.
            raise errors.ConfigurationError(
                exc.reason,
                f"{exc}. The batch {batch_id} of {batch.requests} requests cannot be read; if it "
                f"is lost for good, delete {path} in the output, and its requests are sent again",
            ) from exc
        await asyncio.to_thread(self._journal.sync)
        await self._close(path, batch)
        if fatal:
            self._fatal = self._fatal or (
                f"model {connection.role!r}: {len(fatal)} of the batch {batch_id} of "
                f"{batch.requests} requests were not carried out, and will be sent again: "
                f"{next(iter(fatal.values()))}"
            )
            LOG.warning("requests were not carried out", extra={"detail": self._fatal})
            return None
        self._judge_batch(connection, batch, state)
        return None

    async def _close(self, path: str, batch: OpenBatch) -> None:
        await asyncio.to_thread(self._book.remove, path)
        del self._open[path]
        with contextlib.suppress(ClientError):  # the server deletes it, too, in time
            await _api(self._connections[batch.role]).delete_file(batch.file_id)

    async def _take_in(
        self, connection: ModelConnection, state: BatchState
    ) -> dict[bytes, ClientError]:
        """Journal a batch's answers; return the calls that failed of what only a person can mend.

        Those cost nothing and go round again, so that all the other answers are kept.
        """
        api = _api(connection)
        fatal: dict[bytes, ClientError] = {}

        async def read(file_id: str) -> None:
            unsaved = 0
            async for line in api.read_lines(file_id):
                unsaved += len(line)
                if unsaved >= RESULT_SYNC_BYTES:
                    unsaved = 0
                    await asyncio.to_thread(self._journal.sync)
                try:
                    call, result = batch_wire.read_line(line)
                except ValueError as exc:
                    LOG.warning("a line was skipped", extra={"detail": str(exc)})
                    continue
                if isinstance(result, ClientError) and result.kind in FATAL:
                    fatal[call.key] = result
                    self._attempts[call.key] = call.attempts
                    continue
                self._take(connection, state.batch_id, call, result)

        for file_id in (state.output_file_id, state.error_file_id):
            if file_id:
                # From the start again if it breaks off: an answer may be journalled twice.
                await self._insist(connection, functools.partial(read, file_id))
        return fatal

    def _take(
        self,
        connection: ModelConnection,
        batch_id: str,
        call: batch_wire.BatchCall,
        result: Completion | ClientError,
    ) -> None:
        """Journal an answer, or let its call go round again."""
        if isinstance(result, ClientError):
            if result.answer is not None and result.answer.usage.total_tokens:
                # Paid for, whatever becomes of the call, and once however often it is read.
                name = f"{batch_id}.{call.attempts}"
                named = (call.key, call.request_hash, call.ordinal)
                self._journal.append(frames.of_lost(result.answer, name, named, connection.place))
            if result.kind in BACKPRESSURE:
                self._attempts[call.key] = call.attempts
                return
            if result.may_pass and call.attempts + 1 < connection.max_attempts:
                self._attempts[call.key] = call.attempts + 1
                self.process_tally.requests_retried += 1
                return
        self._attempts.pop(call.key, None)
        self._finish(connection, call, result)

    def _judge_batch(
        self, connection: ModelConnection, batch: OpenBatch, state: BatchState
    ) -> None:
        """Decide what a batch's end means for those to come."""
        LOG.info(
            "batch ended",
            extra={"batch": state.batch_id, "status": state.status, "answers": state.completed},
        )
        size = self._lanes[batch.role].size
        if state.completed:
            size.on_let_in()
            self._fruitless = 0
            return
        said = batch_wire.describe(state.errors)
        self._fruitless += 1
        if state.status == "failed":
            if not any(code in _FULL_QUEUE_CODES for code, _ in state.errors):
                raise errors.ConfigurationError(
                    Reason.INVALID_SPEC,
                    f"model {connection.role!r}: the endpoint refused the batch "
                    f"{state.batch_id}: {said}",
                )
            size.on_full_queue(batch.requests)
            return
        size.on_let_in()
        if self._fruitless >= FRUITLESS_BATCHES:
            raise errors.RetryLaterError(
                Reason.MODEL_UNHEALTHY,
                f"model {connection.role!r}: {self._fruitless} batches in a row ended without an "
                f"answer, the last one as {state.status}: {said}",
            )


def _api(connection: ModelConnection) -> BatchApi:
    assert connection.batches is not None, "the run is not one of batches"
    return connection.batches
