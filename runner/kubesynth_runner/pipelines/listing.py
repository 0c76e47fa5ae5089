"""The step that most generation is made of: ask for a list, and make a record of each item."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping
from typing import Any

from kubesynth_runner import records
from kubesynth_runner.io.plan_file import ColumnType
from kubesynth_runner.pipelines import structured
from kubesynth_runner.pipelines.base import Cost, StageLlm
from kubesynth_runner.pipelines.templates import PromptTemplate

# Of one item, with its number or quotes: a noun phrase, a question, a few sentences.
TOPIC_TOKENS = 8
QUESTION_TOKENS = 30
PASSAGE_TOKENS = 80


@dataclasses.dataclass(frozen=True, slots=True)
class ListStage:
    """Asks for a list; each item becomes a record, the item in `column`.

    The prompt sees the record's columns, `variables`, and `count`, how many items are wanted.
    `renamed` keeps columns of the record under other names, before `column` may replace them. A
    record that has the column already needs nothing where the stage `is_optional`. With
    `keeps_original` the record itself goes on, too, before its items.
    """

    prompt: PromptTemplate
    column: str
    request: structured.ListRequest
    variables: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    renamed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    is_optional: bool = False
    keeps_original: bool = False

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        """The item's column, and those kept."""
        kept: dict[str, ColumnType] = dict.fromkeys(self.renamed, "string")
        return {**kept, self.column: "string"}

    async def run(self, record: records.Record, llm: StageLlm) -> AsyncIterator[records.Columns]:
        """Yield one child per item; none, and ask nobody, if none is wanted or it is there."""
        if self.request.count == 0 or (self.is_optional and self.column in record.columns):
            return
        messages = self.prompt.render(
            {**record.columns, **self.variables, "count": self.request.count}
        )
        if self.keeps_original:
            yield dict.fromkeys(self.renamed)
        kept = {name: record.columns.get(original) for name, original in self.renamed.items()}
        for item in await structured.ask_list(llm, messages, self.request):
            yield {**kept, self.column: item}


def cost(items: int, item_tokens: int, *, kept: bool = False) -> Cost:
    """Return the cost of one list; `kept` says that the record itself goes on, too."""
    return Cost(rows=items + kept, completion_tokens=max(1, items * item_tokens))
