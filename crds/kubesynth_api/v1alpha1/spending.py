"""When a job has enough, and what it may spend."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from kubesynth_api._base import ApiModel, CelRule


class Target(ApiModel):
    """When to stop early."""

    accepted_records: int = Field(
        ge=1,
        le=10**12,
        description=(
            "Stop when so many output records are accepted, over all shards. Input records under "
            "way are finished, so there may be a few more."
        ),
    )


class Price(ApiModel):
    """Price of a model in US dollars per million tokens."""

    prompt_per_million: float = Field(ge=0, le=10**6, description="Per million prompt tokens.")
    completion_per_million: float = Field(
        ge=0, le=10**6, description="Per million completion tokens."
    )


class Budget(ApiModel):
    """What the job may spend, over all its pods; it stops cleanly when it is spent."""

    cel: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            "has(self.tokens) || has(self.usd)",
            "at least one of tokens and usd must be set",
            holds=lambda model: model.tokens is not None or model.usd is not None,
        ),
    )

    tokens: int | None = Field(
        default=None, ge=1, le=10**15, description="Tokens in all, prompts and completions."
    )
    usd: float | None = Field(
        default=None,
        gt=0,
        le=10**9,
        description="US dollars in all. Every model needs a price, which may be 0.",
    )
    prices: Annotated[dict[Annotated[str, Field(max_length=15)], Price], Field(max_length=16)] = (
        Field(
            default_factory=dict,
            description=(
                "Prices by the model's role, for usd and for the costs that are reported. They "
                "cannot change later, nor come later."
            ),
        )
    )
