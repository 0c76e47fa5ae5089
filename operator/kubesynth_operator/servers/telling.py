"""What people are told about a server, as Kubernetes Events: what changed in its status. Pure.

Every change of Accepted, Ready and Degraded is one, by status or reason, and every change of the
number of pods that are wanted. What a rollout does shows in the Events of the Deployment.
"""

from __future__ import annotations

from datetime import datetime

from kubesynth_api.conditions import ConditionType, Reason
from kubesynth_api.meta import Condition
from kubesynth_api.v1alpha1.model_servers import ModelServerStatus
from kubesynth_operator import wire
from kubesynth_operator.actions import Transition

SCALING = "Scaling"
SCALING_UP, SCALING_DOWN = "ScalingUp", "ScalingDown"
_NOTE_CHARACTERS = 1000
_TOLD = (ConditionType.ACCEPTED, ConditionType.READY, ConditionType.DEGRADED)
# Steps of a start that end well as a rule.
_ON_ITS_WAY = frozenset({Reason.PROVISIONING, Reason.DOWNLOADING, Reason.LOADING, Reason.IDLE})


def transitions(
    before: ModelServerStatus, after: ModelServerStatus, now: datetime
) -> tuple[Transition, ...]:
    """Return what to tell about a new status, in the order in which it came about."""
    at = wire.format_time(now)
    old = {each.type: each for each in before.conditions}
    new = {each.type: each for each in after.conditions}
    told: list[Transition] = []
    for kind in _TOLD:
        if kind is ConditionType.READY:
            told += _scaling(before, after, new.get(ConditionType.ACCEPTED), at)
        told += _change(kind, old.get(kind), new.get(kind), at)
    return tuple(told)


def _change(
    kind: ConditionType, was: Condition | None, is_now: Condition | None, at: str
) -> list[Transition]:
    if is_now is None:
        if was is None or was.status != "True":
            return []
        note = f"No longer {kind.value}: {was.message}"
        return [Transition("Normal", kind.value, was.reason, note[:_NOTE_CHARACTERS], at)]
    if was is not None and (was.status, was.reason) == (is_now.status, is_now.reason):
        return []
    if kind is ConditionType.READY and is_now.reason in _REFUSALS:
        return []  # Accepted says it
    note = is_now.message
    warns = kind is ConditionType.DEGRADED
    if is_now.status == "False":
        was_ready = was is not None and was.status == "True"
        left = was_ready and is_now.reason != Reason.IDLE
        warns = left or is_now.reason not in _ON_ITS_WAY
        note = f"It no longer serves. {note}" if left and kind is ConditionType.READY else note
    return [
        Transition(
            "Warning" if warns else "Normal",
            kind.value,
            is_now.reason,
            note[:_NOTE_CHARACTERS],
            at,
        )
    ]


# Of a server that is not accepted, which Ready repeats.
_REFUSALS = frozenset(
    {
        Reason.INVALID_SPEC,
        Reason.REFERENCE_NOT_FOUND,
        Reason.REFERENCE_DENIED,
        Reason.KIND_NOT_INSTALLED,
    }
)


def _scaling(
    before: ModelServerStatus, after: ModelServerStatus, accepted: Condition | None, at: str
) -> list[Transition]:
    """Tell of more or fewer pods, and why; one that is refused gets no more than it has."""
    up = after.replicas > before.replicas
    refused = accepted is None or accepted.status != "True"
    if before.replicas == after.replicas or (refused and up):
        return []
    why = ""
    if before.replicas == 0 and after.users.count:
        others = after.users.count - 1
        why = f" for {after.users.names[0]}" if after.users.names else ""
        why += f" and {others} more" if others and why else ""
    elif after.replicas == 0 and not refused:
        ready = next((c for c in after.conditions if c.type == ConditionType.READY), None)
        why = f": {ready.message}" if ready is not None else ""
    note = f"From {before.replicas} to {after.replicas} pods{why}".rstrip(".") + "."
    return [Transition("Normal", SCALING, SCALING_UP if up else SCALING_DOWN, note, at)]
