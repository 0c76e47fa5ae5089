"""What a stage is: a function from one record, and a model to ask, to the columns of its children.

A stage keeps no state between records, and given the same record and the same answers it asks the
same questions in the same order: that is what lets a restart replay it out of the journal.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from kubesynth_runner import records
from kubesynth_runner.io.plan_file import ColumnType
from kubesynth_runner.llm.base import Completion, JsonSchemaFormat, Message


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


class StageFailure(Exception):
    """A record that the stage can make nothing of; `kind` and `raw` go to errors/."""

    def __init__(self, kind: str, message: str, raw: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.raw = raw


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
