"""The SyntheticDataJob: what a user applies."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from kubesynth_api._base import ApiModel, CelRule
from kubesynth_api.conditions import ConditionType
from kubesynth_api.labels import MANAGED_BY
from kubesynth_api.meta import Condition
from kubesynth_api.runner_contract import (
    Estimate,
    FailureKinds,
    LeftOutText,
    RecordCounts,
    RequestCounts,
    TokenCounts,
)
from kubesynth_api.v1alpha1 import changes
from kubesynth_api.v1alpha1.models import ModelSpec
from kubesynth_api.v1alpha1.pipeline import SOURCE_KINDS, Stage
from kubesynth_api.v1alpha1.retry_failed import RetryFailed
from kubesynth_api.v1alpha1.runner_pods import RunnerPods
from kubesynth_api.v1alpha1.spending import Budget, Target
from kubesynth_api.v1alpha1.storage import InputSpec, OutputSpec, Tokenizer

KIND = "SyntheticDataJob"
PLURAL = "syntheticdatajobs"
JOB_NAME_MAX_LENGTH = 40
_JOB_NAME_PATTERN = "^[a-z]([-a-z0-9]*[a-z0-9])?$"


def is_job_name(name: str) -> bool:
    """Tell whether a job may have this name: children's names and host names derive from it."""
    return len(name) <= JOB_NAME_MAX_LENGTH and re.search(_JOB_NAME_PATTERN, name) is not None


class Shards(ApiModel):
    """How the work is divided over pods."""

    cel: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            "!has(self.parallelism) || self.parallelism <= self.count",
            "parallelism must not exceed count",
            ".parallelism",
            lambda model: model.parallelism is None or model.parallelism <= model.count,
        ),
    )

    count: int = Field(
        default=1,
        ge=1,
        le=10000,
        description="Parts that the input is divided into; each is the work of one pod.",
    )
    parallelism: int | None = Field(
        default=None, ge=1, le=10000, description="Pods at work at once; without it count."
    )


class FailurePolicy(ApiModel):
    """How much may go wrong."""

    backoff_limit_per_shard: int = Field(
        default=3, ge=0, le=100, description="Restarts of a shard before it counts as failed."
    )
    max_failed_shards: int = Field(
        default=0, ge=0, le=10000, description="Failed shards before the job fails."
    )
    max_failed_records_percent: int = Field(
        default=5,
        ge=0,
        le=100,
        description="Share of a shard's input records that may fail before the shard does.",
    )


class Deadlines(ApiModel):
    """How long things may take, in seconds."""

    pending_seconds: int | None = Field(
        default=None, ge=1, le=31536000, description="From acceptance until a pod runs."
    )
    model_ready_seconds: int = Field(
        default=3600, ge=1, le=31536000, description="From a pod's start until the model answers."
    )
    active_seconds: int | None = Field(
        default=None, ge=1, le=31536000, description="From the job's start to its end."
    )


class Cleanup(ApiModel):
    """What happens after the end."""

    ttl_seconds_after_finished: int | None = Field(
        default=None,
        ge=0,
        le=315360000,
        description=(
            "Delete the job so many seconds after its end; the dataset stays. Unset by default: "
            "a GitOps tool would apply the job again."
        ),
    )


def _has_one_beginning(spec: SyntheticDataJobSpec) -> bool:
    from_nothing = [stage.starts_from_nothing for stage in spec.pipeline]
    if spec.input is not None:
        return not any(from_nothing)
    return (from_nothing[0] or spec.retry_failed is not None) and not any(from_nothing[1:])


def _has_source(stage: str) -> str:
    """Return the CEL expression that a stage makes records from nothing."""
    return " || ".join(f"has({stage}.{kind})" for kind in SOURCE_KINDS) or "false"


class SyntheticDataJobSpec(ApiModel):
    """What to make, and how.

    Once applied, only suspend, shards.parallelism, models[].limits, budget (upwards), deadlines and
    cleanup can change. For anything else, apply a job of another name.
    """

    cel: ClassVar[tuple[CelRule, ...]] = (
        *changes.SPEC_RULES,
        CelRule(
            "self.failurePolicy.maxFailedShards <= self.shards.count",
            "maxFailedShards must not exceed shards.count",
            ".failurePolicy.maxFailedShards",
            lambda model: model.failure_policy.max_failed_shards <= model.shards.count,
        ),
        CelRule(
            "self.models.all(m, m.limits.concurrency >= (has(self.shards.parallelism)"
            " ? self.shards.parallelism : self.shards.count))",
            "limits.concurrency must be at least the number of pods at work (shards.parallelism)",
            ".models",
            lambda spec: all(m.limits.concurrency >= spec.parallelism for m in spec.models),
        ),
        CelRule(
            f"self.pipeline.filter(s, {_has_source('s')}).size() == (has(self.input) ? 0"
            f" : (({_has_source('self.pipeline[0]')}) ? 1 : (has(self.retryFailed) ? 0 : -1)))",
            "a job needs either an input or a first stage that makes records from nothing"
            f" ({', '.join(SOURCE_KINDS)}), and has no such stage anywhere else",
            ".input",
            _has_one_beginning,
        ),
    )

    models: Annotated[tuple[ModelSpec, ...], Field(min_length=1, max_length=16)] = Field(
        description="The models that stages ask, by role. A stage that names none asks the first.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    input: InputSpec | None = Field(
        default=None,
        description=(
            "The records that the pipeline starts from. Left out where the first stage makes them "
            "from nothing. With retryFailed it is not read, and may be left out."
        ),
    )
    pipeline: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=32)] = Field(
        description=(
            "The stages, in order. Each makes zero or more records of every record that reaches it."
        ),
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    tokenizer: Tokenizer | None = Field(
        default=None,
        description=(
            "How stages that cut and limit texts by tokens count them. Without it they estimate."
        ),
    )
    output: OutputSpec = Field(description="Where the dataset goes, and in what form.")
    target: Target | None = Field(default=None, description="When there are enough rows.")
    budget: Budget | None = Field(
        default=None,
        description=(
            "What the job may spend; when it is spent the job stops cleanly, with what is done. It "
            "can be raised while the job runs."
        ),
    )
    shards: Shards = Field(
        default_factory=Shards,
        description=(
            "How the work is divided: the input into `count` shards, each the work of one pod, "
            "`parallelism` of them at once."
        ),
    )
    runner: RunnerPods = Field(
        default_factory=RunnerPods,
        description="The pods that run the pipeline: image, resources, environment, placement.",
    )
    failure_policy: FailurePolicy = Field(
        default_factory=FailurePolicy, description="How much may go wrong before the job fails."
    )
    deadlines: Deadlines = Field(
        default_factory=Deadlines,
        description="How long things may take before the job fails, in seconds.",
    )
    cleanup: Cleanup = Field(
        default_factory=Cleanup, description="What happens after the job has ended."
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        le=2147483647,
        description="Seed of everything random: orders, samples, and the seeds sent to models.",
    )
    execution: Literal["Online", "Batch"] = Field(
        default="Online",
        description=(
            "Online sends one request per prompt. Batch hands all of them to OpenAI's Batch API, "
            "level by level: half the price, and up to a day for each level."
        ),
    )
    retry_failed: RetryFailed | None = Field(
        default=None,
        description=(
            "Replay only the failed records of another run, instead of reading the input. The rows "
            "go to an output of their own."
        ),
    )
    managed_by: Annotated[str, Field(min_length=1, max_length=63)] = Field(
        default=MANAGED_BY,
        description=(
            "The controller that carries the job out. The operator leaves jobs with another value "
            "alone."
        ),
    )
    suspend: bool = Field(
        default=False,
        description=(
            "true stops all pods and keeps what is done; false goes on from there, and repeats "
            "nothing that was finished."
        ),
    )

    @property
    def parallelism(self) -> int:
        """Pods at work at once."""
        return self.shards.parallelism or self.shards.count

    @property
    def text_column(self) -> str:
        """Column that holds the document of a record, where it has one."""
        return self.input.text_column if self.input is not None else "text"

    def model(self, role: str | None) -> ModelSpec:
        """Return the model in `role`, or the first one for None.

        Raises:
            KeyError: there is no such role.
        """
        if role is None:
            return self.models[0]
        for model in self.models:
            if model.name == role:
                return model
        raise KeyError(role)


class ShardStatus(ApiModel):
    """Shards by state; never one entry per shard."""

    total: int = Field(default=0, ge=0, description="Shards of the job.")
    active: int = Field(default=0, ge=0, description="Shards with a pod.")
    succeeded: int = Field(default=0, ge=0, description="Shards that are done.")
    failed: int = Field(default=0, ge=0, description="Shards that gave up.")
    failed_indexes: Annotated[str, Field(max_length=256)] = Field(
        default="", description="Which ones, as ranges (1,3-5), cut off when it is long."
    )


class ProgressStatus(ApiModel):
    """How far the job is. Live while it runs, exact when it has ended."""

    records: RecordCounts = Field(default_factory=RecordCounts, description="Records by fate.")
    percent: int = Field(default=0, ge=0, le=100, description="Input records done, in percent.")
    records_per_second: float = Field(
        default=0, ge=0, description="Input records per second, over all pods."
    )
    eta_seconds: int | None = Field(
        default=None, ge=0, description="Seconds to the end at this rate."
    )
    tokens: TokenCounts = Field(default_factory=TokenCounts, description="Token usage.")
    requests: RequestCounts = Field(
        default_factory=RequestCounts, description="Requests by outcome."
    )
    cost_usd: float | None = Field(
        default=None, alias="costUSD", ge=0, description="Cost in US dollars, if prices are known."
    )


class ModelStatus(ApiModel):
    """A model as the job sees it."""

    name: Annotated[str, Field(max_length=15)] = Field(description="The role.")
    endpoint: Annotated[str, Field(max_length=1024)] = Field(default="", description="Where it is.")
    model: Annotated[str, Field(max_length=253)] = Field(default="", description="What it serves.")
    ready: bool = Field(default=False, description="Whether it is known to answer.")
    server: Annotated[str, Field(max_length=128)] = Field(
        default="", description="The ModelServer behind it, as NAMESPACE/NAME."
    )
    reason: Annotated[str, Field(max_length=64)] = Field(
        default="", description="What its server is doing."
    )
    since: Annotated[str, Field(max_length=40)] | None = Field(
        default=None, description="Since when.", json_schema_extra={"format": "date-time"}
    )


class OutputStatus(ApiModel):
    """Where the results are."""

    uri: Annotated[str, Field(max_length=1200)] = Field(default="", description="The dataset.")
    manifest: Annotated[str, Field(max_length=1300)] = Field(
        default="", description="The list of its files."
    )
    report: Annotated[str, Field(max_length=1300)] = Field(
        default="", description="The report for people."
    )


class SyntheticDataJobStatus(ApiModel):
    """What the operator has seen. Bounded: never an entry per shard or record."""

    observed_generation: int | None = Field(
        default=None, ge=0, description="metadata.generation that this status is about."
    )
    phase: Annotated[str, Field(max_length=32)] = Field(
        default="",
        description="The conditions in one word, for people; nothing reads it.",
    )
    summary: Annotated[str, Field(max_length=64)] = Field(
        default="", description="Finished shards of all shards, as 12/64."
    )
    reason: Annotated[str, Field(max_length=64)] = Field(
        default="", description="Reason of the condition that the phase is taken from."
    )
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16)] = Field(
        default=(),
        description=(
            "The state of the job, by type: " + ", ".join(ConditionType) + ". A type that does not "
            "apply may be absent."
        ),
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    start_time: Annotated[str, Field(max_length=40)] | None = Field(
        default=None,
        description="When the job was accepted, or last resumed: deadlines count from here.",
        json_schema_extra={"format": "date-time"},
    )
    completion_time: Annotated[str, Field(max_length=40)] | None = Field(
        default=None, description="When it ended.", json_schema_extra={"format": "date-time"}
    )
    estimate: Estimate | None = Field(default=None, description="What the run should take.")
    shards: ShardStatus = Field(default_factory=ShardStatus, description="Shards by state.")
    progress: ProgressStatus = Field(
        default_factory=ProgressStatus, description="How far the job is."
    )
    failures: FailureKinds | None = Field(
        default=None, description="The commonest kinds of failed records."
    )
    files_left_out: LeftOutText | None = Field(
        default=None, description="Files of the input's folder that are not read, by their ending."
    )
    models: Annotated[tuple[ModelStatus, ...], Field(max_length=16)] = Field(
        default=(), description="The models as the job sees them."
    )
    outputs: OutputStatus | None = Field(default=None, description="Where the results are.")


class SyntheticDataJob(ApiModel):
    """A synthetic text dataset to make: an input, stages that make rows of it, and models.

    The operator plans the run, starts pods that carry it out, and reports in the status.
    """

    cel: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            f"self.metadata.name.size() <= {JOB_NAME_MAX_LENGTH}"
            f" && self.metadata.name.matches(r'{_JOB_NAME_PATTERN}')",
            f"metadata.name must be at most {JOB_NAME_MAX_LENGTH} characters: lower-case letters,"
            " digits and -, a letter first and no - at the end",
            ".metadata.name",
            lambda job: is_job_name(job.metadata.get("name", "")),
        ),
    )

    api_version: Literal["kubesynth.io/v1alpha1"] = "kubesynth.io/v1alpha1"
    kind: Literal["SyntheticDataJob"] = "SyntheticDataJob"
    metadata: dict[str, Any] = Field(default_factory=dict)
    spec: SyntheticDataJobSpec = Field(description="What the user wants.")
    status: SyntheticDataJobStatus | None = Field(
        default=None, description="What the operator has seen."
    )
