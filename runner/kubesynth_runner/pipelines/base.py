"""What a stage is: a function from one record, and a model to ask, to the columns of its children.

A stage keeps no state between records, and given the same record and the same answers it asks the
same questions in the same order: that is what lets a restart replay it out of the journal.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from kubesynth_api.v1alpha1.sampling import SamplingParameters
from kubesynth_api.v1alpha1.stages.base import OnCutOff, TextAnswer
from kubesynth_runner import records
from kubesynth_runner.io.plan_file import ColumnType
from kubesynth_runner.llm.base import CUT_OFF, Completion, JsonSchemaFormat, Message

_NO_SAMPLING = SamplingParameters()


class StageLlm(Protocol):
    """The model as a stage sees it: every answer is already journalled, retried and counted."""

    @property
    def json_schema(self) -> bool:
        """Whether the server can be held to a JSON schema."""
        ...

    async def complete(
        self, messages: tuple[Message, ...], response_format: JsonSchemaFormat | None = None
    ) -> Completion:
        """Ask the model."""
        ...

    def of(self, field: str) -> StageLlm:
        """Return another model of the stage, by the field that names its role.

        Calls of all models of a stage are counted in the order in which they are made.
        """
        ...

    def branches(self, count: int) -> Sequence[StageLlm]:
        """Return the model for each of `count` lines of work that go on side by side.

        Each counts its calls for itself. Without it, side by side only single calls may be made:
        which line asks its second question first depends on when its first answer comes.
        """
        ...


class StageFailure(Exception):
    """A record that the stage can make nothing of; `kind` and `raw` go to errors/."""

    def __init__(self, kind: str, message: str, raw: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.raw = raw


class ModelFailure(Exception):
    """A call that failed for good; `kind` is an `llm.errors.ErrorKind`.

    Fails the record, unless the stage can do without the answer.
    """

    kind: str


class Stage(Protocol):
    """One step of a pipeline, compiled from the manifest."""

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        """The columns that the stage adds to a record."""
        ...

    def run(self, record: records.Record, llm: StageLlm) -> AsyncIterator[records.Columns]:
        """Yield the added columns of each child, in order.

        Raises:
            StageFailure: the record fails here; children that were yielded before it stay.
        """
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """What a step should take for one record: calls, records that come out, completion tokens.

    `history_tokens` are those that a prompt has beside the document, on average: earlier messages.
    A document of more than `segment_tokens` is cut: `segment_calls` are made for each segment,
    beside the `calls` for all of it. With `splits`, `rows` come out for each segment, which takes
    the document's place. With `echoes`, a completion is as long as the part of the document that
    its prompt has.
    """

    calls: float = 1.0
    rows: float = 1.0
    completion_tokens: int | None = None
    history_tokens: int = 0
    segment_tokens: int | None = None
    segment_calls: float = 0.0
    splits: bool = False
    echoes: bool = False

    def segments(self, document_tokens: float) -> int:
        """Return into how many segments a document is cut."""
        return max(1, math.ceil(document_tokens / (self.segment_tokens or math.inf)))


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """A step as the engine runs it; most stages of a manifest are one step.

    `name` tells the steps of one stage apart. `fields` are the stage's role fields whose models the
    step asks, the main one first; without any it asks no model. `sampling` is what its calls are
    drawn with unless the user says otherwise.
    """

    stage: Stage
    name: str = ""
    fields: tuple[str, ...] = ("model",)
    sampling: SamplingParameters = _NO_SAMPLING
    cost: Cost = Cost()


class Merge(Protocol):
    """What becomes of a level of generated records. Pure."""

    def __call__(
        self, inputs: Sequence[records.Record], outputs: Sequence[records.Record]
    ) -> list[records.Record]:
        """Return the records of the next level, given those of this one and what came of them."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Level:
    """A step that plan carries out, once for the whole run, and what is made of its output.

    `expected` is what all of the level should take.
    """

    step: Step
    merge: Merge
    expected: Cost


@dataclasses.dataclass(frozen=True, slots=True)
class Steps:
    """A stage of the manifest, compiled.

    `levels` make the records that a job without an input starts from: the first one gets a single
    record without columns, each next one all that the one before has made.
    """

    steps: tuple[Step, ...]
    levels: tuple[Level, ...] = ()


def accept_text(completion: Completion) -> str:
    """Return a completion's text.

    Raises:
        StageFailure: the model refused, or there is nothing but white space.
    """
    if completion.refusal is not None:
        raise StageFailure("Refusal", "the model refused to answer", completion.refusal)
    text = completion.text.strip()
    if not text:
        raise StageFailure("EmptyCompletion", "the completion is blank", completion.text)
    return text


def is_cut_off(completion: Completion) -> bool:
    """Tell whether a completion ended at its `max_tokens`, in the middle of a sentence or not."""
    return completion.finish_reason in CUT_OFF


def cut_off(what: str, text: str, more: str = "") -> StageFailure:
    """Return the failure of an answer that was cut off where nothing of it can be used.

    `what` it is in words, `more` what else may be done about it.
    """
    return StageFailure(
        "TruncatedCompletion", f"{what} was cut off; raise sampling.maxTokens{more}", text
    )


def accept_whole(completion: Completion, more: str = "") -> str:
    """Return a completion's text.

    Raises:
        StageFailure: as for `accept_text`, or it was cut off; `more` as for `cut_off`.
    """
    text = accept_text(completion)
    if is_cut_off(completion):
        raise cut_off("the answer", text, more)
    return text


def accept(completion: Completion, on_cut_off: OnCutOff, keeping: str) -> str:
    """Return a completion's text; `keeping` is how users say that half a text will do.

    Raises:
        StageFailure: as for `accept_text`, or the text was cut off and is not to be kept.
    """
    if on_cut_off == "Keep":
        return accept_text(completion)
    return accept_whole(completion, f", or keep such answers with {keeping}")


def columns_of_text(column: str, spec: TextAnswer) -> dict[str, ColumnType]:
    """Return the columns of a text: its own, and the one that says whether it was cut off."""
    columns: dict[str, ColumnType] = {column: "string"}
    if spec.cut_off_column is not None:
        columns[spec.cut_off_column] = "boolean"
    return columns


def text_in(completion: Completion, column: str, spec: TextAnswer) -> records.Columns:
    """Return the values of `columns_of_text`.

    Raises:
        StageFailure: as for `accept`.
    """
    text = accept(completion, spec.on_cut_off, "onCutOff: Keep")
    if spec.cut_off_column is None:
        return {column: text}
    return {column: text, spec.cut_off_column: is_cut_off(completion)}
