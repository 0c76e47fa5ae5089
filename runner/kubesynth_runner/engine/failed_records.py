"""Records that fail, as rows of errors/. Pure."""

from __future__ import annotations

import dataclasses

from kubesynth_runner import records
from kubesynth_runner.engine.calls import CallFailed, StagePlace
from kubesynth_runner.pipelines.base import StageFailure


def failed_stage(
    place: StagePlace,
    record: records.Record,
    failure: StageFailure,
    attempts: int = 0,
    made: int = 0,
) -> records.FailedRecord:
    """Return the error of a record that a stage could make nothing, or nothing more, of."""
    return dataclasses.replace(
        _failed(place, record, failure.kind, str(failure)),
        raw=_sayable(failure.raw),
        attempts=attempts,
        made=made,
    )


def failed_call(
    place: StagePlace, record: records.Record, failure: CallFailed, made: int = 0
) -> records.FailedRecord:
    """Return the error of a record whose call failed for good."""
    return dataclasses.replace(
        _failed(place, record, failure.kind, str(failure)),
        raw=_sayable(failure.body),
        status_code=failure.status_code,
        attempts=failure.attempts,
        made=made,
    )


def _failed(
    place: StagePlace, record: records.Record, kind: str, message: str
) -> records.FailedRecord:
    """Return what is the same for every failure: the record, where it failed, and why."""
    return records.FailedRecord(
        record.record_id,
        record.parent_id,
        record.root_id,
        record.source,
        place.stage_id,
        kind,
        _sayable(message),
        columns=record.columns,
        path=record.path,
        provenance=record.provenance,
    )


def _sayable(text: str) -> str:
    """Return a text without what is none, such as a file name that is no UTF-8 in an exception."""
    return text.encode("utf-8", "replace").decode()
