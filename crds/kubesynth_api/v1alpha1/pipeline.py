"""The pipeline: a list of stages, each a union with exactly one member."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from kubesynth_api._base import ApiModel, CelRule, LabelName, exactly_one_of
from kubesynth_api.v1alpha1.stages.base import StageSpec
from kubesynth_api.v1alpha1.stages.conversations import Dialogue, TwoTurnPrompt
from kubesynth_api.v1alpha1.stages.documents import ClosedQA
from kubesynth_api.v1alpha1.stages.generation import Coding, Math, MultilingualQA, OpenQA, Writing
from kubesynth_api.v1alpha1.stages.judgement import PreferencePairs, Score
from kubesynth_api.v1alpha1.stages.labelling import ClassifyEntity, Translate
from kubesynth_api.v1alpha1.stages.plugins import Plugin
from kubesynth_api.v1alpha1.stages.questions import Answer
from kubesynth_api.v1alpha1.stages.records import Expression, Filter, Prompt
from kubesynth_api.v1alpha1.stages.rewriting import (
    Distill,
    DiverseQA,
    ExtractKnowledge,
    KnowledgeList,
    Segment,
    WikipediaRewrite,
)

# Every kind of stage, under its name in the manifest: the fields of `Stage` besides id and when.
STAGE_KINDS: Mapping[str, type[StageSpec]] = {
    "openQA": OpenQA,
    "math": Math,
    "coding": Coding,
    "writing": Writing,
    "multilingualQA": MultilingualQA,
    "closedQA": ClosedQA,
    "segment": Segment,
    "wikipediaRewrite": WikipediaRewrite,
    "distill": Distill,
    "diverseQA": DiverseQA,
    "extractKnowledge": ExtractKnowledge,
    "knowledgeList": KnowledgeList,
    "answer": Answer,
    "dialogue": Dialogue,
    "twoTurnPrompt": TwoTurnPrompt,
    "preferencePairs": PreferencePairs,
    "score": Score,
    "classifyEntity": ClassifyEntity,
    "translate": Translate,
    "prompt": Prompt,
    "plugin": Plugin,
    "filter": Filter,
}
# Those that make records from nothing, where there is no input.
SOURCE_KINDS = tuple(name for name, kind in STAGE_KINDS.items() if kind.starts_from_nothing)

# What errors/ names in a stage's place, where a record could not be read or no row be made of it.
INPUT_PLACE, OUTPUT_PLACE = "input", "output"


class Stage(ApiModel):
    """One step: turns one record into zero or more records. Exactly one member besides id, when."""

    cel: ClassVar[tuple[CelRule, ...]] = (
        exactly_one_of(
            *STAGE_KINDS,
            hint=" in a stage, and be {} where it has no settings; is its name mistyped?",
        ),
    )
    union_hint: ClassVar[str] = "; each stage needs a - of its own"

    id: Annotated[LabelName, Field(max_length=40)] | None = Field(
        default=None,
        description=(
            "Name of the step in lineage, errors and metrics; without it NAME-INDEX. Not `input` "
            "or `output`."
        ),
    )
    when: Expression | None = Field(
        default=None,
        description=(
            "Jinja2 expression over the record's columns, such as `quality > 11`. A record for "
            "which it is false passes the step unchanged, and lacks the columns that it adds."
        ),
    )
    open_qa: OpenQA | None = Field(
        default=None,
        alias="openQA",
        description=(
            "Makes questions and requests from nothing: macro topics, subtopics, questions on each "
            "of them, and richer versions of each question."
        ),
    )
    math: Math | None = Field(
        default=None,
        description="Makes mathematical problems from nothing, for a school level.",
    )
    coding: Coding | None = Field(
        default=None,
        description="Makes programming problems from nothing, in any language.",
    )
    writing: Writing | None = Field(
        default=None,
        description="Makes writing tasks for each pair of your topics and kinds of text.",
    )
    multilingual_qa: MultilingualQA | None = Field(
        default=None,
        alias="multilingualQA",
        description="Makes questions with answers from nothing, in many languages.",
    )
    closed_qa: ClosedQA | None = Field(
        default=None,
        alias="closedQA",
        description=(
            "Asks for questions that a document itself answers. One document becomes many records, "
            "each with its question in the column `question`."
        ),
    )
    segment: Segment | None = Field(
        default=None,
        description="Cuts a document into segments, by tokens: one record each. Asks no model.",
    )
    wikipedia_rewrite: WikipediaRewrite | None = Field(
        default=None,
        description="Rewrites a document in the style of an encyclopedia: for low-quality text.",
    )
    distill: Distill | None = Field(
        default=None, description="Condenses a document without loss of information."
    )
    diverse_qa: DiverseQA | None = Field(
        default=None,
        alias="diverseQA",
        description="Makes questions of many forms about a document, with their answers.",
    )
    extract_knowledge: ExtractKnowledge | None = Field(
        default=None,
        description="Writes down what a document teaches, as passages of a textbook.",
    )
    knowledge_list: KnowledgeList | None = Field(
        default=None, description="Lists the facts of a document, one by one."
    )
    answer: Answer | None = Field(
        default=None,
        description=(
            "Answers the question of each record, from the document that it came with where there "
            "is one."
        ),
    )
    dialogue: Dialogue | None = Field(
        default=None,
        description="Makes a conversation of several turns of each opening line.",
    )
    two_turn_prompt: TwoTurnPrompt | None = Field(
        default=None,
        description="Makes opening line, answer and follow-up: a prompt for preference data.",
    )
    preference_pairs: PreferencePairs | None = Field(
        default=None,
        description="Answers each question several times; keeps the best and the worst answer.",
    )
    score: Score | None = Field(
        default=None,
        description="Scores an answer or a conversation by a rubric.",
    )
    classify_entity: ClassifyEntity | None = Field(
        default=None, description="Gives each entity one label of a closed set."
    )
    translate: Translate | None = Field(
        default=None,
        description="Translates columns; long texts in segments, formatting is kept.",
    )
    prompt: Prompt | None = Field(
        default=None,
        description=(
            "A prompt of your own. The completion becomes a text, a list (one record per item) or, "
            "with a JSON schema, columns."
        ),
    )

    plugin: Plugin | None = Field(
        default=None,
        description="A stage of your own: a Python class, from the image or from a file.",
    )
    filter: Filter | None = Field(
        default=None,
        description="Keeps the records for which an expression is true. Asks no model.",
    )

    @property
    def member(self) -> StageSpec:
        """The one stage that is set."""
        return self._set()[1]

    @property
    def starts_from_nothing(self) -> bool:
        """Whether it makes records from nothing. A stage without a member does not."""
        members = (getattr(self, name) for name in type(self).model_fields)
        return any(isinstance(m, StageSpec) and m.starts_from_nothing for m in members)

    @property
    def kind(self) -> str:
        """Name of the one stage that is set, as in the manifest."""
        return self._set()[0]

    def _set(self) -> tuple[str, StageSpec]:
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, StageSpec):
                return field.alias or name, value
        raise ValueError("a stage of the pipeline is empty")

    def effective_id(self, index: int) -> str:
        """Return the name of the step in lineage, errors and metrics; `index` is its place."""
        return self.id or f"{self.kind}-{index}"
