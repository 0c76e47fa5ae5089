"""What a stage of your own is written against. Stable: a change here is told in the changelog.

    from collections.abc import AsyncIterator, Mapping
    from typing import Any

    import pydantic
    from kubesynth_runner.plugin_api import Model, StagePlugin

    class Parameters(pydantic.BaseModel):
        tone: str = "friendly"

    class Greeting(StagePlugin):
        parameters_model = Parameters
        needs = ("name",)
        adds = {"greeting": "string"}
        prompts = {"greet": "Greet {{ name }} in a {{ tone }} tone, in one sentence."}

        async def run(self, row: Mapping[str, Any], model: Model) -> AsyncIterator[dict[str, Any]]:
            yield {"greeting": await model.text("greet", row, tone=self.parameters.tone)}

Such a class is found by an entry point in the group `kubesynth.stages`, or stands in a file. Each
record is given to `run`, which yields what to add to each of its children: none drops the record,
several multiply it. Given the same row and the same answers it must ask the same in the same order,
and keep nothing between rows: after a restart the answers come out of the journal. Tasks that ask
side by side do so on `branches` of the model.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol

import pydantic

ColumnType = Literal["string", "integer", "number", "boolean", "json"]
# What to do with an answer that was cut off at maxTokens.
OnCutOff = Literal["Fail", "Keep"]
# What an item of a list is: all up to the next item, such as descriptions and code; its title
# alone; or the items at every depth of nested lists, without lines that only head others.
ItemForm = Literal["Whole", "Titles", "Leaves"]
Row = Mapping[str, Any]


class Reject(Exception):
    """Raise it for a row that nothing can be made of: it goes to errors/ with the message."""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """A text and how it ended.

    `finish_reason` is the server's word: `stop` and `length` with nearly all, others with some,
    None where it gives none, as some models on Triton. `is_cut_off` says of all servers whether the
    text ended at maxTokens, or where the context was full: half an answer, whatever it looks like.
    """

    text: str
    finish_reason: str | None = None
    is_cut_off: bool = False


class Model(Protocol):
    """The model. Every answer is journalled, retried, paced and counted by the engine.

    `prompt` names one of the stage's prompts, which sees the row's columns and `variables`. A
    refusal, a blank answer and one that cannot be read after a second request fail the row.
    """

    async def text(
        self, prompt: str, row: Row, *, on_cut_off: OnCutOff = "Fail", **variables: Any
    ) -> str:
        """Return the answer; one that was cut off fails the row, unless it is to be kept."""
        ...

    async def answer(self, prompt: str, row: Row, **variables: Any) -> Answer:
        """Return the answer, whole or cut off, and which of the two it is."""
        ...

    async def items(
        self,
        prompt: str,
        row: Row,
        *,
        count: int | None = None,
        item_form: ItemForm = "Whole",
        **variables: Any,
    ) -> list[str]:
        """Return the items of a list, at most `count` of them; the prompt sees `count`, too.

        An item that was cut off is left out.
        """
        ...

    async def label(self, prompt: str, row: Row, *, labels: Sequence[str], **variables: Any) -> str:
        """Return one of `labels`, which the prompt sees, too."""
        ...

    async def json(
        self, prompt: str, row: Row, *, schema: Mapping[str, Any], **variables: Any
    ) -> dict[str, Any]:
        """Return an object that fits a JSON Schema (draft 2020-12)."""
        ...

    def branches(self, count: int) -> Sequence[Model]:
        """Return the model for each of `count` lines of work that go on side by side.

            models = model.branches(len(topics))
            texts = await asyncio.gather(*map(self.write, topics, models))

        Give each task its own, or who asks first depends on when answers come, and after a restart
        some are asked for again.
        """
        ...


class StagePlugin(abc.ABC):
    """A stage of your own. `parameters` are the manifest's, checked and with your defaults."""

    # What checks the manifest's parameters: a pydantic model, a JSON Schema (draft 2020-12, and the
    # parameters are a dict), or None for a stage without parameters.
    parameters_model: ClassVar[type[pydantic.BaseModel] | Mapping[str, Any] | None] = None
    # Columns that a record must have.
    needs: ClassVar[Sequence[str]] = ()
    # Columns that the stage adds, with their types. A property if it depends on the parameters.
    adds: Mapping[str, ColumnType] = {}
    # User prompts (Jinja2) by name; `NAME_system` is the system prompt of NAME. The manifest may
    # replace them.
    prompts: ClassVar[Mapping[str, str]] = {}
    # False for a stage that asks no model.
    asks_model: ClassVar[bool] = True
    # Calls and children per row, for the estimate.
    calls_per_row: ClassVar[float] = 1.0
    rows_per_row: ClassVar[float] = 1.0

    def __init__(self, parameters: Any) -> None:
        self.parameters = parameters

    @abc.abstractmethod
    def run(self, row: Row, model: Model) -> AsyncIterator[dict[str, Any]]:
        """Yield the added columns of each child of a row.

        Raises:
            Reject: nothing can be made of the row.
        """
        ...
