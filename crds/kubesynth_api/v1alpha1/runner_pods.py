"""What users may say about the runner pods."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from kubesynth_api import runner_contract
from kubesynth_api._base import ApiModel, CelRule, JsonObject, ObjectName, exactly_one_of
from kubesynth_api.meta import KeySelector, NameReference

QUANTITY_PATTERN = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
_SUFFIXES = {
    "m": Decimal("0.001"),
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", 1)},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
}


def _quantity_text(value: object) -> object:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_number else value


# As in a pod spec, `cpu: 1` means `cpu: "1"`.
Quantity = Annotated[
    str,
    Field(max_length=32, pattern=QUANTITY_PATTERN),
    BeforeValidator(_quantity_text),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "minimum": 0,
            "maxLength": 32,
            "pattern": QUANTITY_PATTERN,
        }
    ),
]
# A qualified name: at most 63 characters after an optional DNS prefix.
LabelKey = Annotated[
    str,
    Field(
        min_length=1,
        max_length=317,
        pattern=(
            r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?"
            r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
        ),
    ),
]
LabelValue = Annotated[
    str, Field(max_length=63, pattern=r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
]


class Resources(ApiModel):
    """Compute resources of the runner's container."""

    cel: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            "!has(self.requests) || !has(self.limits) || self.requests.all(k, !(k in self.limits)"
            " || quantity(string(self.requests[k]))"
            ".compareTo(quantity(string(self.limits[k]))) <= 0)",
            "no request may exceed the limit of the same resource",
            ".requests",
            lambda model: all(
                name not in model.limits or _amount(text) <= _amount(model.limits[name])
                for name, text in model.requests.items()
            ),
        ),
    )

    requests: Annotated[dict[LabelKey, Quantity], Field(max_length=16)] = Field(
        default_factory=dict, description="What the scheduler sets aside, such as cpu: 500m."
    )
    limits: Annotated[dict[LabelKey, Quantity], Field(max_length=16)] = Field(
        default_factory=dict, description="What the container may not exceed."
    )


def _amount(quantity: str) -> Decimal:
    """Return the number that a quantity stands for."""
    number = quantity.rstrip("mkMGTPEKi")
    suffix = quantity[len(number) :]
    return Decimal(number) * _SUFFIXES[suffix] if suffix else Decimal(number)


class EnvVarSource(ApiModel):
    """A value from a Secret or ConfigMap; exactly one of them."""

    cel: ClassVar[tuple[CelRule, ...]] = (exactly_one_of("secretKeyRef", "configMapKeyRef"),)

    secret_key_ref: KeySelector | None = Field(
        default=None, description="Secret and key that hold it."
    )
    config_map_key_ref: KeySelector | None = Field(
        default=None, description="ConfigMap and key that hold it."
    )


_OWN_VARIABLES = (
    runner_contract.ENV_SHARD_INDEX,
    runner_contract.ENV_POD_NAME,
    runner_contract.ENV_POD_UID,
)


class EnvVar(ApiModel):
    """An environment variable of the runner's container."""

    cel: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            "!(has(self.value) && has(self.valueFrom))",
            "value and valueFrom exclude each other",
            holds=lambda model: model.value is None or model.value_from is None,
        ),
        CelRule(
            f"!self.name.startsWith('KUBESYNTH_') && !(self.name in {list(_OWN_VARIABLES)})",
            "names that start with KUBESYNTH_ are kubesynth's own, and so are "
            + ", ".join(_OWN_VARIABLES),
            ".name",
            lambda model: (
                not model.name.startswith("KUBESYNTH_") and model.name not in _OWN_VARIABLES
            ),
        ),
    )

    name: Annotated[
        str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    ] = Field(description="Name of the variable.")
    value: Annotated[str, Field(max_length=4096)] | None = Field(
        default=None, description="Its value. What is confidential goes through valueFrom."
    )
    value_from: EnvVarSource | None = Field(default=None, description="Where its value is.")


class Toleration(ApiModel):
    """A taint that the pods tolerate, as in a pod spec."""

    cel: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            "!has(self.value) || self.value == ''"
            " || !has(self.operator) || self.operator == 'Equal'",
            "operator Exists takes no value",
            ".value",
            lambda model: not model.value or model.operator != "Exists",
        ),
        CelRule(
            "(has(self.key) && self.key != '')"
            " || (has(self.operator) && self.operator == 'Exists')",
            "without a key the operator must be Exists",
            ".operator",
            lambda model: bool(model.key) or model.operator == "Exists",
        ),
        CelRule(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "tolerationSeconds is for the effect NoExecute",
            ".tolerationSeconds",
            lambda model: model.toleration_seconds is None or model.effect == "NoExecute",
        ),
    )

    key: Annotated[str, Field(max_length=317)] | None = Field(
        default=None, description="Taint key; without it every taint."
    )
    operator: Literal["Exists", "Equal"] | None = Field(
        default=None, description="Exists or Equal (the default)."
    )
    value: LabelValue | None = Field(default=None, description="Taint value.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Taint effect; without it every effect."
    )
    toleration_seconds: int | None = Field(
        default=None, ge=0, le=10**9, description="How long NoExecute is tolerated, in seconds."
    )


UserId = Annotated[int, Field(ge=1, le=2147483647)]
GroupId = Annotated[int, Field(ge=0, le=2147483647)]


class PodUser(ApiModel):
    """As whom the pods run; each field that is set replaces the installation's."""

    run_as_user: UserId | None = Field(default=None, description="User, by its number; never root.")
    run_as_group: GroupId | None = Field(default=None, description="Group, by its number.")
    fs_group: GroupId | None = Field(
        default=None, description="Group that the pods' volumes are given to."
    )
    fs_group_change_policy: Literal["OnRootMismatch", "Always"] | None = Field(
        default=None, description="Whether every file of a volume is given to fsGroup each time."
    )
    supplemental_groups: Annotated[tuple[GroupId, ...], Field(max_length=16)] = Field(
        default=(), description="Further groups, such as those that may write to an NFS export."
    )


_OWN_LABELS = ("app.kubernetes.io/managed-by", "app.kubernetes.io/name", "job-name")
_OWN_LABELS_PATTERN = r"^(kubesynth\.io|batch\.kubernetes\.io|kueue\.x-k8s\.io)/"


class RunnerPods(ApiModel):
    """The pods that execute the pipeline."""

    cel: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            f"!has(self.labels) || !self.labels.exists(k, k in {list(_OWN_LABELS)}"
            f" || k.matches(r'{_OWN_LABELS_PATTERN}'))",
            "these labels are set by controllers: kubesynth.io/*, batch.kubernetes.io/*, "
            "kueue.x-k8s.io/*, " + ", ".join(_OWN_LABELS),
            ".labels",
            lambda model: (
                not any(
                    key in _OWN_LABELS or re.search(_OWN_LABELS_PATTERN, key)
                    for key in model.labels
                )
            ),
        ),
    )

    image: Annotated[str, Field(min_length=1, max_length=500)] | None = Field(
        default=None, description="Image; without it the one that the operator is set up with."
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        default=None, description="When to pull the image, as in a pod spec."
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
    pod_security_context: PodUser | None = Field(
        default=None,
        description=(
            "User and groups of the pods, for volumes that want certain ones. Without them those "
            "of the installation: 65532, or the platform's choice."
        ),
    )
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=32)] = Field(
        default_factory=dict, description="Extra labels of the pods."
    )
    annotations: Annotated[
        dict[LabelKey, Annotated[str, Field(max_length=4096)]], Field(max_length=32)
    ] = Field(default_factory=dict, description="Extra annotations of the pods.")
