"""The model as a stage of one record sees it: calls are numbered, and choices come one by one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import xxhash

from kubesynth_runner import records
from kubesynth_runner.engine import frames
from kubesynth_runner.engine.calls import Caller, CallFailed, RecordCall, StageBinding
from kubesynth_runner.io.journal import CallFrame
from kubesynth_runner.llm.base import Completion, CompletionRequest, JsonSchemaFormat, Message
from kubesynth_runner.pipelines.base import Stage, StageFailure
from kubesynth_runner.tally import Tally


class StageCalls:
    """What a stage uses to ask its model, for one record.

    `provenance` and `reasoning` are those of the choice that is being worked on.
    """

    def __init__(
        self, caller: Caller, binding: StageBinding, record: records.Record, ordinal: int
    ) -> None:
        self._caller = caller
        self._binding = binding
        self._record = record
        self._ordinal = ordinal
        self._number = 0
        self._first: tuple[CallFrame, int | None] | None = None
        self._choice = 0
        # The next question is the one that the first choice was the answer to.
        self._is_asked_already = False
        self.provenance: list[records.CallProvenance] = []
        self.reasoning: str | None = None
        self.tally = Tally()

    @property
    def json_schema(self) -> bool:
        """Whether the server can be held to a JSON schema."""
        return self._binding.connection.json_schema

    @property
    def choices(self) -> int:
        """How many completions the first prompt is to have."""
        return self._binding.choices

    @property
    def reasoning_column(self) -> str | None:
        """The column that the model's reasoning is kept in, if it is."""
        return self._binding.reasoning_column

    @property
    def has_answer(self) -> bool:
        """Whether the first prompt has been answered."""
        return self._first is not None

    def choose(self, number: int) -> None:
        """Begin again with another choice of the first prompt's, 0 being the first."""
        self._choice = number
        self._is_asked_already = self.has_answer
        self.provenance = []
        self.reasoning = None

    async def complete(
        self, messages: tuple[Message, ...], response_format: JsonSchemaFormat | None = None
    ) -> Completion:
        """Ask the model; the answer survives this process.

        Raises:
            CallFailed: the call failed for good.
        """
        if self._is_asked_already and self._first is not None:
            self._is_asked_already = False
            frame, seed = self._first
            chosen = frames.of_choice(frame, self._choice)
            if chosen is not None:
                return self._note(messages, seed, chosen)
            # The server gives fewer choices than it is asked for; some give one, whatever is asked.
        return await self._ask(messages, response_format)

    async def _ask(
        self, messages: tuple[Message, ...], response_format: JsonSchemaFormat | None
    ) -> Completion:
        binding = self._binding
        number, self._number = self._number, self._number + 1
        sampling, seed = dict(binding.sampling), None
        if number > 0:
            sampling.pop("n", None)
        if binding.seed is not None:
            seed = records.derive_seed(binding.seed, self._record.record_id, binding.index, number)
            sampling["seed"] = seed
        request = CompletionRequest(
            messages, sampling, response_format, binding.connection.extra_body
        )
        job = RecordCall(self._record.record_id, self._ordinal, number)
        frame = await self._caller.call(binding, job, request)
        if number == 0:
            self._first = frame, seed
        self.tally.requests_ok += 1
        self.tally.prompt_tokens += frame.prompt_tokens
        self.tally.completion_tokens += frame.completion_tokens
        return self._note(messages, seed, frame)

    def _note(
        self, messages: tuple[Message, ...], seed: int | None, frame: CallFrame
    ) -> Completion:
        self.reasoning = frame.reasoning
        self.provenance.append(
            records.CallProvenance(
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
            )
        )
        return frames.to_completion(frame)


async def children(
    stage: Stage, record: records.Record, calls: StageCalls
) -> AsyncIterator[records.Columns]:
    """Yield what a stage makes of a record: of each choice, where its prompt has several.

    A choice that fails does not spoil the others; what is wrong with it is said at the end.

    Raises:
        StageFailure: the record fails, or some of its choices do; what was yielded stays.
        CallFailed: the first call failed for good.
    """
    reasoning_column = calls.reasoning_column
    failures: list[StageFailure | CallFailed] = []
    for number in range(calls.choices):
        calls.choose(number)
        try:
            async for columns in stage.run(record, calls):
                if reasoning_column is not None:
                    yield {**columns, reasoning_column: calls.reasoning}
                else:
                    yield columns
        except (StageFailure, CallFailed) as failure:
            if calls.choices == 1 or not calls.has_answer:
                raise
            failures.append(failure)
    if failures:
        raise _summary(failures, calls.choices)


def _summary(failures: list[StageFailure | CallFailed], choices: int) -> StageFailure:
    first = failures[0]
    raw = first.raw if isinstance(first, StageFailure) else first.body
    return StageFailure(first.kind, f"{len(failures)} of {choices} choices: {first}", raw)
