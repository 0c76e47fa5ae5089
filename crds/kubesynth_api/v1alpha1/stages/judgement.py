"""Stages that score what others have made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from kubesynth_api._base import ApiModel, CelRule, ColumnName
from kubesynth_api.v1alpha1.sampling import SamplingParameters
from kubesynth_api.v1alpha1.stages.base import (
    LlmStage,
    Prompts,
    PromptSlot,
    RoleName,
    StageSpec,
)

# Judge: a chat model that is asked for scores by a rubric. The others are reward models: Attributes
# answers a conversation with named numbers, as those of NVIDIA do; the rest are vLLM's APIs.
RewardMethod = Literal["Attributes", "Score", "Pooling", "Classify"]
Method = Literal["Judge", "Attributes", "Score", "Pooling", "Classify"]
_METHOD = (
    "Judge: a chat model with a rubric. Reward models: Attributes answers as a chat model, with "
    "named numbers; Score, Pooling and Classify are vLLM's /score, /pooling and /classify."
)
_NAMED: tuple[Method, ...] = ("Attributes", "Classify")  # give several numbers, with names
AttributeName = Annotated[
    str, Field(min_length=1, max_length=40, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
]


class Criterion(ApiModel):
    """One thing that is scored, and its scale."""

    cel: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            "self.min < self.max",
            "min must be less than max",
            ".max",
            lambda criterion: bool(criterion.min < criterion.max),
        ),
    )

    name: Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[a-z][a-z0-9_]*$")] = Field(
        description="Name of the score, such as helpfulness."
    )
    description: Annotated[str, Field(min_length=1, max_length=2048)] = Field(
        description="What is looked at, and what the ends of the scale mean."
    )
    min: int = Field(default=0, ge=-100, le=100, description="The worst score.")
    max: int = Field(default=4, ge=-100, le=100, description="The best score.")
    weight: float = Field(
        default=1.0, ge=0, le=1000, description="Weight in the overall score; 0 leaves it out."
    )


# The attributes of HelpSteer2 and of the reward models that are trained on it, on their scale, so
# that a judge can stand in for one. How long or difficult an answer is, is no merit.
DEFAULT_CRITERIA = (
    Criterion(
        name="helpfulness",
        description="Does it do what was asked for? 0: not at all, 4: fully.",
    ),
    Criterion(
        name="correctness",
        description="Are all facts, steps and results right, and none missing? 0: wrong, 4: right.",
    ),
    Criterion(
        name="coherence",
        description="Is it clear, consistent and well ordered? 0: confused, 4: flawless.",
    ),
    Criterion(
        name="complexity",
        description="How much expertise does it take to write it? 0: anybody can, 4: an expert.",
        weight=0,
    ),
    Criterion(
        name="verbosity",
        description="How much is said for what was asked? 0: terse, 4: very wordy.",
        weight=0,
    ),
)
Criteria = Annotated[tuple[Criterion, ...], Field(max_length=16)]
_NAMES_DIFFER = CelRule(
    "!has(self.criteria) || self.criteria.all(c, self.criteria.exists_one(d, d.name == c.name))",
    "two criteria have the same name",
    ".criteria",
    lambda stage: len({c.name for c in stage.criteria}) == len(stage.criteria),
)


def _only_with(
    methods: tuple[Method, ...], field: str, unset: str, is_unset: Callable[[Any], bool]
) -> CelRule:
    """Return the rule that a field is left alone with other methods; `unset` is its CEL."""
    return CelRule(
        f"self.method in {list(methods)} || {unset}",
        f"{field} belongs to method {' or '.join(methods)}; remove it",
        f".{field}",
        lambda stage: bool(stage.method in methods or is_unset(stage)),
    )


_ATTRIBUTE = _only_with(
    _NAMED, "attribute", "!has(self.attribute)", lambda stage: stage.attribute is None
)
_NO_CRITERIA = _only_with(
    ("Judge",),
    "criteria",
    "!has(self.criteria) || self.criteria.size() == 0",
    lambda stage: not stage.criteria,
)
_ATTRIBUTE_FIELD = (
    "Methods Attributes and Classify: the number that counts as `score`; without it helpfulness, "
    "or the only one there is."
)
_CRITERIA = "What is scored; without it helpfulness, correctness, coherence and more, 0 to 4."
_JUDGE_PROMPTS = "Prompts of the judge. Must use answer."
JUDGE_VARIABLES = frozenset({"conversation", "answer", "document", "criteria"})


class Score(LlmStage):
    """Scores of an answer or a conversation, by a model with a rubric."""

    cel: ClassVar[tuple[CelRule, ...]] = (
        _NAMES_DIFFER,
        _NO_CRITERIA,
        _ATTRIBUTE,
        _only_with(
            _NAMED,
            "attributes",
            "!has(self.attributes) || self.attributes.size() == 0",
            lambda stage: not stage.attributes,
        ),
        _only_with(
            ("Judge",),
            "criterionColumns",
            "!has(self.criterionColumns) || !self.criterionColumns",
            lambda stage: not stage.criterion_columns,
        ),
        _only_with(
            ("Judge",),
            "useDocument",
            "!has(self.useDocument) || !self.useDocument",
            lambda stage: not stage.use_document,
        ),
        _only_with(
            ("Judge",),
            "explanationColumn",
            "!has(self.explanationColumn)",
            lambda stage: stage.explanation_column is None,
        ),
        _only_with(
            ("Judge",),
            "prompts",
            "!has(self.prompts) || (!has(self.prompts.system) && !has(self.prompts.user))",
            lambda stage: stage.prompts == Prompts(),
        ),
    )

    method: Method = Field(default="Judge", description=_METHOD)
    attribute: AttributeName | None = Field(default=None, description=_ATTRIBUTE_FIELD)
    attributes: Annotated[tuple[AttributeName, ...], Field(max_length=16)] = Field(
        default=(),
        description="Those numbers that become columns score_NAME; none may be missing.",
    )
    question_column: ColumnName = Field(default="question", description="Column of the question.")
    answer_column: ColumnName = Field(default="answer", description="Column of the answer.")
    messages_column: ColumnName | None = Field(
        default=None,
        description="Column of a conversation, in place of question and answer: its last answer.",
    )
    use_document: bool | None = Field(
        default=None,
        description=(
            "Method Judge: show the judge the document, if the record has one; true unless said "
            "otherwise. A reward model sees the conversation alone."
        ),
    )
    criteria: Criteria = Field(default=(), description=_CRITERIA)
    scores_column: ColumnName = Field(
        default="scores", description="Column for all scores by name (JSON)."
    )
    criterion_columns: bool = Field(
        default=False, description="Write score_NAME, a column for each criterion, too."
    )
    explanation_column: ColumnName | None = Field(
        default=None, description="Column for the judge's reasons; without it they are dropped."
    )
    prompts: Prompts = Field(default_factory=Prompts, description=_JUDGE_PROMPTS)

    @property
    def rubric(self) -> tuple[Criterion, ...]:
        """The user's criteria, or the built-in ones."""
        return self.criteria or DEFAULT_CRITERIA

    def needs(self) -> Mapping[str, str]:
        """Return the columns that are judged."""
        if self.messages_column is not None:
            return {"messagesColumn": self.messages_column}
        return {"questionColumn": self.question_column, "answerColumn": self.answer_column}

    def adds(self) -> Mapping[str, str]:
        """Return the scores."""
        added = {"scoresColumn": self.scores_column, "[score]": "score"}
        if self.criterion_columns:
            added |= {f"[{c.name}]": f"score_{c.name}" for c in self.rubric}
        added |= {f"[{name}]": f"score_{name}" for name in self.attributes}
        if self.explanation_column is not None:
            added["explanationColumn"] = self.explanation_column
        return added

    def slots(self) -> tuple[PromptSlot, ...]:
        """Return the judge's place."""
        return (PromptSlot("prompts", self.prompts, JUDGE_VARIABLES, required="answer"),)


class PreferencePrompts(ApiModel):
    """Prompts that replace those of `preferencePairs`."""

    answer: Prompts = Field(default_factory=Prompts, description="Must use question.")
    judge: Prompts = Field(default_factory=Prompts, description=_JUDGE_PROMPTS)


class PreferencePairs(LlmStage):
    """The best and the worst of several answers to a question, as scored by another model."""

    cel: ClassVar[tuple[CelRule, ...]] = (
        _NAMES_DIFFER,
        _NO_CRITERIA,
        _ATTRIBUTE,
        _only_with(
            ("Judge",),
            "prompts.judge",
            "!has(self.prompts) || !has(self.prompts.judge) || "
            "(!has(self.prompts.judge.system) && !has(self.prompts.judge.user))",
            lambda stage: stage.prompts.judge == Prompts(),
        ),
        CelRule(
            "self.method != 'Judge' || !has(self.minMargin) || self.minMargin <= 1.0",
            "scores of a judge are 0 to 1",
            ".minMargin",
            lambda stage: bool(stage.method != "Judge" or stage.min_margin <= 1),
        ),
        CelRule(
            "self.method != 'Judge' || !has(self.minChosenScore) || "
            "(self.minChosenScore >= 0.0 && self.minChosenScore <= 1.0)",
            "scores of a judge are 0 to 1",
            ".minChosenScore",
            lambda stage: bool(stage.method != "Judge" or 0 <= (stage.min_chosen_score or 0) <= 1),
        ),
        CelRule(
            "self.method == 'Judge' || has(self.judgeModel)",
            "judgeModel is required with this method: a reward model scores and cannot answer",
            ".judgeModel",
            lambda stage: stage.method == "Judge" or stage.judge_model is not None,
        ),
    )

    method: Method = Field(default="Judge", description=_METHOD)
    attribute: AttributeName | None = Field(default=None, description=_ATTRIBUTE_FIELD)
    question_column: ColumnName = Field(default="question", description="Column of the question.")
    messages_column: ColumnName | None = Field(
        default=None,
        description="Column of a conversation that ends with the user, in place of the question.",
    )
    use_document: bool = Field(
        default=True,
        description=(
            "Show the document, if there is one, to the model that answers and to a judge. A "
            "reward model sees the conversation alone."
        ),
    )
    answers: int = Field(default=4, ge=2, le=32, description="Answers to each question.")
    min_margin: Annotated[float, Field(ge=0, le=1000)] = Field(
        default=0.0,
        description=(
            "Drop pairs whose overall scores differ by less. Equal scores make no pair. Scores of "
            "a judge are 0 to 1; a reward model has a scale of its own."
        ),
    )
    min_chosen_score: Annotated[float, Field(ge=-1000, le=1000)] | None = Field(
        default=None, description="Drop pairs whose better answer scores less."
    )
    judge_model: RoleName | None = Field(
        default=None, description="Role of the model that scores; else `model`."
    )
    judge_sampling: SamplingParameters | None = Field(
        default=None, description="How scores are drawn; wins over the model's sampling."
    )
    criteria: Criteria = Field(default=(), description=_CRITERIA)
    prompts: PreferencePrompts = Field(
        default_factory=PreferencePrompts, description="Prompts that replace the built-in ones."
    )

    @property
    def rubric(self) -> tuple[Criterion, ...]:
        """The user's criteria, or the built-in ones."""
        return self.criteria or DEFAULT_CRITERIA

    def roles(self) -> Mapping[str, RoleName | None]:
        """Return the model that answers and the one that scores."""
        return {"model": self.model, "judgeModel": self.judge_model or self.model}

    def samplings(self) -> Mapping[str, SamplingParameters | None]:
        """Return both of them."""
        return {"model": self.sampling, "judgeModel": self.judge_sampling}

    def needs(self) -> Mapping[str, str]:
        """Return the column of what is asked."""
        if self.messages_column is not None:
            return {"messagesColumn": self.messages_column}
        return {"questionColumn": self.question_column}

    def adds(self) -> Mapping[str, str]:
        """Return the pair, what it scored, and all answers."""
        names = ("chosen", "rejected", "chosen_score", "rejected_score", "margin", "answers")
        return {f"[{name}]": name for name in names}

    def slots(self) -> tuple[PromptSlot, ...]:
        """Return the places of the answer and the judge."""
        variables = frozenset({"question", "document"})
        required = "question" if self.messages_column is None else None
        return (
            PromptSlot("prompts.answer", self.prompts.answer, variables, required),
            PromptSlot("prompts.judge", self.prompts.judge, JUDGE_VARIABLES, "answer"),
        )


def reward_method(stage: StageSpec, field: str) -> RewardMethod | None:
    """Return how a stage asks the model of a role field for numbers; None if it wants text."""
    match stage:
        case Score() if field == "model" and stage.method != "Judge":
            return stage.method
        case PreferencePairs() if field == "judgeModel" and stage.method != "Judge":
            return stage.method
    return None
