"""Where a start stands, what keeps it, and when it has taken too long.

The clock runs from the moment that a pod has a node: a queue for GPUs is not a broken server. It
runs again when a server that was ready no longer is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime, timedelta

from kubesynth_api.conditions import Reason
from kubesynth_operator.servers.seen import Deployment, ServerPod

_MESSAGE_CHARACTERS = 600
_PULL_FAILURES = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}
)
_ON_ITS_WAY = frozenset({"", "ContainerCreating", "PodInitializing"})
# One restart may be bad luck; the kubelet's back-off, or a second, is a loop.
_RESTARTS_OF_A_LOOP = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """The step of a start, for machines and for people."""

    reason: Reason
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class Clock:
    """Whether the start has taken too long, and after how many seconds to look again."""

    timed_out: bool = False
    due_in_seconds: float | None = None


def step(deployment: Deployment | None, pods: Sequence[ServerPod]) -> Step:
    """Return where the pod that has come furthest stands."""
    live = [pod for pod in pods if not pod.deleting]
    if live:
        return max((_step_of(pod) for pod in live), key=lambda each: _RANK[each.reason])
    if deployment is not None and deployment.trouble:
        return Step(Reason.PROVISIONING, f"No pod can be made: {_short(deployment.trouble)}")
    if pods:
        return Step(Reason.PROVISIONING, "The old pods are stopping.")
    return Step(Reason.PROVISIONING, "Pods are being made.")


# How far a pod has come. A failing one tells less than one that is still on its way.
_RANK = {
    Reason.PROVISIONING: 0,
    Reason.UNSCHEDULABLE: 1,
    Reason.IMAGE_PULL_FAILED: 2,
    Reason.CRASH_LOOPING: 3,
    Reason.DOWNLOADING: 4,
    Reason.LOADING: 5,
}


def _step_of(pod: ServerPod) -> Step:
    if pod.scheduled_at is None:
        if pod.unschedulable:
            return Step(Reason.UNSCHEDULABLE, _short(pod.unschedulable))
        return Step(Reason.PROVISIONING, "A pod waits for the scheduler.")
    if pod.waiting_reason in _PULL_FAILURES:
        return Step(
            Reason.IMAGE_PULL_FAILED, _short(f"{pod.waiting_reason}: {pod.waiting_message}")
        )
    if pod.waiting_reason == "CrashLoopBackOff" or pod.restarts >= _RESTARTS_OF_A_LOOP:
        return Step(Reason.CRASH_LOOPING, _last_words(pod) or "The container does not stay up.")
    if pod.running:
        words = _last_words(pod)
        tail = f" It was restarted once; before: {words}" if words else ""
        return Step(Reason.LOADING, f"The engine fetches weights or loads the model.{tail}")
    if pod.waiting_reason in _ON_ITS_WAY:
        return Step(Reason.DOWNLOADING, "The node fetches the image and mounts volumes.")
    # CreateContainerConfigError and the like.
    return Step(Reason.PROVISIONING, _short(f"{pod.waiting_reason}: {pod.waiting_message}"))


def _last_words(pod: ServerPod) -> str:
    if not pod.last_exit:
        return ""
    said = f"; last line of its log: {pod.last_line}" if pod.last_line else ""
    return _short(f"{pod.last_exit}{said}")


def clock(
    pods: Sequence[ServerPod], *, started_at: datetime, timeout_seconds: int, now: datetime
) -> Clock:
    """Compare the clock with the startup timeout.

    Args:
        pods: The server's pods.
        started_at: When the start that is under way began.
        timeout_seconds: How long it may take.
        now: The time.
    """
    live = [pod for pod in pods if not pod.deleting]
    scheduled = [pod.scheduled_at for pod in live if pod.scheduled_at is not None]
    if live and not scheduled:
        return Clock()
    begin = max(started_at, min(scheduled)) if scheduled else started_at
    remaining = (begin + timedelta(seconds=timeout_seconds) - now).total_seconds()
    return Clock(timed_out=True) if remaining <= 0 else Clock(due_in_seconds=max(remaining, 1.0))


def _short(text: str) -> str:
    return text[:_MESSAGE_CHARACTERS]
