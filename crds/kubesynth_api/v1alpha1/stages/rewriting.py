"""Stages that make text of documents, after the recipe of Nemotron-CC (arXiv:2412.02595).

A document is cut into segments that fit the model, each segment is asked about once, and the
answers are cleaned, measured, and put together again or kept apart. Token limits are those of
NeMo Curator's nemotron-cc tutorial.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from kubesynth_api._base import ApiModel, CelRule, ColumnName
from kubesynth_api.v1alpha1.stages.base import LlmStage, Prompts, PromptSlot, StageSpec

RowsOrText = Literal["Rows", "Text"]
OnNothing = Literal["Drop", "Keep"]
SEGMENT_COLUMN = "segment_id"
_OUTPUT_TOKENS = "Least tokens of what comes out; less is dropped."


class Segment(StageSpec):
    """Cuts a document into segments, by tokens. Asks no model."""

    cel: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            "self.minTokens <= self.maxTokens",
            "must not be more than maxTokens",
            ".minTokens",
            lambda segment: segment.min_tokens <= segment.max_tokens,
        ),
    )

    max_tokens: int = Field(
        default=512,
        ge=8,
        le=1000000,
        description=(
            "Longest segment, in tokens. Lines are kept together; a line that is longer is cut "
            "between sentences, a sentence that is longer between words."
        ),
    )
    min_tokens: int = Field(
        default=10, ge=0, le=1000000, description="Shorter segments are dropped."
    )
    min_document_tokens: int = Field(
        default=0, ge=0, le=1000000, description="Shorter documents are dropped as a whole."
    )
    join_lines: bool = Field(
        default=True,
        description="Join neighbouring lines while they fit; false makes a segment of each line.",
    )

    def adds(self) -> Mapping[str, str]:
        """Return the segment's number; the text takes the document's place."""
        return {"[segment_id]": SEGMENT_COLUMN}


class DocumentRecipe(ApiModel):
    """What happens to a document before and after the model is asked."""

    min_document_tokens: int = Field(
        default=30, ge=0, le=1000000, description="Shorter documents are not asked about."
    )
    min_segment_tokens: int = Field(
        default=30, ge=0, le=1000000, description="Shorter segments are not asked about."
    )
    max_input_tokens: int = Field(
        default=1000,
        ge=64,
        le=1000000,
        description="Prompt and segment together; longer documents are cut into segments.",
    )
    min_output_tokens: int = Field(default=50, ge=0, le=1000000, description=_OUTPUT_TOKENS)
    clean_markdown: bool = Field(
        default=True, description="Take Markdown off the answer; the words stay."
    )
    on_nothing: OnNothing = Field(
        default="Drop",
        description=(
            "When a document is too short or nothing usable comes out: drop the record, or keep it "
            "with an empty column."
        ),
    )


class DocumentTask(LlmStage, DocumentRecipe):
    """A stage that asks about each segment of a document."""

    output: RowsOrText = Field(
        default="Rows",
        description=(
            "Rows: a record for each result, its text column holds the segment. Text: one record "
            "for each document, with all results in one text."
        ),
    )
    prompts: Prompts = Field(
        default_factory=Prompts,
        description="Prompts that replace the built-in ones. Variables: document (must be used).",
    )

    def takes_choices(self) -> bool:
        """Return False: answers are measured and put together here."""
        return False

    def results(self) -> Mapping[str, str]:
        """Return the columns of a result, by the field that names each."""
        return {}

    def adds(self) -> Mapping[str, str]:
        """Return the result's columns, and the number of the segment that it is of."""
        number = {"[segment_id]": SEGMENT_COLUMN} if self.output == "Rows" else {}
        return {**self.results(), **number}

    def slots(self) -> tuple[PromptSlot, ...]:
        """Return the one place."""
        return (PromptSlot("prompts", self.prompts, frozenset({"document"}), required="document"),)


class WikipediaRewrite(DocumentTask):
    """The document again, in the style of an encyclopedia."""

    column: ColumnName = Field(default="rewritten", description="Column for the text.")
    output: RowsOrText = Field(
        default="Text",
        description=(
            "Text: the rewritten segments of a document as one text. Rows: a record for each "
            "segment, which stands in its text column."
        ),
    )
    min_segment_tokens: int = Field(
        default=10, ge=0, le=1000000, description="Shorter segments are not asked about."
    )
    max_input_tokens: int = Field(
        default=512,
        ge=64,
        le=1000000,
        description="Prompt and segment together; longer documents are cut into segments.",
    )

    def results(self) -> Mapping[str, str]:
        """Return the text's column."""
        return {"column": self.column}


class Distill(DocumentTask):
    """The document, shorter and without loss."""

    column: ColumnName = Field(default="distilled", description="Column for the text.")
    min_segment_tokens: int = Field(
        default=10, ge=0, le=1000000, description="Shorter segments are not asked about."
    )
    max_input_tokens: int = Field(
        default=2000,
        ge=64,
        le=1000000,
        description="Prompt and segment together; longer documents are cut into segments.",
    )

    def results(self) -> Mapping[str, str]:
        """Return the text's column."""
        return {"column": self.column}


class ExtractKnowledge(DocumentTask):
    """What there is to learn from the document, as passages of a textbook."""

    column: ColumnName = Field(default="knowledge", description="Column for the text.")
    max_input_tokens: int = Field(
        default=1400,
        ge=64,
        le=1000000,
        description="Prompt and segment together; longer documents are cut into segments.",
    )

    def results(self) -> Mapping[str, str]:
        """Return the text's column."""
        return {"column": self.column}


class KnowledgeList(DocumentTask):
    """The facts of the document, one by one."""

    column: ColumnName = Field(
        default="fact", description="Column for a fact, or with output Text for all of them."
    )

    def results(self) -> Mapping[str, str]:
        """Return the fact's column."""
        return {"column": self.column}


class DiverseQA(DocumentTask):
    """Questions of many forms about the document, with their answers."""

    pairs: int = Field(default=8, ge=1, le=100, description="Pairs to ask for, of each segment.")
    keep: Literal["All", "Random"] = Field(
        default="All",
        description=(
            "Pairs of a segment to keep. Random: in random order, and a random number of them, "
            "from 1 to maxPairs for every 150 tokens. The same record always gets the same."
        ),
    )
    max_pairs: int = Field(
        default=10, ge=1, le=100, description="With keep Random: pairs for every 150 tokens."
    )
    question_column: ColumnName = Field(default="question", description="Column for a question.")
    answer_column: ColumnName = Field(default="answer", description="Column for its answer.")
    column: ColumnName = Field(
        default="diverse_qa", description="With output Text: column for all pairs."
    )
    include_document: bool = Field(
        default=False, description="With output Text: begin with the document itself."
    )
    min_output_tokens: int = Field(
        default=100,
        ge=0,
        le=1000000,
        description="Least tokens of a segment and its pairs together; less is dropped.",
    )
    prompts: Prompts = Field(
        default_factory=Prompts,
        description=(
            "Prompts that replace the built-in ones. Variables: document (must be used), pairs."
        ),
    )

    def results(self) -> Mapping[str, str]:
        """Return the pair's columns, or that of all pairs."""
        if self.output == "Text":
            return {"column": self.column}
        return {"questionColumn": self.question_column, "answerColumn": self.answer_column}

    def slots(self) -> tuple[PromptSlot, ...]:
        """Return the one place."""
        variables = frozenset({"document", "pairs"})
        return (PromptSlot("prompts", self.prompts, variables, required="document"),)
