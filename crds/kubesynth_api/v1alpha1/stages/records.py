"""Stages for any record: what users build by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from kubesynth_api._base import ApiModel, CelRule, ColumnName, JsonObject
from kubesynth_api.meta import PromptText
from kubesynth_api.v1alpha1.stages.base import LlmStage, StageSpec, TextAnswer, is_apart

# What is read of a list: the outermost items with all that is below them, the titles of these, or
# the items at every depth.
ItemForm = Literal["Whole", "Titles", "Leaves"]
Expression = Annotated[str, Field(min_length=1, max_length=1024)]


class PromptExample(ApiModel):
    """One example turn pair shown to the model before the record's own prompt."""

    user: Annotated[str, Field(min_length=1, max_length=8192)] = Field(
        description="What the user says in the example."
    )
    assistant: Annotated[str, Field(min_length=1, max_length=8192)] = Field(
        description="What the model should have answered."
    )


class PromptOutput(TextAnswer):
    """What becomes of the completion."""

    # JSON has a jsonSchema and nothing else has. No rule of CEL's, which sees nothing of a map of
    # anything; `kubesynth_api.stages` says it in Python.
    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"properties": {"type": {"enum": ["JSON"]}}, "required": ["jsonSchema"]},
                {
                    "properties": {"type": {"enum": ["Text", "List", "Label"]}},
                    "not": {"required": ["jsonSchema"]},
                },
            ]
        }
    )

    cel: ClassVar[tuple[CelRule, ...]] = (
        *TextAnswer.cel,
        is_apart("column", lambda output: output.column),
        CelRule(
            "self.type == 'Text' || self.onCutOff == 'Fail'",
            "onCutOff: Keep is for type Text",
            ".onCutOff",
            lambda model: model.type == "Text" or model.on_cut_off == "Fail",
        ),
        CelRule(
            "self.type == 'List' || !has(self.count)",
            "count is for type List",
            ".count",
            lambda model: model.type == "List" or model.count is None,
        ),
        CelRule(
            "self.type == 'List' || self.itemForm == 'Whole'",
            "itemForm is for type List",
            ".itemForm",
            lambda model: model.type == "List" or model.item_form == "Whole",
        ),
        CelRule(
            "(self.type == 'Label') == (has(self.labels) && self.labels.size() > 0)",
            "type Label needs labels, and no other type takes them",
            ".labels",
            lambda model: (model.type == "Label") == bool(model.labels),
        ),
    )

    type: Literal["Text", "List", "Label", "JSON"] = Field(
        default="Text",
        description=(
            "Text: the completion is the value of `column`. List: each item becomes a record of "
            "its own, the item in `column`. Label: one of `labels`, in `column`. JSON: the "
            "document's properties become columns."
        ),
    )
    column: ColumnName = Field(
        default="output", description="Column for the text or the list's items."
    )
    count: int | None = Field(
        default=None, ge=1, le=1000, description="Items to keep of a list; more are dropped."
    )
    item_form: ItemForm = Field(
        default="Whole",
        description=(
            "With type List: what an item is. Whole: all up to the next item, such as descriptions "
            "and code. Titles: its title alone. Leaves: the items at every depth of nested lists, "
            "without lines that only head others."
        ),
    )
    labels: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=63)], ...], Field(max_length=64)
    ] = Field(
        default=(),
        description="With type Label: the labels. Other answers are asked for again.",
    )
    json_schema: JsonObject | None = Field(
        default=None,
        description=(
            "JSON Schema (draft 2020-12) of an object, required with type JSON. Its properties "
            "become columns. Every completion is checked against it; where the server can be held "
            "to a schema, it is."
        ),
    )


class Prompt(LlmStage):
    """A prompt of the user's own."""

    system: PromptText | None = Field(
        default=None, description="System prompt (Jinja2); none without it."
    )
    user: PromptText = Field(
        description="User prompt (Jinja2). The record's columns are its variables."
    )
    examples: Annotated[tuple[PromptExample, ...], Field(max_length=16)] = Field(
        default=(), description="Few-shot examples, in order."
    )
    output: PromptOutput = Field(
        default_factory=PromptOutput, description="What becomes of the completion."
    )

    def takes_choices(self) -> bool:
        """Return whether a completion is one value."""
        return self.output.type != "List"

    def adds(self) -> Mapping[str, str]:
        """Return the output's column, or those of its JSON schema."""
        if self.output.json_schema is None:
            added = {"output.column": self.output.column}
            if self.output.cut_off_column is not None:
                added["output.cutOffColumn"] = self.output.cut_off_column
            return added
        properties = self.output.json_schema.get("properties")
        names = properties if isinstance(properties, dict) else ()
        return {f"output.jsonSchema.properties.{name}": name for name in names}


class Filter(StageSpec):
    """Keeps the records for which an expression is true. Asks no model."""

    where: Expression = Field(
        description=(
            "Jinja2 expression over the record's columns, such as `answer | length > 20`. A record "
            "for which it is false goes no further, and counts as filtered."
        )
    )
