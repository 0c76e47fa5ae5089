"""Stages that label or translate what is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from kubesynth_api._base import ApiModel, CelRule, ColumnName
from kubesynth_api.v1alpha1.stages.base import LlmStage, Prompts, PromptSlot

Label = Annotated[str, Field(min_length=1, max_length=63)]
Language = Annotated[str, Field(min_length=2, max_length=63)]


class EntityClass(ApiModel):
    """A class, and what belongs to it."""

    name: Label = Field(description="The label.")
    description: Annotated[str, Field(max_length=1024)] = Field(
        default="", description="What belongs to it, for the model."
    )


class ClassifyEntity(LlmStage):
    """A label for an entity."""

    cel: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            "has(self.preset) != (has(self.classes) && self.classes.size() > 0)",
            "exactly one of preset and classes must be set",
            ".classes",
            lambda stage: (stage.preset is not None) != bool(stage.classes),
        ),
        CelRule(
            "!has(self.classes) || self.classes.size() == 0 || self.classes.size() > 1",
            "there must be at least two classes",
            ".classes",
            lambda stage: len(stage.classes) != 1,
        ),
    )

    preset: Literal["Math", "Python"] | None = Field(
        default=None,
        description=(
            "Whether the entity belongs to mathematics, or to programming in Python: the label is "
            "Yes or No."
        ),
    )
    classes: Annotated[tuple[EntityClass, ...], Field(max_length=64)] = Field(
        default=(), description="Classes of your own, at least two."
    )
    entity_column: ColumnName = Field(default="entity", description="Column with the entity.")
    column: ColumnName = Field(default="label", description="Column for the label.")
    answer_column: ColumnName | None = Field(
        default="label_answer", description="Column for the answer as the model gave it."
    )
    explain: bool = Field(
        default=False, description="Ask for the reason, too; it is in the answer's column."
    )
    prompts: Prompts = Field(
        default_factory=Prompts,
        description=(
            "Prompts that replace the built-in ones. Variables: entity (must be used), classes "
            "(each with name and description), explain, and every column of the record."
        ),
    )

    def needs(self) -> Mapping[str, str]:
        """Return the entity's column."""
        return {"entityColumn": self.entity_column}

    def adds(self) -> Mapping[str, str]:
        """Return the label's column, and the answer's."""
        added = {"column": self.column}
        if self.answer_column is not None:
            added["answerColumn"] = self.answer_column
        return added

    def slots(self) -> tuple[PromptSlot, ...]:
        """Return the one place."""
        variables = frozenset({"entity", "classes", "explain"})
        return (PromptSlot("prompts", self.prompts, variables, required="entity"),)


class Translate(LlmStage):
    """Columns in other languages."""

    cel: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            "self.suffix != '' || self.languages.size() == 1",
            "without a suffix there can be only one language",
            ".suffix",
            lambda stage: bool(stage.suffix) or len(stage.languages) == 1,
        ),
    )

    languages: Annotated[tuple[Language, ...], Field(min_length=1, max_length=64)] = Field(
        description="Languages to translate into, in words (German). A record for each of them."
    )
    columns: Annotated[tuple[ColumnName, ...], Field(min_length=1, max_length=16)] = Field(
        default=("text",), description="Columns to translate."
    )
    source_language: Language | None = Field(
        default=None, description="Language of the texts, in words; without it the model sees."
    )
    suffix: Annotated[str, Field(max_length=32, pattern=r"^[A-Za-z0-9_]*$")] = Field(
        default="_translated",
        description="Added to a column's name for its translation. Empty replaces the column.",
    )
    language_column: ColumnName = Field(
        default="language", description="Column for the language translated into."
    )
    max_segment_tokens: int = Field(
        default=500,
        ge=32,
        le=100000,
        description="Longer texts are translated in segments of whole lines or sentences.",
    )
    prompts: Prompts = Field(
        default_factory=Prompts,
        description=(
            "Prompts that replace the built-in ones. Variables: text (must be used), language, "
            "source, and every column of the record."
        ),
    )

    def needs(self) -> Mapping[str, str]:
        """Return the columns to translate."""
        return {f"columns[{index}]": name for index, name in enumerate(self.columns)}

    def adds(self) -> Mapping[str, str]:
        """Return the translations, and the language."""
        made = {f"columns[{i}]": name + self.suffix for i, name in enumerate(self.columns)}
        return {**made, "languageColumn": self.language_column}

    def slots(self) -> tuple[PromptSlot, ...]:
        """Return the one place."""
        variables = frozenset({"text", "language", "source"})
        return (PromptSlot("prompts", self.prompts, variables, required="text"),)
