"""`cleanup.ttlSecondsAfterFinished`: delete the job some time after its end.

The dataset stays. Unset means never: with GitOps a deleted job is a job that is applied again.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from kubesynth_api.v1alpha1.synthetic_data_job import Cleanup


def remaining_seconds(cleanup: Cleanup, finished_at: datetime, now: datetime) -> float | None:
    """Return how long the job may stay: 0 when its time is over, None when that never comes.

    A `finished_at` in the future (clock skew between replicas) only makes the wait longer.
    """
    if cleanup.ttl_seconds_after_finished is None:
        return None
    due = finished_at + timedelta(seconds=cleanup.ttl_seconds_after_finished)
    return max((due - now).total_seconds(), 0.0)
