"""When a job has enough, and what it may spend."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from kubesynth_api._base import ApiModel, CelRule


class Target(ApiModel):
    """When to stop early. Not available yet."""

    accepted_records: int = Field(
        ge=1, le=10**12, description="Stop when so many records are accepted."
    )


class Price(ApiModel):
    """Price of a model in US dollars per million tokens."""

    prompt_per_million: float = Field(ge=0, le=10**6, description="Per million prompt tokens.")
    completion_per_million: float = Field(
        ge=0, le=10**6, description="Per million completion tokens."
    )


class Budget(ApiModel):
    """What the job may spend; it stops cleanly when it is spent. Not available yet."""

    cel: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            "has(self.tokens) || has(self.usd)",
            "at least one of tokens and usd must be set",
            holds=lambda model: model.tokens is not None or model.usd is not None,
        ),
    )

    tokens: int | None = Field(default=None, ge=1, le=10**15, description="Tokens in all.")
    usd: float | None = Field(default=None, gt=0, le=10**9, description="US dollars in all.")
    prices: Annotated[dict[Annotated[str, Field(max_length=15)], Price], Field(max_length=16)] = (
        Field(default_factory=dict, description="Prices by the model's role.")
    )
