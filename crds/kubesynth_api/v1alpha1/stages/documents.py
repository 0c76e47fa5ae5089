"""Stages that start from a document."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from kubesynth_api.v1alpha1.stages.base import LlmStage, Prompts, PromptSlot, ShortList


class ClosedQA(LlmStage):
    """Questions about a document that the document answers. One document becomes many questions."""

    questions: int = Field(default=5, ge=1, le=100, description="Questions per document.")
    on_short_list: ShortList = Field(
        default="Accept",
        description=(
            "When the model gives too few questions: take them, ask for the rest, or fail the "
            "document."
        ),
    )
    prompts: Prompts = Field(
        default_factory=Prompts,
        description=(
            "Prompts that replace the built-in ones. Variables: document (the text, must be used), "
            "questions (how many), and every column of the record."
        ),
    )

    def adds(self) -> Mapping[str, str]:
        """Return the question's column."""
        return {"": "question"}

    def slots(self) -> tuple[PromptSlot, ...]:
        """Return the one place."""
        variables = frozenset({"document", "questions"})
        return (PromptSlot("prompts", self.prompts, variables, required="document"),)
