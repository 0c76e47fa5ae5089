"""The stages of a pipeline: a union, exactly one member per list item."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from kubesynth_api._base import ApiModel, CelRule, ColumnName, LabelName, exactly_one_of
from kubesynth_api.meta import PromptText
from kubesynth_api.v1alpha1.models import JsonObject
from kubesynth_api.v1alpha1.sampling import SamplingParameters

RoleName = Annotated[LabelName, Field(max_length=15)]


class Prompts(ApiModel):
    """Prompts that replace a stage's own."""

    system: PromptText | None = Field(default=None, description="Replaces the system prompt.")
    user: PromptText | None = Field(default=None, description="Replaces the user prompt.")


class LlmStage(ApiModel):
    """What every stage that asks a model has."""

    model: RoleName | None = Field(
        default=None, description="Role of the model; without it the first of spec.models."
    )
    sampling: SamplingParameters | None = Field(
        default=None,
        description="How completions are drawn in this stage; wins over the model's sampling.",
    )
    reasoning_column: ColumnName | None = Field(
        default=None,
        description=(
            "Column for the model's reasoning, where the server sends any. Without it reasoning is "
            "dropped; it never becomes part of another column."
        ),
    )


class ClosedQA(LlmStage):
    """Questions about a document that the document answers. One document becomes many questions."""

    questions: int = Field(default=5, ge=1, le=100, description="Questions per document.")
    on_short_list: Literal["Accept", "Fail"] = Field(
        default="Accept",
        description="When the model gives too few questions: take them, or fail the document.",
    )
    prompts: Prompts = Field(
        default_factory=Prompts,
        description=(
            "Prompts that replace the built-in ones. Variables: document (the text, must be used), "
            "questions (how many), and every column of the record."
        ),
    )


class Answer(LlmStage):
    """An answer to a question, from the document that it came with where there is one."""

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


class PromptExample(ApiModel):
    """One example turn pair shown to the model before the record's own prompt."""

    user: Annotated[str, Field(min_length=1, max_length=8192)] = Field(
        description="What the user says in the example."
    )
    assistant: Annotated[str, Field(min_length=1, max_length=8192)] = Field(
        description="What the model should have answered."
    )


class PromptOutput(ApiModel):
    """What becomes of the completion."""

    # JSON has a jsonSchema and nothing else has. No rule of CEL's, which sees nothing of a map of
    # anything; `kubesynth_api.stages` says it in Python.
    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"properties": {"type": {"enum": ["JSON"]}}, "required": ["jsonSchema"]},
                {
                    "properties": {"type": {"enum": ["Text", "List"]}},
                    "not": {"required": ["jsonSchema"]},
                },
            ]
        }
    )

    cel: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            "self.type == 'List' || !has(self.count)",
            "count is for type List",
            ".count",
            lambda model: model.type == "List" or model.count is None,
        ),
    )

    type: Literal["Text", "List", "JSON"] = Field(
        default="Text",
        description=(
            "Text: the completion is the value of `column`. List: each item becomes a record of "
            "its own, the item in `column`. JSON: the document's properties become columns."
        ),
    )
    column: ColumnName = Field(
        default="output", description="Column for the text or the list's items."
    )
    count: int | None = Field(
        default=None, ge=1, le=1000, description="Items to keep of a list; more are dropped."
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


STAGE_MEMBERS = ("closedQA", "answer", "prompt")


class Stage(ApiModel):
    """One step: turns one record into zero or more records. Exactly one member besides id, when."""

    cel: ClassVar[tuple[CelRule, ...]] = (
        exactly_one_of(*STAGE_MEMBERS, hint=" in a stage; is its name mistyped?"),
    )

    id: Annotated[LabelName, Field(max_length=40)] | None = Field(
        default=None,
        description="Name of the step in lineage, errors and metrics; without it NAME-INDEX.",
    )
    when: Annotated[str, Field(min_length=1, max_length=1024)] | None = Field(
        default=None,
        description=(
            "Jinja2 expression over the record's columns. Where it is false the record passes the "
            "step unchanged. Not available yet."
        ),
    )
    closed_qa: ClosedQA | None = Field(
        default=None,
        alias="closedQA",
        description=(
            "Asks for questions that a document itself answers. One document becomes many records, "
            "each with its question in the column `question`."
        ),
    )
    answer: Answer | None = Field(
        default=None,
        description=(
            "Answers the question of each record, from the document that it came with where there "
            "is one."
        ),
    )
    prompt: Prompt | None = Field(
        default=None,
        description=(
            "A prompt of your own. The completion becomes a text, a list (one record per item) or, "
            "with a JSON schema, columns."
        ),
    )

    @property
    def member(self) -> LlmStage:
        """The one stage that is set."""
        return next(stage for stage in (self.closed_qa, self.answer, self.prompt) if stage)

    @property
    def kind(self) -> str:
        """Name of the one stage that is set, as in the manifest."""
        return next(
            name
            for name, stage in zip(
                STAGE_MEMBERS, (self.closed_qa, self.answer, self.prompt), strict=True
            )
            if stage
        )

    def effective_id(self, index: int) -> str:
        """Return the name of the step in lineage, errors and metrics; `index` is its place."""
        return self.id or f"{self.kind}-{index}"
