"""The algebra of conditions: merge, derive, compare. Pure.

What a decision says about a condition is a `Verdict`; this module turns verdicts into the stored
form. The transition time moves only when a condition's status does, every condition carries the
generation it was decided for, and a job that has ended stays as it ended.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Literal

from kubesynth_api.conditions import ConditionType, Reason
from kubesynth_api.meta import Condition
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobStatus
from kubesynth_operator import wire
from kubesynth_operator.actions import Transition

_MESSAGE_CHARACTERS = 4096
_EVENT_NOTE_CHARACTERS = 1000
_ORDER = {kind.value: index for index, kind in enumerate(ConditionType)}
# Mirrors of other conditions, for tools: people are not told twice.
_MIRRORS = frozenset({ConditionType.READY, ConditionType.RECONCILING, ConditionType.STALLED})
_RUNNING_PHASES = {
    Reason.PLANNING.value: "Planning",
    Reason.SHARDS_ACTIVE.value: "Running",
    Reason.FINALIZING.value: "Finalizing",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What a condition should say. A condition without a verdict is removed."""

    status: bool
    reason: Reason
    message: str = ""


Verdicts = Mapping[ConditionType, Verdict]


def find(status: SyntheticDataJobStatus, kind: ConditionType) -> Condition | None:
    """Return the stored condition, or None."""
    return next((item for item in status.conditions if item.type == kind), None)


def is_true(status: SyntheticDataJobStatus, kind: ConditionType) -> bool:
    """Tell whether the stored condition is there and True."""
    condition = find(status, kind)
    return condition is not None and condition.status == "True"


def has_ended(status: SyntheticDataJobStatus) -> bool:
    """Tell whether the job is Complete or Failed, which it then stays."""
    return is_true(status, ConditionType.COMPLETE) or is_true(status, ConditionType.FAILED)


def suspended_by_user(status: SyntheticDataJobStatus) -> bool:
    """Tell whether the user had the job suspended when the status was written."""
    return _suspended_by(status, Reason.SUSPENDED_BY_USER)


def suspended_by_queue(status: SyntheticDataJobStatus) -> bool:
    """Tell whether the job waited for its queue when the status was written."""
    return _suspended_by(status, Reason.SUSPENDED_BY_QUEUE)


def _suspended_by(status: SyntheticDataJobStatus, reason: Reason) -> bool:
    condition = find(status, ConditionType.SUSPENDED)
    return condition is not None and condition.status == "True" and condition.reason == reason


def stored(status: SyntheticDataJobStatus, kind: ConditionType) -> dict[ConditionType, Verdict]:
    """Return the stored condition as a verdict, for decisions that leave it as it is."""
    condition = find(status, kind)
    if condition is None or condition.reason not in set(Reason):
        return {}
    return {kind: Verdict(condition.status == "True", Reason(condition.reason), condition.message)}


def with_mirrors(verdicts: Verdicts) -> dict[ConditionType, Verdict]:
    """Add what kstatus reads: Ready, and Reconciling or Stalled while they are true."""
    result = dict(verdicts)
    complete = verdicts.get(ConditionType.COMPLETE)
    failed = verdicts.get(ConditionType.FAILED)
    accepted = verdicts.get(ConditionType.ACCEPTED)
    suspended = verdicts.get(ConditionType.SUSPENDED)
    if complete is not None and complete.status:
        result[ConditionType.READY] = complete
        return result
    stalled = failed if failed is not None and failed.status else None
    if stalled is None and accepted is not None and not accepted.status:
        stalled = accepted
    if stalled is not None:
        result[ConditionType.STALLED] = dataclasses.replace(stalled, status=True)
        result[ConditionType.READY] = dataclasses.replace(stalled, status=False)
    elif suspended is not None and suspended.status:
        result[ConditionType.READY] = dataclasses.replace(suspended, status=False)
    else:
        running = verdicts.get(ConditionType.RUNNING)
        message = running.message if running else ""
        result[ConditionType.RECONCILING] = Verdict(True, Reason.IN_PROGRESS, message)
        result[ConditionType.READY] = Verdict(False, Reason.IN_PROGRESS, message)
    return result


def merge(
    before: tuple[Condition, ...], verdicts: Verdicts, *, generation: int, now: datetime
) -> tuple[Condition, ...]:
    """Return the conditions to store, in the order of the vocabulary."""
    known = {item.type: item for item in before}
    merged = [
        _condition(known.get(kind), kind, verdict, generation, now)
        for kind, verdict in verdicts.items()
    ]
    return tuple(sorted(merged, key=lambda item: _ORDER.get(item.type, len(_ORDER))))


def _condition(
    before: Condition | None,
    kind: ConditionType,
    verdict: Verdict,
    generation: int,
    now: datetime,
) -> Condition:
    value = "True" if verdict.status else "False"
    unchanged = before is not None and before.status == value
    return Condition(
        type=kind.value,
        status="True" if verdict.status else "False",
        observed_generation=generation,
        last_transition_time=(
            before.last_transition_time if before and unchanged else wire.format_time(now)
        ),
        reason=verdict.reason.value,
        message=verdict.message[:_MESSAGE_CHARACTERS],
    )


def with_phase(status: SyntheticDataJobStatus) -> SyntheticDataJobStatus:
    """Put the conditions in one word, with the reason of the one that decided: for people only."""
    phase, reason = _phase_of(status)
    return status.model_copy(update={"phase": phase, "reason": reason})


def _phase_of(status: SyntheticDataJobStatus) -> tuple[str, str]:
    for kind, wanted, word in (
        (ConditionType.FAILED, "True", "Failed"),
        (ConditionType.COMPLETE, "True", "Complete"),
        (ConditionType.ACCEPTED, "False", "Rejected"),
    ):
        condition = find(status, kind)
        if condition is not None and condition.status == wanted:
            external = condition.reason == Reason.MANAGED_EXTERNALLY
            return ("External" if external else word), condition.reason
    suspended = find(status, ConditionType.SUSPENDED)
    if suspended is not None and suspended.status == "True":
        queued = suspended.reason == Reason.SUSPENDED_BY_QUEUE
        return ("Queued" if queued else "Suspended"), suspended.reason
    running = find(status, ConditionType.RUNNING)
    if running is not None and running.status == "True":
        return _RUNNING_PHASES.get(running.reason, "Running"), running.reason
    return "Pending", running.reason if running is not None else ""


def transitions(
    before: SyntheticDataJobStatus, after: SyntheticDataJobStatus, now: datetime
) -> tuple[Transition, ...]:
    """Return what people should be told: every condition that changed its status or reason."""
    told: list[Transition] = []
    at = wire.format_time(now)
    old = {item.type: item for item in before.conditions}
    new = {item.type: item for item in after.conditions}
    for kind in ConditionType:
        if kind in _MIRRORS:
            continue
        was, is_now = old.get(kind.value), new.get(kind.value)
        if is_now is None:
            if was is not None and was.status == "True":
                note = f"No longer {kind.value}: {was.message}"[:_EVENT_NOTE_CHARACTERS]
                told.append(Transition("Normal", kind.value, was.reason, note, at))
        elif _is_news(was, is_now):
            note = is_now.message[:_EVENT_NOTE_CHARACTERS]
            told.append(Transition(_severity(is_now), kind.value, is_now.reason, note, at))
    return (*told, *_remarks(before, after, at))


def _remarks(
    before: SyntheticDataJobStatus, after: SyntheticDataJobStatus, at: str
) -> Iterator[Transition]:
    """Return what no condition says, each once in a job's life: the status has it all along."""
    running = ConditionType.RUNNING.value
    if after.files_left_out and not before.files_left_out:
        note = f"Left out of the input: {after.files_left_out}"
        yield Transition("Normal", running, Reason.FILES_LEFT_OUT.value, note, at)
    if after.failures and not before.failures:
        first = after.failures[0]
        note = f"Records failed: {first.kind}: {first.message}; errors/ in the output has them."
        yield Transition("Warning", running, Reason.RECORDS_FAILED.value, note, at)


def _is_news(was: Condition | None, is_now: Condition) -> bool:
    if was is not None:
        return (was.status, was.reason) != (is_now.status, is_now.reason)
    # That a new job has not run and is not complete goes without saying.
    return is_now.reason not in (Reason.NOT_STARTED.value, Reason.NOT_COMPLETE.value)


def _severity(condition: Condition) -> Literal["Normal", "Warning"]:
    bad_when_true = condition.type in (ConditionType.FAILED, ConditionType.DEGRADED)
    bad_when_false = condition.type == ConditionType.ACCEPTED
    if (bad_when_true and condition.status == "True") or (
        bad_when_false and condition.status == "False"
    ):
        return "Warning"
    return "Warning" if condition.reason == Reason.PREEMPTED else "Normal"
