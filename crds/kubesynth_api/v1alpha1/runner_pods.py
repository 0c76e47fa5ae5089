"""What users may say about the runner pods."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from kubesynth_api._base import ApiModel, CelRule, ObjectName
from kubesynth_api.meta import KeySelector, NameReference
from kubesynth_api.v1alpha1.models import JsonObject

Quantity = Annotated[
    str,
    Field(
        max_length=32,
        pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$",
    ),
]
LabelKey = Annotated[str, Field(min_length=1, max_length=317)]
LabelValue = Annotated[
    str, Field(max_length=63, pattern=r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
]


class Resources(ApiModel):
    """Compute resources of the runner's container."""

    requests: Annotated[dict[LabelKey, Quantity], Field(max_length=16)] = Field(
        default_factory=dict, description="What the scheduler sets aside, such as cpu: 500m."
    )
    limits: Annotated[dict[LabelKey, Quantity], Field(max_length=16)] = Field(
        default_factory=dict, description="What the container may not exceed."
    )


class EnvVarSource(ApiModel):
    """A value from a Secret or ConfigMap; exactly one of them."""

    cel: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            "has(self.secretKeyRef) != has(self.configMapKeyRef)",
            "exactly one of secretKeyRef and configMapKeyRef must be set",
        ),
    )

    secret_key_ref: KeySelector | None = Field(default=None, description="Secret and key.")
    config_map_key_ref: KeySelector | None = Field(default=None, description="ConfigMap and key.")


class EnvVar(ApiModel):
    """An environment variable of the runner's container."""

    cel: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            "!(has(self.value) && has(self.valueFrom))", "value and valueFrom exclude each other"
        ),
        CelRule(
            "!self.name.startsWith('KUBESYNTH_') && self.name != 'JOB_COMPLETION_INDEX'",
            "names that start with KUBESYNTH_, and JOB_COMPLETION_INDEX, are kubesynth's own",
            ".name",
        ),
    )

    name: Annotated[
        str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    ] = Field(description="Name of the variable.")
    value: Annotated[str, Field(max_length=4096)] | None = Field(
        default=None, description="Its value. Nothing confidential here."
    )
    value_from: EnvVarSource | None = Field(default=None, description="Where its value is.")


class Toleration(ApiModel):
    """A taint that the pods tolerate, as in a pod spec."""

    key: Annotated[str, Field(max_length=317)] | None = Field(
        default=None, description="Taint key."
    )
    operator: Literal["Exists", "Equal"] | None = Field(
        default=None, description="Exists or Equal (the default)."
    )
    value: Annotated[str, Field(max_length=63)] | None = Field(
        default=None, description="Taint value."
    )
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Taint effect; without it every effect."
    )
    toleration_seconds: int | None = Field(
        default=None, ge=0, le=10**9, description="How long NoExecute is tolerated, in seconds."
    )


class RunnerPods(ApiModel):
    """The pods that execute the pipeline."""

    image: Annotated[str, Field(min_length=1, max_length=500)] | None = Field(
        default=None, description="Image; without it the operator's own default."
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        default=None, description="As in a pod spec."
    )
    image_pull_secrets: Annotated[tuple[NameReference, ...], Field(max_length=8)] = Field(
        default=(), description="Secrets for pulling the image."
    )
    resources: Resources | None = Field(
        default=None, description="Resources; without them 250m CPU and 256Mi, limited to 1Gi."
    )
    env: Annotated[tuple[EnvVar, ...], Field(max_length=64)] = Field(
        default=(),
        description="Environment variables, by name.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    node_selector: Annotated[dict[LabelKey, LabelValue], Field(max_length=32)] = Field(
        default_factory=dict, description="Labels that a node must have."
    )
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=32)] = Field(
        default=(), description="Taints that the pods tolerate."
    )
    affinity: JsonObject | None = Field(default=None, description="Affinity, as in a pod spec.")
    priority_class_name: ObjectName | None = Field(default=None, description="Priority class.")
    runtime_class_name: ObjectName | None = Field(default=None, description="Runtime class.")
    service_account_name: ObjectName | None = Field(
        default=None,
        description="Service account, for workload identity. No API token is mounted either way.",
    )
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=32)] = Field(
        default_factory=dict, description="Extra labels of the pods."
    )
    annotations: Annotated[
        dict[LabelKey, Annotated[str, Field(max_length=4096)]], Field(max_length=32)
    ] = Field(default_factory=dict, description="Extra annotations of the pods.")
