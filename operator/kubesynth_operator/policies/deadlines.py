"""`deadlines.pendingSeconds` and `deadlines.activeSeconds`: when the job's time is up.

Both count from `status.startTime`, which is set on acceptance and again on resume, as Kubernetes
does for its own Jobs: time spent suspended never counts. What is spent in a queue counts for
`pendingSeconds` alone; its clock starts again on admission too. (`modelReadySeconds` is the
runner's.)
"""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta

from kubesynth_api.conditions import Reason
from kubesynth_api.v1alpha1.synthetic_data_job import Deadlines
from kubesynth_operator.observation import Outcome, failure


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """`exceeded` is the failure if a deadline has passed; `next_at` when to look again."""

    exceeded: Outcome | None = None
    next_at: datetime | None = None
    # When the job has been overdue for longer than finalize is granted.
    out_of_patience: bool = False


def check(
    deadlines: Deadlines,
    started_at: datetime | None,
    now: datetime,
    *,
    pods_have_run: bool,
    in_queue: bool,
    grace_seconds: float,
) -> Verdict:
    """Compare the clock with the deadlines that apply."""
    if started_at is None:
        return Verdict()
    active, pending = deadlines.active_seconds, deadlines.pending_seconds
    ahead: list[datetime] = []
    if active is not None and not in_queue:
        due = started_at + timedelta(seconds=active)
        if now >= due:
            last = due + timedelta(seconds=grace_seconds)
            return Verdict(
                exceeded=failure(
                    Reason.DEADLINE_EXCEEDED,
                    f"The job did not end within deadlines.activeSeconds ({active} s).",
                ),
                next_at=last if now < last else None,
                out_of_patience=now >= last,
            )
        ahead.append(due)
    if pending is not None and not pods_have_run:
        due = started_at + timedelta(seconds=pending)
        if now >= due:
            return Verdict(
                exceeded=failure(
                    Reason.DEADLINE_EXCEEDED,
                    f"No pod ran within deadlines.pendingSeconds ({pending} s).",
                )
            )
        ahead.append(due)
    return Verdict(next_at=min(ahead, default=None))
