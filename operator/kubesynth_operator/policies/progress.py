"""Counts for people: shards from the Jobs' counters, records and tokens from the runners.

While the job runs the numbers are hints (what each shard last said). When it has ended they are the
totals that finalize summed from the manifests in the output, which is the truth.
"""

from __future__ import annotations

from collections.abc import Sequence

from kubesynth_api.conditions import Reason
from kubesynth_api.runner_contract import Failures, RunnerPhase, Totals
from kubesynth_api.v1alpha1.synthetic_data_job import ProgressStatus, ShardStatus
from kubesynth_operator.observation import ChildJob, LiveProgress, Problem

_INDEXES_CHARACTERS = 256


def shards(generate: ChildJob | None, before: ShardStatus, count: int) -> ShardStatus:
    """Return the shard counters; those of the last look when the Job has been deleted since."""
    if generate is None:
        return before.model_copy(update={"total": count, "active": 0})
    return ShardStatus(
        total=count,
        active=min(generate.active, count),
        succeeded=min(generate.succeeded_count, count),
        failed=min(generate.failed_count, count),
        failed_indexes=_cut(generate.failed_indexes),
    )


def _cut(indexes: str) -> str:
    """Cut ranges at a comma, so that what is left is true."""
    if len(indexes) <= _INDEXES_CHARACTERS:
        return indexes
    return indexes[: indexes.rindex(",", 0, _INDEXES_CHARACTERS)]


def live(
    before: ProgressStatus, progress: LiveProgress | None, input_records: int
) -> ProgressStatus:
    """Return the numbers of a running job.

    Without live numbers (a fresh operator) the last ones stay. Counts never go back: a pod that was
    replaced and has not reported yet must not look like lost work.
    """
    total = max(input_records, before.records.in_)
    if progress is None:
        records = before.records.model_copy(update={"in_": total})
        return before.model_copy(update={"records": records})
    now = progress.totals
    if _has_forgotten(now, before):
        return before.model_copy(update={"records_per_second": progress.records_per_second})
    total = max(total, now.records.in_)
    rate = round(progress.records_per_second, 2)
    left = max(total - now.records.done, 0)
    return ProgressStatus(
        records=now.records.model_copy(update={"in_": total}),
        percent=_percent(now.records.done, total),
        records_per_second=rate,
        eta_seconds=round(left / rate) if rate > 0 and total else None,
        tokens=now.tokens,
        requests=now.requests,
        cost_usd=now.cost_usd if now.cost_usd is not None else before.cost_usd,
    )


def _has_forgotten(now: Totals, before: ProgressStatus) -> bool:
    """Tell whether live numbers are behind what has been seen, as those of a fresh operator are."""
    seen = (before.records.done, before.requests.ok)
    return (now.records.done, now.requests.ok) < seen


def failures(
    before: tuple[Failures, ...] | None, now: tuple[Failures, ...]
) -> tuple[Failures, ...] | None:
    """Return the kinds of failed records of a running job.

    Counts never go back, and the example of a kind stays what it was: the status must not be
    written anew for another example.
    """
    known = {each.kind: each.message for each in before or ()}
    if sum(each.count for each in now) < sum(each.count for each in before or ()):
        return before
    return (
        tuple(
            each.model_copy(update={"message": known.get(each.kind, each.message)}) for each in now
        )
        or None
    )


def final(totals: Totals, before: ProgressStatus) -> ProgressStatus:
    """Return the exact numbers of a job that has ended."""
    return ProgressStatus(
        records=totals.records,
        percent=_percent(totals.records.done, totals.records.in_),
        tokens=totals.tokens,
        requests=totals.requests,
        cost_usd=totals.cost_usd if totals.cost_usd is not None else before.cost_usd,
    )


def failed_records(count: int, kinds: Sequence[Failures] | None) -> str:
    """Return a sentence on the failed records of a job that has ended; "" if there are none."""
    if not count:
        return ""
    told = f"{count:,} records failed" if count > 1 else "1 record failed"
    if kinds:
        most = kinds[0]
        said = f": {most.message.rstrip('.')}" if most.message else ""
        told += f", most often {most.kind} ({most.count:,}){said}"
    return f"{told}; errors/ in the output has all of them."


def stopped(before: ProgressStatus) -> ProgressStatus:
    """Return the numbers of a job at rest: nothing moves, so there is no rate and no ETA."""
    return before.model_copy(update={"records_per_second": 0.0, "eta_seconds": None})


def _percent(done: int, total: int) -> int:
    # Floored, so that 100 means all of them.
    return min(100 * done // total, 100) if total else 0


def degraded(
    progress: LiveProgress | None,
    silent_for_seconds: float,
    unreachable_for_seconds: float,
    *,
    stall_seconds: float,
    unreachable_seconds: float,
) -> Problem | None:
    """Return what is odd about the progress of running pods, or None.

    Pods that cannot be asked are unknown, which is neither a failure nor a stall.
    """
    if progress is None or progress.reachable + progress.unreachable == 0:
        return None
    if progress.reachable == 0:
        if unreachable_for_seconds < unreachable_seconds:
            return None
        return Problem(
            Reason.PROGRESS_UNKNOWN,
            "None of the running pods answers the operator's question for progress; they may well"
            " be at work. Look for a NetworkPolicy between the operator and port 8080 of the pods.",
        )
    if silent_for_seconds >= stall_seconds:
        return Problem(
            Reason.PROGRESS_STALLED,
            f"Pods run, but no counter has moved for over {stall_seconds:.0f} s. "
            + (
                f"They say: {said}"
                if (said := progress.said_by(RunnerPhase.GENERATE))
                else "Look at the model servers and at the pods' logs."
            ),
        )
    return None
