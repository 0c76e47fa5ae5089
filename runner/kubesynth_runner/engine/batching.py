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
from kubesynth_runner.engine import batch_verdicts, retry
from kubesynth_runner.engine.batch_intake import Answers
from kubesynth_runner.engine.batch_outbox import Outbox
from kubesynth_runner.engine.batch_sizes import LEAST_BYTES, MAX_BYTES, MAX_REQUESTS, BatchSize
from kubesynth_runner.engine.batch_verdicts import Harvest, Intake, Verdict
from kubesynth_runner.engine.calls import Caller, Deferred, NewCall
from kubesynth_runner.engine.connection import ModelConnection
from kubesynth_runner.io.batch_book import BatchBook, OpenBatch
from kubesynth_runner.io.journal import CallFrame, Journal
from kubesynth_runner.llm import batch_wire
from kubesynth_runner.llm.absence import Absence
from kubesynth_runner.llm.base import CompletionRequest
from kubesynth_runner.llm.batches import BatchApi, BatchState
from kubesynth_runner.llm.errors import FATAL_AT_ONCE, ClientError, ErrorKind

LOG = logging.getLogger(__name__)
T = TypeVar("T")

FIRST_POLL_SECONDS = 0.5
LAST_POLL_SECONDS = 60.0
POLL_GROWTH = 1.3
# A result may come faster than a far store takes the journal: no more than this waits in memory.
RESULT_SYNC_BYTES = 16 << 20
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
        self.harvest = Harvest()


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
        self._answers = Answers(journal, self.process_tally)
        self._open: dict[str, OpenBatch] = {}
        # Tokens of the batches that this process has sent off.
        self._sent: set[str] = set()
        # Why there is no point in going on: told when what can be is taken in.
        self._ending: errors.RunnerError | None = None

    @property
    def has_open(self) -> bool:
        """Whether answers are awaited."""
        return bool(self._open)

    async def _obtain(
        self, connection: ModelConnection, call: NewCall, request: CompletionRequest
    ) -> CallFrame:
        if call.key in self._answers.finished:
            # It may be somebody else's answer that has taken its place.
            await asyncio.to_thread(self._settings.check_fence)
            # Each answer would be paid for, and none would ever be used.
            raise errors.ConfigurationError(
                Reason.INVALID_SPEC,
                f"model {connection.role!r}, execution: Batch: what input record {call.ordinal} of "
                "the shard asked has been answered, and now it asks with another prompt or other "
                "parameters; a plugin that draws lots or reads a clock never gets to its answer, "
                "so make it ask the same each time",
            )
        attempts = self._answers.attempts.get(call.key, 0)
        named = batch_wire.BatchCall(call.key, call.request_hash, call.ordinal, attempts)
        try:
            line = batch_wire.request_line(named, connection.model, request)
        except ClientError as error:
            return self._answers.finish(connection, named, error)
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
        self._sent.add(token)
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
                if is_long or error.kind in FATAL_AT_ONCE:
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
            ConfigurationError: the endpoint does not take them, and never will.
            RetryLaterError: there is no point in sending more; what had answers is taken in.
        """
        self._answers.finished.clear()
        self._open = await asyncio.to_thread(self._book.load)
        had_some = self.has_open
        pause_seconds = FIRST_POLL_SECONDS
        while self._open:
            states = [await self._look(path) for path in list(self._open)]
            if isinstance(self._ending, errors.ConfigurationError):
                raise self._ending
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
        await self._end_round()
        return had_some

    async def _end_round(self) -> None:
        """Draw the conclusions from all batches that were awaited together.

        Raises:
            RetryLaterError: there is no point in sending more.
        """
        has_full_queues = False
        for role, lane in self._lanes.items():
            has_full_queues = lane.size.end_round() or has_full_queues
            if not lane.harvest.end_round():
                continue
            # Records that no model could answer are at an end when their attempts are.
            if lane.harvest.has_spent and await self.outages.answers_others(
                self._connections[role]
            ):
                lane.harvest.forgive()
                continue
            self._end(
                errors.RetryLaterError(
                    Reason.MODEL_UNHEALTHY,
                    f"model {role!r}: {lane.harvest.fruitless} batches in a row ended without an "
                    f"answer to use, the last one as {lane.harvest.trouble}",
                )
            )
        if self._ending is not None:
            raise self._ending
        if has_full_queues:
            self._settings.report("waiting for room in the account's queue of batches")
            await self._pause(FULL_QUEUE_PAUSE_SECONDS)
            self._settings.report("")

    def _end(self, error: errors.RunnerError) -> None:
        """Note why there is no point in going on; that nobody ever can outweighs the rest."""
        LOG.warning("no more batches", extra={"detail": str(error)})
        if self._ending is None or isinstance(error, errors.ConfigurationError):
            self._ending = error

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
            intake = await self._take_in(connection, batch, state)
        except errors.ConfigurationError as exc:
            # Sending its calls again might pay for them twice: that is for a person to decide.
            raise errors.ConfigurationError(
                exc.reason,
                f"{exc}. The batch {batch_id} of {batch.requests} requests cannot be read; if it "
                f"is lost for good, delete {path} in the output, and its requests are sent again",
            ) from exc
        await asyncio.to_thread(self._journal.sync)
        await self._close(path, batch)
        if intake.fatal:
            self._end(
                errors.RetryLaterError(
                    Reason.MODEL_UNHEALTHY,
                    f"model {connection.role!r}: {len(intake.fatal)} of the batch {batch_id} of "
                    f"{batch.requests} requests were not carried out, and will be sent again: "
                    f"{next(iter(intake.fatal.values()))[1]}",
                )
            )
        else:
            self._judge_batch(batch, state, intake)
        return None

    async def _close(self, path: str, batch: OpenBatch) -> None:
        await asyncio.to_thread(self._book.remove, path)
        del self._open[path]
        with contextlib.suppress(ClientError):  # the server deletes it, too, in time
            await _api(self._connections[batch.role]).delete_file(batch.file_id)

    async def _take_in(
        self, connection: ModelConnection, batch: OpenBatch, state: BatchState
    ) -> Intake:
        """Journal a batch's answers, and return what has come of its calls.

        Those that failed of what only a person can mend cost nothing and go round again, so that
        all the other answers are kept.
        """
        api = _api(connection)
        intake, is_ours = Intake(), batch.token in self._sent

        async def read(file_id: str) -> None:
            unsaved = 0
            async for line in api.read_lines(file_id):
                unsaved += len(line)
                if unsaved >= RESULT_SYNC_BYTES:
                    unsaved = 0
                    await asyncio.to_thread(self._journal.sync)
                self._answers.take_line(connection, state.batch_id, line, intake, is_ours=is_ours)

        for file_id in (state.output_file_id, state.error_file_id):
            if file_id:
                # From the start again if it breaks off: an answer may be journalled twice.
                await self._insist(connection, functools.partial(read, file_id))
        may_be = intake.may_have_refusals(batch.requests)
        if may_be and await self.outages.ask(connection) is None:
            self._answers.take_refusals(connection, intake, is_ours=is_ours)
        return intake

    def _judge_batch(self, batch: OpenBatch, state: BatchState, intake: Intake) -> None:
        """Note what a batch's end means for those to come."""
        LOG.info(
            "batch ended",
            extra={"batch": state.batch_id, "status": state.status, "answers": intake.answered},
        )
        verdict = batch_verdicts.judge(state.status, [code for code, _ in state.errors], intake)
        lane, said = self._lanes[batch.role], batch_wire.describe(state.errors)
        refused = f"model {batch.role!r}: the endpoint refused the batch {state.batch_id}"
        if verdict is Verdict.INVALID:
            self._end(errors.ConfigurationError(Reason.INVALID_SPEC, f"{refused}: {said}"))
        elif verdict is Verdict.REFUSED:
            self._end(
                errors.RetryLaterError(
                    Reason.MODEL_UNHEALTHY,
                    f"{refused} of {batch.requests} requests, which will be sent again: {said}",
                )
            )
        elif verdict is Verdict.QUEUE_FULL:
            lane.size.on_full_queue(batch.requests)
        else:
            lane.size.on_let_in()
            why = said if state.errors else intake.trouble or said
            lane.harvest.on_end(verdict, intake, f"{state.status}: {why}")


def _api(connection: ModelConnection) -> BatchApi:
    assert connection.batches is not None, "the run is not one of batches"
    return connection.batches
