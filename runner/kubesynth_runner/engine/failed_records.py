"""Records that fail, as rows of errors/. Pure."""

from __future__ import annotations

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
    return records.FailedRecord(
        record.record_id,
        record.parent_id,
        record.root_id,
        record.source,
        place.stage_id,
        failure.kind,
        str(failure),
        failure.raw,
        attempts=attempts,
        columns=record.columns,
        path=record.path,
        made=made,
        provenance=record.provenance,
    )


def failed_call(
    place: StagePlace, record: records.Record, failure: CallFailed, made: int = 0
) -> records.FailedRecord:
    """Return the error of a record whose call failed for good."""
    return records.FailedRecord(
        record.record_id,
        record.parent_id,
        record.root_id,
        record.source,
        place.stage_id,
        failure.kind,
        str(failure),
        failure.body,
        failure.status_code,
        failure.attempts,
        record.columns,
        record.path,
        made,
        record.provenance,
    )
