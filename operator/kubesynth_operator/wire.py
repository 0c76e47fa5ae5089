"""From objects as the API server sends them to the values of `observation`. Pure.

Reads defensively what others write (a status of another version, a termination message that is a
log's tail) and never fails on it: what is not understood is left out.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from kubesynth_api import labels
from kubesynth_api.conditions import ConditionType, Reason
from kubesynth_api.runner_contract import (
    ENV_SHARE,
    InitialShare,
    RunnerPhase,
    TerminationMessage,
)
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec, SyntheticDataJobStatus
from kubesynth_operator import specs
from kubesynth_operator.observation import ChildJob, Job, JobKey, Outcome, Pod, Problem, Progress

Object = Mapping[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LOG_TAIL_CHARACTERS = 500
_INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
RUN_VOLUME = "run"


def parse_job(raw: Object) -> Job:
    """Read a SyntheticDataJob."""
    metadata = raw["metadata"]
    raw_spec = raw.get("spec") or {}
    spec, complaint = specs.parse(SyntheticDataJobSpec, raw)
    return Job(
        key=JobKey(metadata["namespace"], metadata["name"]),
        uid=metadata["uid"],
        generation=int(metadata.get("generation", 1)),
        resource_version=str(metadata.get("resourceVersion", "")),
        deleting="deletionTimestamp" in metadata,
        managed_by=str(raw_spec.get("managedBy", labels.MANAGED_BY)),
        queue_name=(metadata.get("labels") or {}).get(labels.QUEUE_NAME_LABEL) or None,
        spec=spec,
        spec_problem=Problem(Reason.INVALID_SPEC, complaint) if complaint else None,
        status=_parse_status(raw.get("status") or {}),
    )


def _parse_status(raw: Object) -> SyntheticDataJobStatus:
    """Read a status field by field, so that one that is not understood takes no other with it."""
    try:
        return SyntheticDataJobStatus.model_validate(raw)
    except ValidationError:
        pass
    understood: dict[str, Any] = {}
    for name, value in raw.items():
        try:
            SyntheticDataJobStatus.model_validate({name: value})
        except ValidationError:
            continue
        understood[name] = value
    return SyntheticDataJobStatus.model_validate(understood)


def parse_child_job(raw: Object) -> ChildJob | None:
    """Read a Job of ours; None for one whose labels are not ours."""
    metadata, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    phase = _phase(metadata)
    if phase is None:
        return None
    progress, reason, message = _verdict(status.get("conditions") or ())
    return ChildJob(
        phase=phase,
        name=metadata["name"],
        uid=metadata["uid"],
        owner_uid=controller_uid(raw) or "",
        deleting="deletionTimestamp" in metadata,
        suspended=bool(spec.get("suspend", False)),
        suspension_seen=_condition(status, "Suspended", "True") is not None,
        untouched=metadata.get("generation", 1) == 1,
        queued=labels.QUEUE_NAME_LABEL in (metadata.get("labels") or {}),
        parallelism=int(spec.get("parallelism", 1)),
        completions=int(spec.get("completions") or 1),
        active=int(status.get("active") or 0),
        ready=int(status.get("ready") or 0),
        terminating=int(status.get("terminating") or 0),
        failed_pods=int(status.get("failed") or 0),
        completed_indexes=str(status.get("completedIndexes") or ""),
        failed_indexes=str(status.get("failedIndexes") or ""),
        progress=progress,
        reason=reason,
        message=message,
        created_at=parse_time(metadata.get("creationTimestamp")) or _EPOCH,
        run_config_name=_run_config_name(spec),
        outcome=_parse_outcome(metadata.get("annotations") or {}),
        first_share=_parse_share(spec),
    )


def _verdict(conditions: list[Object] | tuple[()]) -> tuple[Progress, str, str]:
    for condition in conditions:
        if condition.get("status") == "True" and condition.get("type") in ("Complete", "Failed"):
            return (
                Progress(condition["type"]),
                str(condition.get("reason", "")),
                str(condition.get("message", "")),
            )
    return Progress.ACTIVE, "", ""


def _parse_share(spec: Object) -> InitialShare | None:
    containers = ((spec.get("template") or {}).get("spec") or {}).get("containers") or ()
    for variable in (each for item in containers for each in item.get("env") or ()):
        if variable.get("name") == ENV_SHARE:
            return _share_of(variable.get("value"))
    return None


def parse_first_share(secret: Object) -> InitialShare | None:
    """Read off the Secret to lease with what a job's shards began with; None if it does not say."""
    annotations = secret["metadata"].get("annotations") or {}
    return _share_of(annotations.get(labels.FIRST_SHARE_ANNOTATION))


def share_text(share: InitialShare) -> str:
    """Return a share as pods and the Secret carry it: always the same text for the same share."""
    return json.dumps(share.to_wire(), sort_keys=True)


def _share_of(text: object) -> InitialShare | None:
    try:
        return InitialShare.model_validate_json(str(text or ""))
    except ValidationError:
        return None


def _run_config_name(spec: Object) -> str:
    volumes = ((spec.get("template") or {}).get("spec") or {}).get("volumes") or ()
    for volume in volumes:
        if volume.get("name") == RUN_VOLUME:
            return str((volume.get("configMap") or {}).get("name", ""))
    return ""


def _parse_outcome(annotations: Object) -> Outcome | None:
    text = annotations.get(labels.OUTCOME_ANNOTATION)
    if not text:
        return None
    try:
        raw = json.loads(text)
        condition = ConditionType(raw["condition"])
        if condition not in (ConditionType.COMPLETE, ConditionType.FAILED):
            return None
        return Outcome(condition, Reason(raw["reason"]), str(raw["message"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def format_outcome(outcome: Outcome) -> str:
    """Write an outcome as the value of its annotation; `parse_child_job` reads it back."""
    return json.dumps(
        {
            "condition": outcome.condition.value,
            "reason": outcome.reason.value,
            "message": outcome.message,
        },
        sort_keys=True,
    )


def parse_pod(raw: Object) -> Pod | None:
    """Read a runner pod; None for one whose labels are not ours."""
    metadata, status = raw["metadata"], raw.get("status") or {}
    pod_labels = metadata.get("labels") or {}
    phase, index = _phase(metadata), str(pod_labels.get(_INDEX_LABEL) or 0)
    if phase is None or not index.isdecimal():
        return None
    state = _container_state(status)
    terminated, waiting = state.get("terminated") or {}, state.get("waiting") or {}
    text = str(terminated.get("message") or "")
    message = parse_termination_message(text)
    pod_phase = str(status.get("phase") or "Pending")
    # One that runs has a node, whatever the scheduler wrote last.
    pending = _condition(status, "PodScheduled", "False") if pod_phase == "Pending" else None
    unschedulable = pending or {}
    return Pod(
        name=metadata["name"],
        uid=metadata["uid"],
        job_uid=str(pod_labels.get(labels.JOB_UID_LABEL, "")),
        phase=phase,
        index=int(index),
        status=pod_phase,
        ip=str(status.get("podIP") or ""),
        deleting="deletionTimestamp" in metadata,
        disrupted=_condition(status, "DisruptionTarget", "True") is not None,
        exit_code=terminated.get("exitCode"),
        finished_at=str(terminated.get("finishedAt") or ""),
        message=message,
        log_tail="" if message else text[-_LOG_TAIL_CHARACTERS:],
        waiting_reason=str(waiting.get("reason") or unschedulable.get("reason") or ""),
        waiting_message=str(waiting.get("message") or unschedulable.get("message") or ""),
    )


def parse_termination_message(text: str) -> TerminationMessage | None:
    """Read a runner's termination message; None if there is none in `text`.

    With FallbackToLogsOnError the text of a crashed pod is the end of its log, so the last line
    that is a message wins. Fields of a newer runner are ignored.
    """
    for line in reversed(text.strip().splitlines()):
        if not line.startswith("{"):
            continue
        try:
            raw = json.loads(line)
            known = {
                name: value
                for name, value in raw.items()
                if name in _MESSAGE_FIELDS and value is not None
            }
        except (ValueError, RecursionError):
            continue
        # Remarks that are not understood must not take the totals with them.
        for fields in (known, {name: known[name] for name in known.keys() - _REMARKS}):
            with contextlib.suppress(ValidationError):
                return TerminationMessage.model_validate(fields, extra="ignore")
    return None


_REMARKS = frozenset({"failures", "leftOut"})
_MESSAGE_FIELDS = frozenset(
    field.alias or name for name, field in TerminationMessage.model_fields.items()
)


def controller_uid(raw: Object) -> str | None:
    """Return the uid of the object's controller, or None if it has none."""
    owner = controller(raw)
    return str(owner["uid"]) if owner else None


def controller(raw: Object) -> Object | None:
    """Return the ownerReference of the object's controller, or None if it has none."""
    for owner in raw["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            return dict(owner)
    return None


def parse_time(text: object) -> datetime | None:
    """Read an RFC 3339 time of the API server; None for None or something else."""
    if not isinstance(text, str):
        return None
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None


def format_time(moment: datetime) -> str:
    """Write a time as metav1.Time does: UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _phase(metadata: Object) -> RunnerPhase | None:
    value = (metadata.get("labels") or {}).get(labels.PHASE_LABEL)
    return RunnerPhase(value) if value in set(RunnerPhase) else None


def _container_state(status: Object) -> Object:
    for container in status.get("containerStatuses") or ():
        if container.get("name") == labels.RUNNER_CONTAINER:
            state: Object = container.get("state") or {}
            return state
    return {}


def _condition(status: Object, kind: str, wanted: str) -> Object | None:
    for condition in status.get("conditions") or ():
        if condition.get("type") == kind and condition.get("status") == wanted:
            return dict(condition)
    return None
