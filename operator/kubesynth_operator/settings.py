"""What an installation decides: read once at start-up, never changed afterwards.

`from_environment` is the only reader of the process environment; everything else is handed the
frozen value.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from kubesynth_api.v1alpha1.runner_pods import RunnerPods
from kubesynth_operator import runner_defaults


class SettingsError(Exception):
    """An environment variable is missing or cannot be understood; the message names it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """How fast, how often and how much; the defaults suit a cluster with a thousand jobs."""

    # Status writes per second over all jobs, so that a crowd of jobs does not crowd out others.
    status_writes_per_second: float = 200
    # A job whose numbers alone have changed is written no more often than this.
    progress_write_seconds: float = 30
    # Between two rounds of asking running pods for their progress.
    poll_seconds: float = 10
    # How long one pod may take to answer, and how many are asked at once. For leases: how many of
    # one job.
    poll_timeout_seconds: float = 2
    poll_concurrency: int = 64
    # How many pods are leased their shares at once, over all jobs.
    lease_concurrency: int = 256
    # Between two rounds of dividing a job's limits over its pods, as long as anything changes.
    lease_seconds: float = 2
    # No counter moved for so long although pods run: Degraded/ProgressStalled.
    stall_seconds: float = 900
    # The Batch API promises an end within a day; two hours more for all that is around it.
    batch_stall_seconds: float = 26 * 3600
    # Pods run for so long and not one of them could be asked: Degraded/ProgressUnknown.
    unreachable_seconds: float = 60
    # A Job that may run has had no pod for so long: its pods are refused.
    podless_seconds: float = 30
    # Ignored pod failures (disruptions and exit code 143) per job until Degraded/DisruptionsHigh,
    # as base + per_shard x shards; the job fails at `disruption_failure_factor` times that.
    # Kubernetes itself would ignore them without end.
    disruption_base: int = 100
    disruption_per_shard: int = 10
    disruption_failure_factor: int = 10
    # How much longer than the deadline finalize may take, so that what is there gets a report.
    finalize_grace_seconds: float = 600
    # Missing Secrets, ConfigMaps and claims are looked for again after so long: Secrets cannot be
    # watched (the operator may only get them by name), so recovery is a matter of asking.
    reference_recheck_seconds: float = 15
    reference_recheck_max_seconds: float = 60
    # Every job is reconciled from a fresh list this often, whatever the watches say.
    resync_seconds: float = 600
    # A watch that has said nothing, not even a bookmark, for so long is broken: liveness fails.
    watch_stale_seconds: float = 300
    # Objects per page of a list.
    page_size: int = 500


# The user and group of the image.
_USER_ID = 65532


@dataclasses.dataclass(frozen=True, slots=True)
class RunnerSecurity:
    """Security contexts of runner pods and of their container, as in a pod's spec.

    The defaults fulfil PodSecurity `restricted`. Without user and groups the platform chooses them.
    """

    pod: Mapping[str, Any] = dataclasses.field(
        default_factory=lambda: {
            "runAsNonRoot": True,
            "runAsUser": _USER_ID,
            "runAsGroup": _USER_ID,
            "fsGroup": _USER_ID,
            # Without this, every pod start walks the whole volume.
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        }
    )
    container: Mapping[str, Any] = dataclasses.field(
        default_factory=lambda: {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    )


@dataclasses.dataclass(frozen=True, slots=True)
class OperatorSettings:
    """One installation of the operator."""

    # Image of runner pods whose job names none; usually the operator's own.
    runner_image: str
    # What the pods of jobs have that say nothing of it in `spec.runner`.
    runner_defaults: RunnerPods = dataclasses.field(default_factory=RunnerPods)
    # As whom the pods of all jobs run.
    runner_security: RunnerSecurity = dataclasses.field(default_factory=RunnerSecurity)
    # Namespaces to serve; empty means the whole cluster, which needs cluster-wide permissions.
    namespaces: tuple[str, ...] = ()
    # Where the operator runs, and the label its pods carry: jobs' NetworkPolicies admit them.
    operator_namespace: str = "kubesynth-system"
    operator_pod_name_label: str = "kubesynth-operator"
    # Namespaces whose pods may scrape the runners' metrics as well.
    metrics_namespaces: tuple[str, ...] = ()
    # False creates no NetworkPolicies (an operator that runs outside the cluster needs that).
    network_policy: bool = True
    # True queues all Jobs of a job that names a queue, not only the one of its shards.
    queue_all_jobs: bool = False
    # True lets jobs bring Python of their own in a ConfigMap (the stage `plugin`).
    plugin_files: bool = False
    # True waits for a Lease before working: for more than one replica.
    leader_election: bool = False
    # The Lease's name, in the operator's namespace: one for each installation there.
    lease_name: str = "kubesynth-operator"
    # Who this process is, in the Lease and in Events.
    identity: str = "kubesynth-operator"
    # Port of /healthz, /readyz and /metrics.
    http_port: int = 8081
    # Port on which runner pods are asked for progress.
    runner_port: int = 8080
    # Jobs that are reconciled at the same time.
    workers: int = 8
    log_level: str = "INFO"
    # A folder with classes of model servers, NAME.yaml each, to make where they are missing.
    classes_folder: str | None = None
    # A kubeconfig file; None means the pod's service account, or else the client's usual places.
    kubeconfig: str | None = None
    limits: Limits = dataclasses.field(default_factory=Limits)

    @property
    def watched_namespaces(self) -> tuple[str | None, ...]:
        """The namespaces to list and watch one by one; (None,) is the whole cluster at once."""
        return self.namespaces or (None,)


def from_environment(environment: Mapping[str, str]) -> OperatorSettings:
    """Build the settings of this process.

    Raises:
        SettingsError: a variable is missing or malformed.
    """
    image = environment.get("KUBESYNTH_RUNNER_IMAGE", "")
    if not image:
        raise SettingsError(
            "KUBESYNTH_RUNNER_IMAGE is not set: it names the image of the runner pods"
        )
    defaults = OperatorSettings(runner_image=image)
    namespace = environment.get("KUBESYNTH_OPERATOR_NAMESPACE") or environment.get("POD_NAMESPACE")
    label = environment.get("KUBESYNTH_OPERATOR_POD_NAME_LABEL")
    return dataclasses.replace(
        defaults,
        runner_defaults=_runner_defaults(environment, "KUBESYNTH_RUNNER_DEFAULTS"),
        runner_security=_runner_security(environment),
        namespaces=_names(environment, "KUBESYNTH_NAMESPACES"),
        operator_namespace=namespace or defaults.operator_namespace,
        operator_pod_name_label=label or defaults.operator_pod_name_label,
        metrics_namespaces=_names(environment, "KUBESYNTH_METRICS_NAMESPACES"),
        network_policy=_flag(environment, "KUBESYNTH_NETWORK_POLICY", defaults.network_policy),
        queue_all_jobs=_flag(environment, "KUBESYNTH_QUEUE_ALL_JOBS", defaults.queue_all_jobs),
        plugin_files=_flag(environment, "KUBESYNTH_PLUGIN_FILES", defaults.plugin_files),
        leader_election=_flag(environment, "KUBESYNTH_LEADER_ELECTION", defaults.leader_election),
        lease_name=environment.get("KUBESYNTH_LEASE_NAME") or defaults.lease_name,
        identity=environment.get("POD_NAME") or defaults.identity,
        http_port=_number(environment, "KUBESYNTH_HTTP_PORT", defaults.http_port),
        workers=_number(environment, "KUBESYNTH_WORKERS", defaults.workers),
        log_level=environment.get("KUBESYNTH_LOG_LEVEL", defaults.log_level).upper(),
        classes_folder=environment.get("KUBESYNTH_CLASSES_FOLDER") or None,
        kubeconfig=environment.get("KUBECONFIG") or None,
    )


def _runner_defaults(environment: Mapping[str, str], variable: str) -> RunnerPods:
    try:
        return runner_defaults.parse(environment.get(variable) or "{}")
    except ValueError as exc:
        raise SettingsError(f"{variable}: {exc}") from exc


def _runner_security(environment: Mapping[str, str]) -> RunnerSecurity:
    given = {
        field: _object(environment, variable)
        for field, variable in (
            ("pod", "KUBESYNTH_RUNNER_POD_SECURITY_CONTEXT"),
            ("container", "KUBESYNTH_RUNNER_SECURITY_CONTEXT"),
        )
    }
    # Of an object without fields nothing is left out: it says that nothing is wanted.
    known = {field: value for field, value in given.items() if value is not None}
    return dataclasses.replace(RunnerSecurity(), **known)


def _object(environment: Mapping[str, str], variable: str) -> dict[str, Any] | None:
    text = environment.get(variable, "").strip()
    if not text:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise SettingsError(f"{variable} must be a JSON object: {exc}") from exc
    if not isinstance(value, dict):
        raise SettingsError(f"{variable} must be a JSON object, not {text!r}")
    return value


def _names(environment: Mapping[str, str], variable: str) -> tuple[str, ...]:
    parts = (part.strip() for part in environment.get(variable, "").split(","))
    return tuple(dict.fromkeys(part for part in parts if part))


def _flag(environment: Mapping[str, str], variable: str, default: bool) -> bool:
    value = environment.get(variable, "").strip().lower()
    if not value:
        return default
    if value not in ("true", "false"):
        raise SettingsError(f"{variable} must be true or false, not {value!r}")
    return value == "true"


def _number(environment: Mapping[str, str], variable: str, default: int) -> int:
    value = environment.get(variable, "").strip()
    if not value:
        return default
    if not value.isdigit() or int(value) < 1:
        raise SettingsError(f"{variable} must be a whole number of at least 1, not {value!r}")
    return int(value)
