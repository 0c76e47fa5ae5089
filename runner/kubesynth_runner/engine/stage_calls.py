"""The model as a stage of one record sees it: calls are numbered, and choices come one by one."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

import msgspec
import xxhash

from kubesynth_runner import errors, records
from kubesynth_runner.engine import frames
from kubesynth_runner.engine.calls import Caller, CallFailed, Deferred, RecordCall, StageBinding
from kubesynth_runner.io.journal import CallFrame
from kubesynth_runner.llm import json_schemas
from kubesynth_runner.llm.base import (
    Completion,
    CompletionRequest,
    JsonSchemaFormat,
    Message,
    TokenUsage,
)
from kubesynth_runner.pipelines.base import Stage, StageFailure, StageLlm
from kubesynth_runner.tally import Tally

LOG = logging.getLogger(__name__)


class CallNumbers:
    """Numbers for the calls of one line of work, from `first` on in steps.

    They depend on how the work is divided and on how often each part asks, never on which part asks
    earlier: an answer out of the journal comes at once, and one from the model after a while.
    """

    def __init__(self, first: int = 0, step: int = 1) -> None:
        self._next = first
        self._step = step
        self._divided: tuple[CallNumbers, ...] = ()

    def take(self) -> int:
        """Return the next number; those of parts that have ended are passed over."""
        number = self._upcoming()
        self._next, self._divided = number + self._step, ()
        return number

    def divide(self, count: int) -> tuple[CallNumbers, ...]:
        """Return the numbers of `count` parts that go on side by side, until all have ended."""
        if count == 1:
            return (self,)
        self._next, self._divided = self._upcoming(), ()
        step = self._step * count
        firsts = range(self._next, self._next + step, self._step)
        self._divided = tuple(CallNumbers(first, step) for first in firsts)
        return self._divided

    def _upcoming(self) -> int:
        """Return the first number of ours that no part can have taken."""
        if not self._divided:
            return self._next
        spent = [part._upcoming() - self._step * place for place, part in enumerate(self._divided)]
        return max(spent)


class StageCalls:
    """What a stage uses to ask its model, for one record.

    `provenance` and `reasoning` are those of the choice that is being worked on.
    """

    def __init__(
        self,
        caller: Caller,
        binding: StageBinding,
        record: records.Record,
        ordinal: int,
        others: Mapping[str, StageBinding] | None = None,
        tally: Tally | None = None,
    ) -> None:
        """`others` are the stage's further models, by the field that names their role.

        Calls are counted in `tally`, if it is given.
        """
        self._others = others or {}
        self._caller = caller
        self._binding = binding
        self._record = record
        self._ordinal = ordinal
        # How many completions the first prompt is to have.
        self.choices = binding.choices
        # The column that the model's reasoning is kept in, if it is.
        self.reasoning_column = binding.reasoning_column
        self._by_choice = CallNumbers().divide(self.choices)
        self._numbers = self._by_choice[0]
        self._first: tuple[CallFrame, int | None] | None = None
        self._choice = 0
        # The next question is the one that the first choice was the answer to.
        self._is_asked_already = False
        # By number: calls that are made side by side may end in any order.
        self._notes: dict[int, records.CallProvenance] = {}
        self.reasoning: str | None = None
        # What a call has ended with that is nobody's answer, such as a disk that is gone.
        self.trouble: Exception | None = None
        self.tally = Tally() if tally is None else tally

    @property
    def json_schema(self) -> bool:
        """Whether the server can be held to a JSON schema."""
        return self._binding.connection.json_schema

    @property
    def has_answer(self) -> bool:
        """Whether the first prompt has been answered."""
        return self._first is not None

    def choose(self, number: int) -> None:
        """Begin again with another choice of the first prompt's, 0 being the first."""
        self._choice = number
        self._numbers = self._by_choice[number]
        self._is_asked_already = self.has_answer
        self._notes = {}
        self.reasoning = None

    async def complete(
        self, messages: tuple[Message, ...], response_format: JsonSchemaFormat | None = None
    ) -> Completion:
        """Ask the model; the answer survives this process.

        Raises:
            CallFailed: the call failed for good.
        """
        return await self.ask(self._binding, self._numbers, messages, response_format)

    def of(self, field: str) -> StageLlm:
        """Return another model of the stage."""
        binding = self.binding_of(field)
        return self if binding is self._binding else _View(self, binding, self._numbers)

    def branches(self, count: int) -> Sequence[StageLlm]:
        """Return the model for each of `count` lines of work that go on side by side."""
        return [_View(self, self._binding, numbers) for numbers in self._numbers.divide(count)]

    def binding_of(self, field: str) -> StageBinding:
        """Return the model of a role field; the main one, if the field names no other."""
        return self._others.get(field, self._binding)

    async def ask(
        self,
        binding: StageBinding,
        numbers: CallNumbers,
        messages: tuple[Message, ...],
        response_format: JsonSchemaFormat | None,
    ) -> Completion:
        """Ask one of the stage's models.

        Raises:
            CallFailed: the call failed for good.
        """
        number = numbers.take()
        if binding is self._binding and self._is_asked_already and self._first is not None:
            self._is_asked_already = False
            frame, seed = self._first
            chosen = frames.of_choice(frame, self._choice)
            if chosen is not None:
                return self._note(number, binding, messages, seed, chosen)
            # The server gives fewer choices than it is asked for; some give one, whatever is asked.
        sampling, seed = dict(binding.sampling), None
        if number > 0:
            sampling.pop("n", None)
        if binding.seed is not None:
            seed = records.derive_seed(binding.seed, self._record.record_id, binding.index, number)
            sampling["seed"] = seed
        connection = binding.connection
        if response_format is not None:
            response_format = json_schemas.for_server(
                response_format,
                bounds=connection.schema_bounds,
                lengths=connection.schema_lengths,
            )
        request = CompletionRequest(messages, sampling, response_format, connection.extra_body)
        job = RecordCall(self._record.record_id, self._ordinal, number)
        try:
            frame = await self._caller.call(
                binding, job, request, lambda usage: self._count(binding, usage)
            )
        except (CallFailed, Deferred):
            raise
        except Exception as exc:
            self.trouble = exc
            raise
        if number == 0 and binding is self._binding:
            self._first = frame, seed
        self.tally.requests_ok += 1
        usage = TokenUsage(frame.prompt_tokens, frame.completion_tokens, frame.tokens_estimated)
        self._count(binding, usage)
        return self._note(number, binding, messages, seed, frame)

    def _count(self, binding: StageBinding, usage: TokenUsage) -> None:
        """Count the tokens of an answer, whether it was of use or not."""
        self.tally.prompt_tokens += usage.prompt_tokens
        self.tally.completion_tokens += usage.completion_tokens
        if usage.estimated:
            self.tally.estimated_tokens += usage.total_tokens
        if binding.connection.has_price:
            self.tally.charge(binding.connection.role, usage.prompt_tokens, usage.completion_tokens)

    @property
    def provenance(self) -> tuple[records.CallProvenance, ...]:
        """The finished calls of this choice, in the order in which they were made."""
        notes = self._notes
        if len(notes) < 2:
            return tuple(notes.values())
        return tuple(notes[number] for number in sorted(notes))

    def _note(
        self,
        number: int,
        binding: StageBinding,
        messages: tuple[Message, ...],
        seed: int | None,
        frame: CallFrame,
    ) -> Completion:
        if binding is self._binding:
            self.reasoning = frame.reasoning
        self._notes[number] = records.CallProvenance(
            self._binding.stage_id,
            frame.model,
            xxhash.xxh3_64_hexdigest(msgspec.json.encode(messages)),
            seed,
            frame.prompt_tokens,
            frame.completion_tokens,
            frame.finish_reason,
            frame.attempts,
            self._choice,
            frames.logprobs_row(frame.logprobs),
            frame.tokens_estimated,
        )
        return frames.to_completion(frame)


class NoCalls:
    """What a stage gets that asks no model."""

    json_schema = False
    choices = 1
    has_answer = False
    reasoning_column: str | None = None
    reasoning: str | None = None
    trouble: Exception | None = None
    provenance: tuple[records.CallProvenance, ...] = ()

    async def complete(
        self, messages: tuple[Message, ...], response_format: JsonSchemaFormat | None = None
    ) -> Completion:
        """Refuse: the step was compiled as one that asks nobody."""
        raise AssertionError("a step without a model has asked one")

    def of(self, field: str) -> StageLlm:
        """Return this: there is no model."""
        return self

    def branches(self, count: int) -> Sequence[StageLlm]:
        """Return this for each: there is no model."""
        return [self] * count

    def choose(self, number: int) -> None:
        """Do nothing: there is one way only."""


NO_CALLS = NoCalls()


class _View:
    """A model of a stage as one line of work sees it; calls are counted with the stage's."""

    def __init__(self, calls: StageCalls, binding: StageBinding, numbers: CallNumbers) -> None:
        self._calls = calls
        self._binding = binding
        self._numbers = numbers

    @property
    def json_schema(self) -> bool:
        """Whether the server can be held to a JSON schema."""
        return self._binding.connection.json_schema

    async def complete(
        self, messages: tuple[Message, ...], response_format: JsonSchemaFormat | None = None
    ) -> Completion:
        """Ask this model."""
        return await self._calls.ask(self._binding, self._numbers, messages, response_format)

    def of(self, field: str) -> StageLlm:
        """Return a model of the stage."""
        return _View(self._calls, self._calls.binding_of(field), self._numbers)

    def branches(self, count: int) -> Sequence[StageLlm]:
        """Return this model for each of `count` lines of work that go on side by side."""
        parts = self._numbers.divide(count)
        return [_View(self._calls, self._binding, numbers) for numbers in parts]


Take = Callable[[records.Columns], Awaitable[None]]


def make_children(
    stage: Stage, record: records.Record, calls: StageCalls | NoCalls, take: Take
) -> Awaitable[None]:
    """Give `take` what a stage makes of a record: of each choice, where its prompt has several.

    A choice that fails does not spoil the others; what is wrong with it is said at the end. This is
    no generator around the stage's: those are dear, and every record goes through here.

    Raises:
        StageFailure: the record fails, or some of its choices do; what was taken stays.
        CallFailed: the first call failed for good.
        Deferred: a call is to be answered later.
        RunnerError: the process cannot go on.
    """
    if calls.choices > 1:
        return _make_choices(stage, record, calls, take)
    calls.choose(0)
    return _make(stage, record, calls, take)


async def _make_choices(
    stage: Stage, record: records.Record, calls: StageCalls | NoCalls, take: Take
) -> None:
    failures: list[StageFailure | CallFailed] = []
    is_deferred = False
    for number in range(calls.choices):
        calls.choose(number)
        try:
            # Records are named by their places: behind one that is still to come nobody has
            # one. The other choices go on all the same, to ask what they have to.
            await _make(stage, record, calls, _pass_over if is_deferred else take)
        except (StageFailure, CallFailed) as failure:
            if not calls.has_answer:
                raise
            failures.append(failure)
        except Deferred:
            if not calls.has_answer:
                raise
            is_deferred = True
    if is_deferred:
        raise Deferred
    if failures:
        raise _summary(failures, calls.choices)


async def _pass_over(_: records.Columns) -> None:
    """Take a record that is made again when all those before it are there."""


async def _make(
    stage: Stage, record: records.Record, calls: StageCalls | NoCalls, take: Take
) -> None:
    made = stage.run(record, calls)
    while (columns := await _next(made, record, calls)) is not None:
        if calls.reasoning_column is not None:
            columns = {**columns, calls.reasoning_column: calls.reasoning}
        await take(columns)


async def _next(
    made: AsyncIterator[records.Columns], record: records.Record, calls: StageCalls | NoCalls
) -> records.Columns | None:
    """Return what a stage makes next; a bug that it meets there is the record's failure.

    Otherwise its answer, which is in the journal, would end every later attempt as well.
    """
    try:
        return await anext(made)
    except StopAsyncIteration:
        return None
    except (StageFailure, CallFailed, Deferred, errors.RunnerError):
        raise
    except Exception as exc:
        if calls.trouble is not None:
            raise calls.trouble from None
        LOG.exception("a stage has a bug", extra={"record": record.record_id})
        raise StageFailure("InternalError", f"{type(exc).__name__}: {exc}") from exc


def _summary(failures: list[StageFailure | CallFailed], choices: int) -> StageFailure:
    first = failures[0]
    raw = first.raw if isinstance(first, StageFailure) else first.body
    return StageFailure(first.kind, f"{len(failures)} of {choices} choices: {first}", raw)
