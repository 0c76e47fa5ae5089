"""How a change reaches the pods: a new one beside the old ones, or, without room, after them.

A server with GPUs often fills its nodes, and a surge would wait for ever for what the old pod
holds. So when a new pod has found no node for a while, the old ones are stopped first; jobs wait
meanwhile, as they do whenever a server does not answer. The choice lives in the Deployment, and is
taken back when the change is through.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from kubesynth_api.v1alpha1.model_servers import Rollout
from kubesynth_operator.servers.seen import Deployment, ServerPod

SURGE, RECREATE = "RollingUpdate", "Recreate"
PATIENCE = timedelta(seconds=20)


def strategy(
    rollout: Rollout, deployment: Deployment | None, pods: Sequence[ServerPod], now: datetime
) -> str:
    """Return the strategy that the Deployment should have now."""
    if rollout.strategy == "Recreate":
        return RECREATE
    if deployment is None or not deployment.rolling:
        return SURGE
    if deployment.strategy == RECREATE:
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


def patch(wanted: str) -> dict[str, object]:
    """Return the field of a Deployment's spec that says so."""
    # The other type's parameters have to go with it.
    rolling = {"maxSurge": 1, "maxUnavailable": 0} if wanted == SURGE else None
    return {"strategy": {"type": wanted, "rollingUpdate": rolling}}
