"""Stages that make records from nothing: the first stage of a job without an input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from kubesynth_api._base import ApiModel, CelRule, exactly_one_of
from kubesynth_api.v1alpha1.stages.base import LlmStage, Prompts, PromptSlot, ShortList

Topic = Annotated[str, Field(min_length=1, max_length=512)]
Topics = Annotated[tuple[Topic, ...], Field(max_length=1000)]
ON_SHORT_LIST = "When the model gives too few items: take them, ask for the rest, or fail."
OWN_PROMPTS = "Prompts that replace the built-in ones."


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


class TreePrompts(ApiModel):
    """Prompts that replace those of a stage's steps; the variables are in docs/stages.md."""

    macro_topics: Prompts = Field(default_factory=Prompts, description="Must use count.")
    subtopics: Prompts = Field(default_factory=Prompts, description="Must use macro_topic.")


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
    keep_originals: bool = Field(
        default=False,
        description=(
            "Keep each question beside its revisions, as a row without original_question."
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


class ProblemPrompts(TreePrompts):
    """Prompts that replace those of `math` or `coding`, one pair for each step."""

    problems: Prompts = Field(default_factory=Prompts, description="Must use topic.")


class ProblemTree(TopicTree):
    """Problems on the topics of a field."""

    problems: int = Field(default=10, ge=1, le=1000, description="Problems for each topic.")
    prompts: ProblemPrompts = Field(default_factory=ProblemPrompts, description=OWN_PROMPTS)

    # What the prompts of all steps see beside topics and counts.
    steered_by: ClassVar[frozenset[str]] = frozenset()

    def adds(self) -> Mapping[str, str]:
        """Return the topics and the problem."""
        return {f"[{name}]": name for name in ("macro_topic", "topic", "question")}

    def slots(self) -> tuple[PromptSlot, ...]:
        """Return a place for each step."""
        prompts, known = self.prompts, self.steered_by | {"count"}
        topics = known | {"topic", "macro_topic", "level"}
        return (
            slot("macroTopics", prompts.macro_topics, known, "count"),
            slot("subtopics", prompts.subtopics, known | {"macro_topic"}, "macro_topic"),
            slot("problems", prompts.problems, topics, "topic"),
        )


class Math(ProblemTree):
    """Mathematical problems for a school level, each in the column `question`."""

    steered_by: ClassVar[frozenset[str]] = frozenset({"school_level"})

    school_level: Annotated[str, Field(min_length=1, max_length=128)] = Field(
        default="high school",
        description=(
            "Whom topics and problems are for, in your own words: elementary school, university."
        ),
    )
    level: Literal["General", "Beginner"] = Field(
        default="General",
        description="Beginner: problems for somebody who has only just met the topic.",
    )


class Coding(ProblemTree):
    """Programming problems, each in the column `question`."""

    steered_by: ClassVar[frozenset[str]] = frozenset({"language"})

    language: Annotated[str, Field(min_length=1, max_length=64)] = Field(
        default="Python", description="The programming language."
    )
    level: Literal["Beginner", "Intermediate", "Advanced"] = Field(
        default="Beginner", description="How much of the language a solver has to know."
    )


class WritingPrompts(ApiModel):
    """Prompts that replace those of `writing`, one pair for each step."""

    tasks: Prompts = Field(default_factory=Prompts, description="Must use topic.")
    revisions: Prompts = Field(default_factory=Prompts, description="Must use question.")


class Writing(LlmStage):
    """Writing tasks for each pair of a topic and a kind of text, in the column `question`."""

    starts_from_nothing: ClassVar[bool] = True

    topics: Annotated[tuple[Topic, ...], Field(min_length=1, max_length=1000)] = Field(
        description="What to write about."
    )
    materials: Annotated[tuple[Topic, ...], Field(min_length=1, max_length=1000)] = Field(
        description="Kinds of text to write, such as poem, business letter, blog post."
    )
    tasks: int = Field(default=10, ge=1, le=1000, description="Tasks for each pair.")
    revisions: int = Field(
        default=5,
        ge=0,
        le=100,
        description="More demanding versions of each task, in its place; 0 keeps the tasks.",
    )
    keep_originals: bool = Field(
        default=False,
        description="Keep each task beside its revisions, as a row without original_question.",
    )
    distinct: bool = Field(
        default=True,
        description=(
            "Drop repeated tasks of the whole run before more is made of them. All of them are "
            "then asked for while the run is planned."
        ),
    )
    on_short_list: ShortList = Field(default="TopUp", description=ON_SHORT_LIST)
    prompts: WritingPrompts = Field(default_factory=WritingPrompts, description=OWN_PROMPTS)

    def adds(self) -> Mapping[str, str]:
        """Return the pair and the task."""
        names = ["topic", "material", "question"]
        if self.revisions:
            names.append("original_question")
        return {f"[{name}]": name for name in names}

    def slots(self) -> tuple[PromptSlot, ...]:
        """Return a place for each step."""
        variables = frozenset({"topic", "material", "count"})
        return (
            slot("tasks", self.prompts.tasks, variables, "topic"),
            slot("revisions", self.prompts.revisions, variables | {"question"}, "question"),
        )


class MultilingualQA(LlmStage):
    """Questions with their answers in many languages, each made by one call."""

    starts_from_nothing: ClassVar[bool] = True

    cel: ClassVar[tuple[CelRule, ...]] = (exactly_one_of("samples", "samplesPerLanguage"),)

    languages: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=64)], ...],
        Field(min_length=1, max_length=200),
    ] = Field(
        description="Languages, named as the model knows them: Swahili, Brazilian Portuguese."
    )
    samples: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Samples in all; the language of each is drawn by the job's seed.",
    )
    samples_per_language: int | None = Field(
        default=None, ge=1, le=100_000, description="Samples in each language."
    )
    topics: Topics = Field(
        default=(), description="What to ask about; without any, the model's choice within a field."
    )
    prompts: Prompts = Field(default_factory=Prompts, description=OWN_PROMPTS)

    def takes_choices(self) -> bool:
        """Return True: each pair is one."""
        return True

    def adds(self) -> Mapping[str, str]:
        """Return what is drawn and what is made."""
        return {f"[{name}]": name for name in ("language", "topic", "question", "answer")}

    def slots(self) -> tuple[PromptSlot, ...]:
        """Return the one place."""
        variables = frozenset({"language", "topic", "number"})
        return (PromptSlot("prompts", self.prompts, variables, "language", sees_record=False),)


def slot(
    name: str, prompts: Prompts, variables: set[str] | frozenset[str], required: str
) -> PromptSlot:
    """Return the place of one step's prompts, whose records have no other columns."""
    return PromptSlot(f"prompts.{name}", prompts, frozenset(variables), required, sees_record=False)
