"""Stages that make records from nothing: the first stage of a job without an input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from kubesynth_api._base import ApiModel, CelRule
from kubesynth_api.v1alpha1.stages.base import LlmStage, Prompts, PromptSlot, ShortList

Topic = Annotated[str, Field(min_length=1, max_length=512)]
Topics = Annotated[tuple[Topic, ...], Field(max_length=1000)]
ON_SHORT_LIST = "When the model gives too few items: take them, ask for the rest, or fail."


class TopicTree(LlmStage):
    """Topics and subtopics that records are made about."""

    starts_from_nothing: ClassVar[bool] = True

    cel: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            "self.macroTopics > 0 || (has(self.additionalTopics)"
            " && self.additionalTopics.size() > 0) || (has(self.additionalSubtopics)"
            " && self.additionalSubtopics.size() > 0)",
            "with macroTopics: 0 there must be additionalTopics or additionalSubtopics",
            ".macroTopics",
            lambda tree: bool(
                tree.macro_topics or tree.additional_topics or tree.additional_subtopics
            ),
        ),
        CelRule(
            "self.combineTopics || self.subtopics > 0 || (has(self.additionalSubtopics)"
            " && self.additionalSubtopics.size() > 0)",
            "with subtopics: 0 the macro topics themselves must be used (combineTopics)",
            ".subtopics",
            lambda tree: bool(tree.combine_topics or tree.subtopics or tree.additional_subtopics),
        ),
    )

    macro_topics: int = Field(
        default=20,
        ge=0,
        le=1000,
        description="Macro topics to ask for; 0 takes only additionalTopics.",
    )
    subtopics: int = Field(
        default=5, ge=0, le=1000, description="Subtopics to ask for, of each macro topic."
    )
    additional_topics: Topics = Field(
        default=(), description="Macro topics of your own. They get subtopics like the others."
    )
    additional_subtopics: Topics = Field(
        default=(), description="Topics of your own, used as they are."
    )
    combine_topics: bool = Field(
        default=True, description="Use the macro topics themselves as topics, too."
    )
    distinct: bool = Field(
        default=True,
        description=(
            "Drop repeated topics and items of the whole run, whatever their case and spacing, "
            "before more is made of them. All of them are then asked for while the run is planned."
        ),
    )
    on_short_list: ShortList = Field(default="TopUp", description=ON_SHORT_LIST)


class OpenQAPrompts(ApiModel):
    """Prompts that replace those of `openQA`, one pair for each step."""

    macro_topics: Prompts = Field(
        default_factory=Prompts, description="Variables: count (must be used)."
    )
    subtopics: Prompts = Field(
        default_factory=Prompts, description="Variables: macro_topic (must be used), count."
    )
    questions: Prompts = Field(
        default_factory=Prompts,
        description="Variables: topic (must be used), macro_topic, count.",
    )
    revisions: Prompts = Field(
        default_factory=Prompts,
        description="Variables: question (must be used), topic, macro_topic, count.",
    )


class OpenQA(TopicTree):
    """Questions and requests on every topic there is: the opening lines of dialogues."""

    questions: int = Field(default=10, ge=1, le=1000, description="Questions for each topic.")
    revisions: int = Field(
        default=5,
        ge=0,
        le=100,
        description=(
            "Richer versions to make of each question; they take its place. 0 keeps the questions "
            "as they are."
        ),
    )
    prompts: OpenQAPrompts = Field(
        default_factory=OpenQAPrompts, description="Prompts that replace the built-in ones."
    )

    def adds(self) -> Mapping[str, str]:
        """Return the topics and the question."""
        names = ["macro_topic", "topic", "question"]
        if self.revisions:
            names.append("original_question")
        return {f"[{name}]": name for name in names}

    def slots(self) -> tuple[PromptSlot, ...]:
        """Return a place for each step."""
        prompts = self.prompts
        topics = frozenset({"topic", "macro_topic", "count"})
        return (
            slot("macroTopics", prompts.macro_topics, {"count"}, "count"),
            slot("subtopics", prompts.subtopics, {"macro_topic", "count"}, "macro_topic"),
            slot("questions", prompts.questions, topics, "topic"),
            slot("revisions", prompts.revisions, topics | {"question"}, "question"),
        )


def slot(
    name: str, prompts: Prompts, variables: set[str] | frozenset[str], required: str
) -> PromptSlot:
    """Return the place of one step's prompts, whose records have no other columns."""
    return PromptSlot(f"prompts.{name}", prompts, frozenset(variables), required, sees_record=False)
