"""Where a start stands, what keeps it, and when it has taken too long.

The clock runs from the moment that a pod has a node: a queue for GPUs is not a broken server, nor
is a quota that lets no pod be made. It runs again when a server that was ready no longer is.

Where a replica has several nodes, its pods are one: it is as far as the pod that keeps the others
waiting, and the clock runs from the moment that all of them have a node. One that fails has all of
them made anew, which takes its last words away: `failure` keeps them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime, timedelta

from kubesynth_api.conditions import Reason
from kubesynth_api.v1alpha1.model_servers import GroupFailure
from kubesynth_operator import wire
from kubesynth_operator.servers.seen import ServerPod, Workload

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


def step(
    workload: Workload | None,
    pods: Sequence[ServerPod],
    nodes: int = 1,
    failure: GroupFailure | None = None,
) -> Step:
    """Return where the replica that has come furthest stands.

    Args:
        workload: What makes the pods.
        pods: The server's pods.
        nodes: Pods of each replica.
        failure: How pods of such a group have failed since the start began.
    """
    groups = _groups(pods)
    if groups:
        steps = [_step_of_group(group, nodes) for group in groups]
        return _in_a_loop(max(steps, key=lambda each: _RANK[each.reason]), failure)
    if failure is not None:
        return _in_a_loop(Step(Reason.PROVISIONING, "The pods are made anew."), failure)
    if workload is not None and workload.trouble:
        return Step(Reason.PROVISIONING, f"No pod can be made: {_short(workload.trouble)}")
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


# Of the pods of one group, what is told first: what a person has to mend, then what is missing.
_GROUP_RANK = {
    Reason.UNSCHEDULABLE: 0,
    Reason.IMAGE_PULL_FAILED: 1,
    Reason.CRASH_LOOPING: 2,
    Reason.PROVISIONING: 3,
    Reason.DOWNLOADING: 4,
    Reason.LOADING: 5,
}


def _groups(pods: Sequence[ServerPod]) -> list[list[ServerPod]]:
    """Return the pods that are not going, by the replica that they belong to."""
    found: dict[str, list[ServerPod]] = {}
    for pod in pods:
        if not pod.deleting:
            found.setdefault(pod.group, []).append(pod)
    return list(found.values())


def _step_of_group(group: Sequence[ServerPod], nodes: int) -> Step:
    if nodes == 1:
        return _step_of(group[0])
    steps = []
    for pod in group:
        # `failure` tells how it ended before.
        fresh = pod.running and pod.restarts < _RESTARTS_OF_A_LOOP
        found = _step_of(dataclasses.replace(pod, last_exit="") if fresh else pod)
        steps.append(Step(found.reason, f"{pod.name}: {found.message}"))
    if len(group) < nodes:
        missing = f"{len(group)} of the {nodes} pods of a group are there."
        steps.append(Step(Reason.PROVISIONING, missing))
    return min(steps, key=lambda each: _GROUP_RANK[each.reason])


def _in_a_loop(found: Step, failure: GroupFailure | None) -> Step:
    """Add how pods of a group have failed, which those that took their place cannot tell."""
    if failure is None or found.reason not in (
        Reason.PROVISIONING,
        Reason.DOWNLOADING,
        Reason.LOADING,
    ):
        return found
    if failure.count >= _RESTARTS_OF_A_LOOP:
        return Step(Reason.CRASH_LOOPING, failure.message)
    return Step(found.reason, _short(f"{found.message} It started again once; {failure.message}"))


def failure(
    before: GroupFailure | None, pods: Sequence[ServerPod], *, started_at: datetime
) -> GroupFailure | None:
    """Return how pods of a group have failed since the start began, with what is seen now.

    Args:
        before: The same, up to now; None when the start has just begun.
        pods: The server's pods, those that are going too.
        started_at: When the start began.
    """
    found = before
    for pod in pods:
        if not pod.restarts or not pod.last_exit or (found and found.pod_uid == pod.uid):
            continue
        since = max(started_at, pod.scheduled_at or started_at)
        found = GroupFailure(
            message=_short(f"{pod.name}: {_last_words(pod)}"),
            count=found.count + 1 if found else 1,
            pod_uid=pod.uid,
            start_time=found.start_time if found else wire.format_time(since),
        )
    return found


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


@dataclasses.dataclass(frozen=True, slots=True)
class Start:
    """The start that is under way: when it began, how long it may take, and how it failed so far.

    `nodes` are the pods of each replica.
    """

    began_at: datetime
    timeout_seconds: int
    nodes: int = 1
    failure: GroupFailure | None = None


def clock(pods: Sequence[ServerPod], start: Start, now: datetime) -> Clock:
    """Compare the clock with the startup timeout; without a pod that has a node it stands still."""
    groups = _groups(pods)
    begins = [found for group in groups if (found := _placed_at(group, start.nodes)) is not None]
    failed_at = wire.parse_time(start.failure.start_time) if start.failure else None
    if failed_at is not None:
        begins.append(failed_at)
    if not begins:
        return Clock()
    begin = max(start.began_at, min(begins))
    remaining = (begin + timedelta(seconds=start.timeout_seconds) - now).total_seconds()
    return Clock(timed_out=True) if remaining <= 0 else Clock(due_in_seconds=max(remaining, 1.0))


def _placed_at(group: Sequence[ServerPod], nodes: int) -> datetime | None:
    """Return since when all pods of a group have a node; None while one has none."""
    placed = [pod.scheduled_at for pod in group if pod.scheduled_at is not None]
    return max(placed) if len(placed) >= nodes else None


def _short(text: str) -> str:
    return text[:_MESSAGE_CHARACTERS]
