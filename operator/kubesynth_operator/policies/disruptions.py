"""The cap on pod failures that count against nothing.

`podFailurePolicy` ignores disruptions (condition DisruptionTarget) and checkpointed exits (143), or
spot nodes would eat up the retries; Kubernetes ignores them without end. The pods that are still
there are counted; a pod that was deleted is not, so this is a lower bound.
"""

from __future__ import annotations

from collections.abc import Iterable

from kubesynth_api.conditions import Reason
from kubesynth_api.runner_contract import ExitCode
from kubesynth_operator.observation import Outcome, Pod, Problem, failure
from kubesynth_operator.settings import Limits


def count(pods: Iterable[Pod]) -> int:
    """Count the pods whose failure was ignored."""
    return sum(
        1
        for pod in pods
        if pod.status == "Failed" and (pod.disrupted or pod.exit_code == ExitCode.CHECKPOINTED)
    )


def threshold(limits: Limits, shard_count: int) -> int:
    """Return how many of them a job of that size may have without a word."""
    return limits.disruption_base + limits.disruption_per_shard * shard_count


def degraded(disruptions: int, limits: Limits, shard_count: int) -> Problem | None:
    """Return the warning, or None while there is nothing to warn about."""
    allowed = threshold(limits, shard_count)
    if disruptions <= allowed:
        return None
    return Problem(
        Reason.DISRUPTIONS_HIGH,
        f"At least {allowed} pods were taken away by the cluster; their shards go on from their"
        " journals. Look for preemption, evictions and spot nodes.",
    )


def exceeded(disruptions: int, limits: Limits, shard_count: int) -> Outcome | None:
    """Return the failure when there is no hope of an end."""
    allowed = threshold(limits, shard_count) * limits.disruption_failure_factor
    if disruptions <= allowed:
        return None
    return failure(
        Reason.DISRUPTIONS_HIGH,
        f"More than {allowed} pods were taken away by the cluster: no shard gets to its end.",
    )
