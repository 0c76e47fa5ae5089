"""How a change reaches the pods: a new one beside the old ones, or, without room, after them.

A server with GPUs often fills its nodes, and a surge would wait for ever for what the old pod
holds. So when a new pod has found no node for a while, the old ones are stopped first; jobs wait
meanwhile, as they do whenever a server does not answer. The choice lives in the Deployment, and is
taken back when the change is through.

Replicas of several nodes are replaced one by one, or all at once, and never by a surge: so many
free nodes are rare, and a LeaderWorkerSet makes none for a replica that is alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from kubesynth_api.v1alpha1.model_servers import ModelServerSpec
from kubesynth_operator.servers.seen import ServerPod, Workload

SURGE, RECREATE = "RollingUpdate", "Recreate"
ONE_BY_ONE = "OneByOne"
_ALL_AT_ONCE = "100%"
PATIENCE = timedelta(seconds=20)


def strategy(
    spec: ModelServerSpec, workload: Workload | None, pods: Sequence[ServerPod], now: datetime
) -> str:
    """Return the strategy that the workload should have now."""
    if spec.rollout.strategy == "Recreate":
        return RECREATE
    if spec.nodes > 1:
        return ONE_BY_ONE
    if workload is None or not workload.rolling:
        return SURGE
    if workload.strategy == RECREATE:
        return RECREATE
    return RECREATE if _has_no_room(pods, now) else SURGE


def _has_no_room(pods: Sequence[ServerPod], now: datetime) -> bool:
    """Tell whether pods of another version keep a node from a new pod, or seem to."""
    stuck = [pod for pod in pods if not pod.deleting and pod.scheduled_at is None]
    placed = {pod.revision for pod in pods if pod.scheduled_at is not None}
    return any(
        pod.unschedulable and now - pod.created_at >= PATIENCE and placed - {pod.revision}
        for pod in stuck
    )


def of_groups(wanted: str) -> dict[str, object]:
    """Return the field of a LeaderWorkerSet's spec that says so."""
    at_once: int | str = _ALL_AT_ONCE if wanted == RECREATE else 1
    how = {"maxUnavailable": at_once, "maxSurge": 0, "partition": 0}
    return {"rolloutStrategy": {"type": "RollingUpdate", "rollingUpdateConfiguration": how}}


def strategy_of_groups(max_unavailable: object) -> str:
    """Return which strategy a LeaderWorkerSet has."""
    return RECREATE if max_unavailable == _ALL_AT_ONCE else ONE_BY_ONE


def patch(wanted: str) -> dict[str, object]:
    """Return the field of a Deployment's spec that says so."""
    # The other type's parameters have to go with it.
    rolling = {"maxSurge": 1, "maxUnavailable": 0} if wanted == SURGE else None
    return {"strategy": {"type": wanted, "rollingUpdate": rolling}}
