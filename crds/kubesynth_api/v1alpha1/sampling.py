"""Sampling parameters, under the names of the OpenAI API in camelCase, but for `choices`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from kubesynth_api._base import ApiModel

StopSequence = Annotated[str, Field(min_length=1, max_length=256)]


class SamplingParameters(ApiModel):
    """How completions are drawn. What is left out is left to the server."""

    temperature: float | None = Field(
        default=None, ge=0, le=10, description="Softmax temperature; 0 is greedy."
    )
    top_p: float | None = Field(
        default=None, gt=0, le=1, description="Nucleus sampling: total probability kept."
    )
    top_k: int | None = Field(
        default=None,
        ge=-1,
        le=1000000,
        description="Candidates kept; -1 or 0 keeps all. Not for OpenAI itself.",
    )
    min_p: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Least probability relative to the best token. Not for OpenAI itself.",
    )
    max_tokens: int | None = Field(
        default=None, ge=1, le=1000000, description="Longest completion, in tokens."
    )
    max_completion_tokens: int | None = Field(
        default=None,
        ge=1,
        le=1000000,
        description="Longest completion with its reasoning; for newer OpenAI models.",
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        le=2147483647,
        description=(
            "Each request gets a seed derived from this one and the record's id; without it and "
            "spec.seed none."
        ),
    )
    stop: Annotated[tuple[StopSequence, ...], Field(max_length=16)] | None = Field(
        default=None, description="Texts at which a completion ends."
    )
    presence_penalty: float | None = Field(
        default=None, ge=-2, le=2, description="Penalty for tokens that have occurred."
    )
    frequency_penalty: float | None = Field(
        default=None, ge=-2, le=2, description="Penalty growing with each occurrence of a token."
    )
    repetition_penalty: float | None = Field(
        default=None,
        gt=0,
        le=10,
        description="Multiplicative penalty; 1 is none. Not for OpenAI itself.",
    )
    logit_bias: (
        Annotated[
            dict[
                Annotated[str, Field(max_length=10, pattern=r"^[0-9]+$")],
                Annotated[float, Field(ge=-100, le=100)],
            ],
            Field(max_length=300),
        ]
        | None
    ) = Field(default=None, description="Bias by token id, -100 to 100.")
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = Field(
        default=None, description="How long a reasoning model thinks."
    )
    # OpenAI's own name: but a key `n` is the boolean false to a YAML 1.1 parser, and so to kubectl.
    n: int | None = Field(
        default=None,
        alias="choices",
        ge=1,
        le=128,
        description=(
            "Completions of each prompt, each a record of its own, where one is a single value."
        ),
    )
    logprobs: bool | None = Field(
        default=None,
        description="Log probabilities of tokens, into provenance.logprobs.",
    )
    top_logprobs: int | None = Field(
        default=None,
        ge=0,
        le=20,
        description="With logprobs: so many of the likeliest tokens at each place.",
    )

    def over(self, base: SamplingParameters | None) -> SamplingParameters:
        """Return these parameters, with `base` where nothing is set here."""
        if base is None:
            return self
        return base.model_copy(update=self.model_dump(exclude_none=True))

    def to_request_fields(self) -> dict[str, Any]:
        """Return the fields of a chat completion request, `seed` left out.

        The seed of a request is derived per record by the engine.
        """
        fields = self.model_dump(mode="json", exclude_none=True, by_alias=False)
        fields.pop("seed", None)
        return fields
