"""What the operator and a runner pod agree on, in one place.

The operator starts a runner with an environment, mounts and a port; the runner answers with
progress, an exit code and a termination message. Neither side imports the other.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Annotated, TypeVar

from pydantic import Field

from kubesynth_api._base import ApiModel


class RunnerPhase(StrEnum):
    """What a runner pod is asked to do (environment variable `KUBESYNTH_PHASE`)."""

    PLAN = "plan"  # validate, list files, assign partitions, estimate
    GENERATE = "generate"  # run the pipeline over the partition JOB_COMPLETION_INDEX
    FINALIZE = "finalize"  # sum the shards, write the manifest, the report and _SUCCESS
    ALL = "all"  # the three after each other, in one pod: a job of one shard
    REPORT = "report"  # print the totals of a finished run again (its pod is gone)


class ExitCode(IntEnum):
    """Exit codes of a runner; the Jobs' podFailurePolicy is built from them."""

    OK = 0
    CONFIGURATION = 64  # nobody can succeed with this spec: fails the whole Job
    POISONED_SHARD = 65  # this shard cannot succeed: fails its index
    RETRY = 75  # try again later: counts against the index's backoff limit
    CHECKPOINTED = 143  # asked to stop (SIGTERM), everything is safe: not counted


ENV_PHASE = "KUBESYNTH_PHASE"
ENV_RUN_SPEC = "KUBESYNTH_RUN_SPEC"  # path of the run specification (JSON, RunSpec)
# "true" on finalize when shards are missing: report what there is, and write no _SUCCESS.
ENV_PARTIAL = "KUBESYNTH_PARTIAL"
# With it on finalize: the reason that the job ends early with (BudgetSpent, TargetReached).
ENV_OUTCOME = "KUBESYNTH_OUTCOME"
# The share of the job's limits that a pod uses before its first lease (JSON, InitialShare).
ENV_SHARE = "KUBESYNTH_SHARE"
# Bearer token of `POST /lease`; from a Secret of the job's own.
ENV_LEASE_TOKEN = "KUBESYNTH_LEASE_TOKEN"
LEASE_TOKEN_KEY = "token"
ENV_SHARD_INDEX = "JOB_COMPLETION_INDEX"  # set by the Job controller on Indexed Jobs
ENV_POD_NAME = "POD_NAME"
ENV_POD_UID = "POD_UID"
ENV_LOG_LEVEL = "KUBESYNTH_LOG_LEVEL"
# Outside a pod several runners share one network; a pod always serves on HTTP_PORT.
ENV_HTTP_PORT = "KUBESYNTH_HTTP_PORT"
ENV_TERMINATION_MESSAGE_PATH = "KUBESYNTH_TERMINATION_MESSAGE_PATH"

RUN_SPEC_DIR = "/etc/kubesynth/run"
RUN_SPEC_KEY = "run.json"
RUN_SPEC_PATH = f"{RUN_SPEC_DIR}/{RUN_SPEC_KEY}"
# A claim, ConfigMap or Secret named NAME is mounted at ROOT/NAME; a key of it is ROOT/NAME/KEY.
PVC_ROOT = "/mnt/kubesynth/pvc"
CONFIG_MAP_ROOT = "/mnt/kubesynth/configmap"
SECRET_ROOT = "/mnt/kubesynth/secret"
TERMINATION_MESSAGE_PATH = "/dev/termination-log"

HTTP_PORT = 8080
HTTP_PORT_NAME = "http"
PROGRESS_PATH = "/progress"
LEASE_PATH = "/lease"
METRICS_PATH = "/metrics"
HEALTH_PATH = "/healthz"

# A pod is given this long between SIGTERM and SIGKILL; the runner needs 10 s at most.
TERMINATION_GRACE_PERIOD_SECONDS = 60
# Of what a pod says for people: how many kinds of failures, and how long its texts may be.
FAILURES_TOLD = 5
FAILURE_MESSAGE_CHARACTERS = 200
LEFT_OUT_CHARACTERS = 500
# The kubelet keeps 4096 bytes of a termination message over all containers; ours stays well below.
TERMINATION_MESSAGE_MAX_BYTES = 2048


def model_api_key_env(role: str) -> str:
    """Return the environment variable that holds the API key of the model called `role`."""
    return f"KUBESYNTH_MODEL_{role.upper().replace('-', '_')}_API_KEY"


Count = Annotated[int, Field(ge=0)]
# Bounds that no run comes near: what is beyond them was not written by a runner.
Usd = Annotated[float, Field(ge=0, le=1e18, allow_inf_nan=False)]
PerMinute = Annotated[float, Field(gt=0, le=1e18, allow_inf_nan=False)]
CountsT = TypeVar("CountsT", "RecordCounts", "TokenCounts", "RequestCounts")


class RecordCounts(ApiModel):
    """Records by fate. `in` counts input records, `accepted` and the rest count output records."""

    in_: Count = Field(default=0, alias="in", description="Input records of the run.")
    done: Count = Field(default=0, description="Input records whose pipeline has ended.")
    accepted: Count = Field(default=0, description="Output records in committed parts.")
    filtered: Count = Field(default=0, description="Records that a stage dropped on purpose.")
    failed: Count = Field(default=0, description="Records that ended in errors/.")


class TokenCounts(ApiModel):
    """Token usage as the servers reported it, estimated where a server does not count."""

    prompt: Count = Field(default=0, description="Prompt tokens.")
    completion: Count = Field(default=0, description="Completion tokens.")
    estimated: Count = Field(
        default=0,
        description=(
            "How many of both are estimates, because the server did not count: most models on "
            "Triton do not."
        ),
    )


class RequestCounts(ApiModel):
    """Requests to models by outcome."""

    ok: Count = Field(default=0, description="Requests that were answered.")
    retried: Count = Field(default=0, description="Requests that were sent again after a failure.")
    rate_limited: Count = Field(default=0, description="Answers that said 'slow down' (429).")


class Totals(ApiModel):
    """What a shard, or a whole run, has done. Sums field by field."""

    records: RecordCounts = RecordCounts()
    tokens: TokenCounts = TokenCounts()
    requests: RequestCounts = RequestCounts()
    # None where no prices are known.
    cost_usd: Usd | None = Field(default=None, alias="costUSD")

    def plus(self, other: Totals) -> Totals:
        """Return the field-by-field sum."""
        return Totals(
            records=_sum(RecordCounts, self.records, other.records),
            tokens=_sum(TokenCounts, self.tokens, other.tokens),
            requests=_sum(RequestCounts, self.requests, other.requests),
            cost_usd=None
            if self.cost_usd is None and other.cost_usd is None
            else (self.cost_usd or 0.0) + (other.cost_usd or 0.0),
        )


class Failures(ApiModel):
    """Records that failed in one way, and what one of them says."""

    kind: Annotated[str, Field(max_length=64)] = Field(description="In what way, as in errors/.")
    count: Count = Field(description="How many records failed so.")
    message: Annotated[str, Field(max_length=FAILURE_MESSAGE_CHARACTERS)] = Field(
        default="", description="What one of them says, cut off where it is long."
    )


FailureKinds = Annotated[
    tuple[Failures, ...],
    Field(
        max_length=FAILURES_TOLD,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["kind"]},
    ),
]
LeftOutText = Annotated[str, Field(max_length=LEFT_OUT_CHARACTERS)]


def _sum(kind: type[CountsT], left: CountsT, right: CountsT) -> CountsT:
    fields = kind.model_fields
    return kind(**{name: getattr(left, name) + getattr(right, name) for name in fields})


class ModelShare(ApiModel):
    """What one pod may use of a model's limits. None: not limited."""

    concurrency: int = Field(ge=1)
    requests_per_minute: PerMinute | None = None
    tokens_per_minute: PerMinute | None = None


class CapShare(ApiModel):
    """What may be, or has been, spent and made. As a cap, None: not limited.

    Cumulative: over all attempts at a shard. `records` are accepted output records.
    """

    tokens: int | None = Field(default=None, ge=0)
    usd: Usd | None = None
    records: int | None = Field(default=None, ge=0)


class InitialShare(ApiModel):
    """What pods use before they are leased anything: `models` each, `caps` all together.

    `parallelism` is the number of shards, from the first on, that divide `caps`.
    """

    parallelism: int = Field(ge=1)
    models: dict[str, ModelShare]
    caps: CapShare = CapShare()


class Lease(ApiModel):
    """Body of `POST /lease` on a runner: what it may use from now on, of everything.

    A pod takes it only if `generation` follows the one that it has, and has stored it before it
    answers 200 with a `LeaseReport`. 409 comes with a report too: ask again on its ground. A lease
    belongs to its shard and survives the pod.
    """

    generation: int = Field(ge=0)
    models: dict[str, ModelShare]
    caps: CapShare = CapShare()


class LeaseReport(ApiModel):
    """What a pod holds, exactly.

    `spent` includes what requests under way have reserved; `outside` is what was spent before the
    first shard (by plan), which is part of the whole. `waits_for` is BudgetSpent or TargetReached
    while the pod waits at a cap with nothing under way.
    """

    lease: Lease
    spent: CapShare = CapShare()
    outside: CapShare = CapShare()
    waits_for: str = ""


class ProgressReport(ApiModel):
    """Body of `GET /progress` on a runner: live, and only a hint.

    `totals` covers the whole shard, earlier attempts included, so that a report replaces the one
    before it and sums over shards are sums over the run.
    """

    phase: RunnerPhase
    shard_index: int = 0
    totals: Totals = Totals()
    # Input records per second over the last minute or so.
    records_per_second: float = Field(default=0.0, ge=0, le=1e18, allow_inf_nan=False)
    message: str = ""
    # The commonest kinds of failed records of the shard, and what of the input is not read.
    failures: FailureKinds = ()
    left_out: LeftOutText = ""
    # From the moment at which the pod has opened its shard.
    lease: LeaseReport | None = None


class Estimate(ApiModel):
    """What plan expects the whole run to take."""

    calls: Count | None = Field(default=None, description="Requests to models.")
    tokens: Count | None = Field(default=None, description="Tokens, prompts and completions.")
    rows: Count | None = Field(default=None, description="Output records.")
    cost_usd: float | None = Field(
        default=None,
        alias="costUSD",
        ge=0,
        allow_inf_nan=False,
        description="Cost in US dollars, if prices are known.",
    )


class RunnerError(ApiModel):
    """Why a runner gave up: a `Reason` and a sentence."""

    reason: str
    message: str


class TerminationMessage(ApiModel):
    """What a runner leaves in its container's termination message: JSON, 2 KiB at most.

    plan and all write `estimate`, the number of input records, and which files were left out; every
    generate pod writes its shard's `totals` (a hint) and the `lease` that it ended with; finalize,
    report and all write the run's `totals` (the truth), and `ended` with a reason if there was a
    target or the budget was spent; a runner that fails writes `error`. Whoever writes totals also
    writes the commonest `failures` among them, as far as there is room.
    """

    phase: RunnerPhase
    estimate: Estimate | None = None
    input_records: int | None = None
    totals: Totals | None = None
    manifest_uri: str | None = None
    report_uri: str | None = None
    error: RunnerError | None = None
    lease: LeaseReport | None = None
    ended: str | None = None
    failures: FailureKinds | None = None
    left_out: LeftOutText | None = None
