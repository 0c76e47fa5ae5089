"""One model call of a stage: replayed from the journal, or sent, retried and journalled."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import xxhash

from kubesynth_runner import errors
from kubesynth_runner.engine import frames, metering, retry
from kubesynth_runner.engine.admission import RETRY_AFTER_LIMIT_SECONDS
from kubesynth_runner.engine.breaker import SUSPECT
from kubesynth_runner.engine.connection import ModelConnection
from kubesynth_runner.engine.outages import Outages
from kubesynth_runner.engine.purse import Purse
from kubesynth_runner.engine.waiting import Waiting
from kubesynth_runner.io.journal import CallFrame, Journal, call_key
from kubesynth_runner.llm.base import Completion, CompletionRequest, TokenUsage
from kubesynth_runner.llm.errors import BACKPRESSURE, UNREACHED, ClientError, ErrorKind
from kubesynth_runner.pipelines.base import ModelFailure
from kubesynth_runner.tally import Tally


@dataclasses.dataclass(frozen=True, slots=True)
class StagePlace:
    """A step's place in the pipeline, from 0, and its name. Alone: the step asks no model."""

    index: int
    stage_id: str


@dataclasses.dataclass(frozen=True, slots=True)
class StageBinding(StagePlace):
    """A step's place in the pipeline and the model it speaks to."""

    connection: ModelConnection
    # Wire fields without the seed, which every request gets for itself.
    sampling: Mapping[str, Any]
    seed: int | None
    # Where the model's reasoning goes, if it is kept.
    reasoning_column: str | None = None

    @property
    def choices(self) -> int:
        """Completions of one prompt (`n`)."""
        return int(self.sampling.get("n", 1))


class RecordCall(msgspec.Struct, frozen=True, gc=False):
    """Which call of which record: `number` counts a stage's calls for the record from 0."""

    record_id: str
    ordinal: int
    number: int


OnLost = Callable[[TokenUsage], None]


class NewCall(msgspec.Struct, frozen=True, gc=False):
    """A call that is not in the journal: what it will be found by, and its record's place.

    `on_lost` hears of answers that are of no use to it.
    """

    key: bytes
    request_hash: bytes
    ordinal: int
    on_lost: OnLost


class Deferred(Exception):
    """The call will be answered later; then its record is worked on again, from the journal."""


class CallFailed(ModelFailure):
    """A call that will not succeed for this record, however often it is tried."""

    def __init__(self, frame: CallFrame) -> None:
        super().__init__(frame.text)
        self.kind = frame.failure or ErrorKind.BAD_REQUEST
        self.status_code = frame.status_code
        self.attempts = frame.attempts
        self.body = frame.body


class Caller:
    """Executes calls for all records of a shard. One instance per event loop."""

    def __init__(self, journal: Journal, purse: Purse | None = None) -> None:
        """`purse` is None where nothing that is spent is limited."""
        self._journal = journal
        self._purse = purse
        self._hash_encode = msgspec.json.Encoder(order="sorted").encode
        self._random = random.Random()
        self.stopped = asyncio.Event()
        self.outages = Outages()
        # Retries and 429s of this process; they belong to no record.
        self.process_tally = Tally()

    @property
    def waiting(self) -> Waiting:
        """Who is told of models that do not answer."""
        return self.outages.waiting

    async def call(
        self,
        binding: StageBinding,
        job: RecordCall,
        request: CompletionRequest,
        on_lost: OnLost = lambda _: None,
    ) -> CallFrame:
        """Return the finished call, from the journal if it is there.

        `on_lost` is told what answers took that were of no use, those to earlier attempts included.

        Raises:
            CallFailed: it failed for good, now or in an earlier attempt.
            StoppedError: the process is stopping.
            RetryLaterError: the endpoint is out of order.
        """
        key = call_key(job.record_id, binding.index, job.number)
        request_hash = self._request_hash(binding.connection.model, request)
        frame = None
        if self._journal.knows(key):
            for usage in self._journal.lost(key):
                on_lost(usage)
            frame = await self._journal.fetch(key, request_hash)
        if frame is None:
            call = NewCall(key, request_hash, job.ordinal, on_lost)
            frame = await self._obtain(binding.connection, call, request)
        if frame.failure is not None:
            raise CallFailed(frame)
        return frame

    async def _obtain(
        self, connection: ModelConnection, call: NewCall, request: CompletionRequest
    ) -> CallFrame:
        """Return a call that no attempt has finished yet, journalled."""
        outcome = await self._send(connection, call, request)
        frame = frames.from_outcome(
            outcome, call.key, call.request_hash, call.ordinal, connection.place
        )
        self._journal.append(frame)
        await _let_others_send()
        return frame

    def _request_hash(self, model: str, request: CompletionRequest) -> bytes:
        schema = request.response_format.schema if request.response_format else None
        content = (model, request.messages, request.sampling, schema, request.extra_body)
        return xxhash.xxh3_128_digest(self._hash_encode(content))

    async def _send(
        self, connection: ModelConnection, call: NewCall, request: CompletionRequest
    ) -> tuple[Completion | ClientError, int]:
        """Send until there is an answer, or attempts run out; return it with their number."""
        attempts = 0
        patience: retry.Patience | None = None
        while True:
            failure = await self._try(connection, request)
            if isinstance(failure, Completion):
                self.outages.on_answer(connection)
                return failure, attempts + 1
            patience = patience or retry.Patience()
            self._note_lost(connection, call, failure.answer)
            costs_an_attempt = await self._costs_an_attempt(connection, failure)
            if failure.kind in BACKPRESSURE and failure.retry_after_seconds:
                await self._pause(min(failure.retry_after_seconds, RETRY_AFTER_LIMIT_SECONDS))
            if not costs_an_attempt and failure.kind is not ErrorKind.RATE_LIMITED:
                costs_an_attempt = await self._is_to_blame(connection, failure, patience)
            if costs_an_attempt:
                attempts += 1
                if not failure.may_pass or attempts >= connection.max_attempts:
                    return failure, attempts
                await self._pause(retry.delay_seconds(attempts, self._random.random()))
                self.process_tally.requests_retried += 1

    async def _is_to_blame(
        self, connection: ModelConnection, failure: ClientError, patience: retry.Patience
    ) -> bool:
        """Return whether a request without an answer is at fault itself; if not, send it again."""
        admission = connection.gate.admission
        is_broken = failure.kind in UNREACHED
        if is_broken and patience.on_break(admission.answers):
            return True
        if patience.on_refusal():
            return await self.outages.answers_others(connection)
        if is_broken and admission.outage_since is None:
            await self._pause(retry.delay_seconds(patience.refusals, self._random.random()))
            self.process_tally.requests_retried += 1
        return False

    def _note_lost(
        self, connection: ModelConnection, call: NewCall, answer: Completion | None
    ) -> None:
        """Journal an answer that is of no use, so that it stays counted whatever comes next."""
        if answer is None or not answer.usage.total_tokens:
            return
        named = (call.key, call.request_hash, call.ordinal)
        self._journal.append(frames.of_lost(answer, uuid.uuid4().hex, named, connection.place))
        call.on_lost(answer.usage)

    async def _try(
        self, connection: ModelConnection, request: CompletionRequest
    ) -> Completion | ClientError:
        """Send once, when it is this request's turn."""
        gate, purse, metered = connection.gate, self._purse, None
        if gate.counts_tokens or (purse is not None and purse.limits_money):
            metered = await metering.enter(gate, connection.role, purse, request)
        else:
            await gate.enter()
        try:
            completion = await self._complete(connection, request)
        except ClientError as failure:
            if failure.answer is not None:
                failure.answer = self._pay(connection, metered, failure.answer, answers=0)
            return failure
        else:
            return self._pay(connection, metered, completion)
        finally:
            gate.leave()
            if metered is not None:
                metered.close()

    def _pay(
        self,
        connection: ModelConnection,
        metered: metering.Metered | None,
        answer: Completion,
        answers: int = 1,
    ) -> Completion:
        """Count what an answer took; `answers` is 0 for one that is of no use."""
        quota = connection.gate.admission.quota
        if quota.counts_tokens:
            quota.learn(answer.usage.total_tokens)
        if metered is not None:
            return metered.pay(answer, answers)
        if self._purse is not None:
            usage = answer.usage
            self._purse.charge(
                connection.role, usage.prompt_tokens, usage.completion_tokens, answers
            )
        return answer

    async def _complete(
        self, connection: ModelConnection, request: CompletionRequest
    ) -> Completion:
        """Send once, and tell the gate how long it took."""
        began = asyncio.get_running_loop().time() if connection.gate.times_answers else None
        try:
            if connection.gate.admission.outage_since is None:
                completion = await connection.client.complete(request)
            else:
                async with self.outages.asking_beside(connection):
                    completion = await connection.client.complete(request)
        except ClientError as failure:
            if began is not None and failure.kind is ErrorKind.TIMEOUT:
                connection.gate.on_latency(began, None)
            raise
        if began is not None:
            connection.gate.on_latency(began, completion.usage.completion_tokens)
        return completion

    async def _costs_an_attempt(self, connection: ModelConnection, failure: ClientError) -> bool:
        """Tell the gate about a failure; return whether it is the record's own affair."""
        admission = connection.gate.admission
        now = asyncio.get_running_loop().time()
        if failure.is_forbidden:
            others = await self.outages.ask(connection)
            if others is None:
                # Of this prompt alone, by a filter or a firewall in front of the model.
                failure.kind = ErrorKind.REFUSAL
            elif others.kind is not ErrorKind.AUTHENTICATION:
                return await self._costs_an_attempt(connection, others)
        self.outages.give_up_if_fatal(connection, failure)
        if failure.kind in BACKPRESSURE:
            if failure.kind is ErrorKind.RATE_LIMITED:
                self.process_tally.requests_rate_limited += 1
            else:
                self.outages.note_silence(connection, failure)
            limits_rate = failure.kind is ErrorKind.RATE_LIMITED
            admission.on_backpressure(now, failure.retry_after_seconds, limits_rate=limits_rate)
            connection.gate.on_change()
            return False
        if failure.kind in SUSPECT:
            if not await self.outages.is_one(connection):
                return True
            self.outages.note_silence(connection, failure)
            admission.on_outage(asyncio.get_running_loop().time())
            connection.gate.on_change()
            return False
        if failure.kind not in UNREACHED:
            self.outages.on_answer(connection)
            return True
        admission.on_unreachable(now)
        connection.gate.on_change()
        self.outages.note_silence(connection, failure)
        return False

    async def _pause(self, seconds: float) -> None:
        """Sleep, but not into a stop.

        Raises:
            StoppedError: the process is stopping.
        """
        try:
            await asyncio.wait_for(self.stopped.wait(), seconds)
        except TimeoutError:
            return
        raise errors.StoppedError


async def _let_others_send() -> None:
    """Let whoever got the slot send the next request: what comes of this answer is no hurry.

    For two rounds of the event loop: when many answers come at once, the turns of those who got
    their slots come up after ours. As `sleep(0)` twice, without waking up in between.
    """
    loop = asyncio.get_running_loop()
    turn = loop.create_future()
    loop.call_soon(_end_turn, turn)
    await turn


def _end_turn(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)
