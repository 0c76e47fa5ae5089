"""What all stages have in common, and how a stage tells what it takes and what it adds.

A stage declares its models, columns and prompts in a few methods; every check that can be made
before a pod starts, and the mapping of columns from stage to stage, rests on these alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from kubesynth_api._base import ApiModel, CelRule, ColumnName, LabelName
from kubesynth_api.meta import PromptText
from kubesynth_api.v1alpha1.sampling import SamplingParameters

# What to do when a model gives too few items of a list.
ShortList = Literal["Accept", "TopUp", "Fail"]
# What to do with a text that was cut off at maxTokens.
OnCutOff = Literal["Fail", "Keep"]
RoleName = Annotated[LabelName, Field(max_length=15)]


class Prompts(ApiModel):
    """Prompts that replace a stage's own."""

    system: PromptText | None = Field(default=None, description="Replaces the system prompt.")
    user: PromptText | None = Field(default=None, description="Replaces the user prompt.")


@dataclasses.dataclass(frozen=True, slots=True)
class PromptSlot:
    """A place where a user may put prompts of their own.

    `path` is the field below the stage, as in the manifest. Templates may use `variables` and,
    with `sees_record`, the record's columns; one of the two has to use `required`.
    """

    path: str
    prompts: Prompts
    variables: frozenset[str]
    required: str | None = None
    sees_record: bool = True


class StageSpec(ApiModel):
    """A stage, whatever it does."""

    # True for a stage that makes records from nothing: it is the first one, in place of an input.
    starts_from_nothing: ClassVar[bool] = False

    def roles(self) -> Mapping[str, RoleName | None]:
        """Return the model roles that it asks, by field; None is the first model. Maybe none.

        The main one is called `model` and comes first; others end in Model (judgeModel), and the
        sampling of each is beside it (judgeSampling).
        """
        return {}

    def samplings(self) -> Mapping[str, SamplingParameters | None]:
        """Return what the user says about drawing completions, by the same fields as `roles`."""
        return {}

    def takes_choices(self) -> bool:
        """Tell whether each of several completions of its first prompt makes a record of its own.

        Not where a completion is a list: there a number of items is asked for, and several lists
        would mostly repeat each other.
        """
        return False

    def needs(self) -> Mapping[str, str]:
        """Return the columns that a record must have, by the field that names each."""
        return {}

    def adds(self) -> Mapping[str, str]:
        """Return the columns that it adds or replaces, by the field that names each.

        A column whose name is fixed stands under any other key: nobody can have got it wrong.
        """
        return {}

    def slots(self) -> tuple[PromptSlot, ...]:
        """Return the places for the user's prompts."""
        return ()


class LlmStage(StageSpec):
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

    def roles(self) -> Mapping[str, RoleName | None]:
        """Return the one model."""
        return {"model": self.model}

    def samplings(self) -> Mapping[str, SamplingParameters | None]:
        """Return the one model's."""
        return {"model": self.sampling}


class TextAnswer(ApiModel):
    """A completion that is a text, whatever its length."""

    cel: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            "!has(self.cutOffColumn) || self.onCutOff == 'Keep'",
            "cutOffColumn is for onCutOff: Keep; without it no answer that was cut off is kept",
            ".cutOffColumn",
            lambda answer: answer.cut_off_column is None or answer.on_cut_off == "Keep",
        ),
    )

    on_cut_off: OnCutOff = Field(
        default="Fail",
        description=(
            "When an answer was cut off at maxTokens: fail the record, or keep as much of it as "
            "there is."
        ),
    )
    cut_off_column: ColumnName | None = Field(
        default=None,
        description="With onCutOff Keep: column that says whether the answer was cut off.",
    )


def is_apart(field: str, of: Callable[[Any], str]) -> CelRule:
    """Return the rule that `cutOffColumn` is another column than the one in `field`."""
    return CelRule(
        f"!has(self.cutOffColumn) || self.cutOffColumn != self.{field}",
        f"cutOffColumn must be another column than {field}",
        ".cutOffColumn",
        lambda answer: answer.cut_off_column != of(answer),
    )
