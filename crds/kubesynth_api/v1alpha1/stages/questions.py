"""Stages that start from a question or an opening line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from kubesynth_api._base import CelRule, ColumnName
from kubesynth_api.v1alpha1.stages.base import (
    LlmStage,
    Prompts,
    PromptSlot,
    TextAnswer,
    is_apart,
)


class Answer(LlmStage, TextAnswer):
    """An answer to a question, from the document that it came with where there is one."""

    cel: ClassVar[tuple[CelRule, ...]] = (
        *TextAnswer.cel,
        is_apart("answerColumn", lambda answer: answer.answer_column),
    )

    question_column: ColumnName = Field(
        default="question", description="Column that holds the question."
    )
    answer_column: ColumnName = Field(default="answer", description="Column for the answer.")
    use_document: bool = Field(
        default=True, description="Show the model the document, if the record has one."
    )
    prompts: Prompts = Field(
        default_factory=Prompts,
        description=(
            "Prompts that replace the built-in ones. Variables: question (must be used), document "
            "(none without one), and every column of the record."
        ),
    )

    def needs(self) -> Mapping[str, str]:
        """Return the question's column."""
        return {"questionColumn": self.question_column}

    def takes_choices(self) -> bool:
        """Return True: each answer is one."""
        return True

    def adds(self) -> Mapping[str, str]:
        """Return the answer's column, and that which says whether it was cut off."""
        added = {"answerColumn": self.answer_column}
        if self.cut_off_column is not None:
            added["cutOffColumn"] = self.cut_off_column
        return added

    def slots(self) -> tuple[PromptSlot, ...]:
        """Return the one place."""
        variables = frozenset({"document", "question"})
        return (PromptSlot("prompts", self.prompts, variables, required="question"),)
