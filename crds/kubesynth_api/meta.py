"""References to objects of the cluster, and conditions."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from kubesynth_api._base import ApiModel, CelRule, DataKey, ObjectName, exactly_one_of

# A reference changes as a whole: two field managers never own half of one.
_ATOMIC = ConfigDict(json_schema_extra={"x-kubernetes-map-type": "atomic"})


class KeySelector(ApiModel):
    """One key of a Secret or ConfigMap in the job's namespace."""

    model_config = _ATOMIC

    name: ObjectName = Field(description="Name, in the job's own namespace.")
    key: DataKey = Field(description="Key in the object's data.")


class NameReference(ApiModel):
    """An object in the job's namespace, by name."""

    model_config = _ATOMIC

    name: ObjectName = Field(description="Name, in the job's own namespace.")


class SecretValue(ApiModel):
    """A confidential value, always from a Secret: nothing confidential is written in a job."""

    secret_key_ref: KeySelector = Field(description="Secret and key that hold the value.")


class TextSource(ApiModel):
    """A text from a ConfigMap or a Secret; exactly one of them."""

    cel: ClassVar[tuple[CelRule, ...]] = (exactly_one_of("configMapKeyRef", "secretKeyRef"),)

    config_map_key_ref: KeySelector | None = Field(
        default=None, description="ConfigMap and key that hold the text."
    )
    secret_key_ref: KeySelector | None = Field(
        default=None, description="Secret and key that hold the text."
    )


class PromptText(ApiModel):
    """A prompt template, inline or from a ConfigMap; exactly one of them."""

    cel: ClassVar[tuple[CelRule, ...]] = (exactly_one_of("inline", "configMapKeyRef"),)

    inline: Annotated[str, Field(min_length=1, max_length=16384)] | None = Field(
        default=None,
        description="The template itself (Jinja2).",
    )
    config_map_key_ref: KeySelector | None = Field(
        default=None, description="Its ConfigMap and key."
    )


class Condition(ApiModel):
    """A condition as Kubernetes defines it (metav1.Condition)."""

    type: Annotated[str, Field(max_length=316)] = Field(
        description="Type of the condition, UpperCamelCase."
    )
    status: Literal["True", "False", "Unknown"] = Field(description="True, False or Unknown.")
    observed_generation: int | None = Field(
        default=None, ge=0, description="metadata.generation that this condition was set for."
    )
    last_transition_time: Annotated[str, Field(max_length=40)] = Field(
        description="When the status last changed (RFC 3339, UTC).",
        json_schema_extra={"format": "date-time"},
    )
    reason: Annotated[str, Field(min_length=1, max_length=1024)] = Field(
        description="Why, for machines: one UpperCamelCase word."
    )
    message: Annotated[str, Field(max_length=4096)] = Field(
        default="", description="Why, for people."
    )
