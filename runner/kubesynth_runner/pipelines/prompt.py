"""`prompt`: a prompt of the user's own, with a text, a list or a JSON object as its output."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping
from typing import Any, assert_never

from kubesynth_api.v1alpha1.stages.records import Prompt, PromptOutput
from kubesynth_runner import records
from kubesynth_runner.io.plan_file import ColumnType
from kubesynth_runner.llm.base import Message
from kubesynth_runner.pipelines import labels, structured
from kubesynth_runner.pipelines.base import (
    Cost,
    StageLlm,
    Step,
    Steps,
    columns_of_text,
    text_in,
)
from kubesynth_runner.pipelines.compiling import CompileContext
from kubesynth_runner.pipelines.templates import PromptTemplate

_TYPES: Mapping[Any, ColumnType] = {
    "string": "string",
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
}


@dataclasses.dataclass(frozen=True, slots=True)
class PromptStage:
    """Renders the user's templates and reads the completion as told."""

    prompt: PromptTemplate
    output: PromptOutput

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        """One column, and whether it was cut off; or with a JSON schema one per property."""
        if self.output.json_schema is None:
            return columns_of_text(self.output.column, self.output)
        properties: Mapping[str, Any] = self.output.json_schema.get("properties", {})
        return {name: _column_type(schema) for name, schema in properties.items()}

    async def run(self, record: records.Record, llm: StageLlm) -> AsyncIterator[records.Columns]:
        """Yield the record with its text or properties, or one child per list item."""
        messages = self.prompt.render(record.columns)
        match self.output.type:
            case "Text":
                yield text_in(await llm.complete(messages), self.output.column, self.output)
            case "Label":
                label, _ = await labels.ask_label(llm, messages, self.output.labels)
                yield {self.output.column: label}
            case "List":
                request = structured.ListRequest(
                    "items", self.output.count, form=self.output.item_form
                )
                for item in await structured.ask_list(llm, messages, request):
                    yield {self.output.column: item}
            case "JSON":
                schema = self.output.json_schema or {}
                value = await structured.ask_json(llm, messages, schema)
                yield {name: value.get(name) for name in self.columns}
            case unreachable:
                assert_never(unreachable)


def compile_stage(spec: Prompt, context: CompileContext) -> Steps:
    """Return the step of a `prompt`."""
    examples: list[Message] = []
    for example in spec.examples:
        examples += [Message("user", example.user), Message("assistant", example.assistant)]
    system = context.read(spec.system) if spec.system else None
    template = PromptTemplate.compile(context.read(spec.user), system, tuple(examples))
    rows = spec.output.count or structured.USUAL_ITEMS if spec.output.type == "List" else 1
    return Steps((Step(PromptStage(template, spec.output), cost=Cost(rows=rows)),))


def _column_type(schema: Any) -> ColumnType:
    """Return the column type of a property; whatever is not a plain scalar is kept as JSON."""
    kind = schema.get("type") if isinstance(schema, dict) else None
    return _TYPES.get(kind, "json") if isinstance(kind, str) else "json"
