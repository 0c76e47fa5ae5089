"""How a finished Job ended, in the job's own words.

Kubernetes says which rule ended a Job; the runner says why, in a termination message. The message
wins where it speaks for the whole Job; for a failed shard it becomes part of the sentence.
"""

from __future__ import annotations

from collections.abc import Sequence

from kubesynth_api.conditions import ConditionType, Reason
from kubesynth_api.runner_contract import ExitCode, RunnerError, RunnerPhase
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_operator.observation import ChildJob, Outcome, Pod, Progress, count_indexes, failure

_MESSAGE_CHARACTERS = 1500
_INDEXES_CHARACTERS = 100


def of_job(
    child: ChildJob, pods: Sequence[Pod], *, max_failed_shards: int, shard_count: int
) -> Outcome | None:
    """Return how `child` ended, or None while it goes on.

    Args:
        child: The Job.
        pods: Its pods, as far as they still exist.
        max_failed_shards: How many shards may fail before the job does.
        shard_count: All shards of the job.
    """
    match child.progress:
        case Progress.ACTIVE:
            return None
        case Progress.COMPLETE:
            return all_succeeded(shard_count)
        case Progress.FAILED:
            pass
    if child.reason == "PodFailurePolicy":
        return _configuration(child, pods)
    if child.phase is RunnerPhase.GENERATE and shard_count > 1:
        return _of_shards(child.failed_indexes, _last_error(pods), max_failed_shards, shard_count)
    return _single_pod(child, pods)


def of_shards_seen(failed_indexes: str, max_failed_shards: int, shard_count: int) -> Outcome:
    """Return how generate ended by what the status recorded: for a Job that has been deleted."""
    if not failed_indexes:
        return all_succeeded(shard_count)
    return _of_shards(failed_indexes, None, max_failed_shards, shard_count)


def all_succeeded(shard_count: int) -> Outcome:
    """Return the outcome that everybody hopes for."""
    what = "The one shard" if shard_count == 1 else f"All {shard_count} shards"
    return Outcome(ConditionType.COMPLETE, Reason.ALL_SHARDS_SUCCEEDED, f"{what} succeeded.")


def early(reason: Reason, spec: SyntheticDataJobSpec) -> Outcome:
    """Return the outcome of a job that was stopped by its budget or its target, or missed it."""
    budget, target = spec.budget, spec.target
    records = f"target.acceptedRecords ({target.accepted_records:,})" if target else "the target"
    if reason is Reason.TARGET_REACHED:
        text = f"{records} is reached."
    elif reason is Reason.TARGET_MISSED:
        text = f"The input was used up before {records} was reached."
    else:
        limits = [f"tokens ({budget.tokens:,})"] if budget and budget.tokens else []
        limits += [f"usd ({budget.usd:,g})"] if budget and budget.usd else []
        text = f"The budget is spent: {' or '.join(limits)}. What is done is kept."
    return Outcome(ConditionType.COMPLETE, reason, text)


def _configuration(child: ChildJob, pods: Sequence[Pod]) -> Outcome:
    guilty = [pod for pod in pods if pod.exit_code == ExitCode.CONFIGURATION]
    error = _last_error(guilty)
    if error is None:
        return failure(
            Reason.RUNNER_FAILED,
            f"{child.name} failed with exit code {int(ExitCode.CONFIGURATION)}: the job cannot"
            f" succeed as it is. {child.message}{_tail(guilty)}",
        )
    return failure(known_reason(error.reason), _shorten(error.message))


def _single_pod(child: ChildJob, pods: Sequence[Pod]) -> Outcome:
    error = _last_error(pods)
    if error is not None:
        return failure(known_reason(error.reason), _shorten(error.message))
    reason = (
        Reason.SHARD_BACKOFF_EXCEEDED
        if child.phase is RunnerPhase.GENERATE
        else Reason.RUNNER_FAILED
    )
    tries = f" after {child.failed_pods} failed pods" if child.failed_pods else ""
    return failure(reason, f"{child.name} gave up{tries}. {child.message}{_tail(pods)}")


def _of_shards(
    failed_indexes: str, error: RunnerError | None, max_failed_shards: int, shard_count: int
) -> Outcome:
    count = count_indexes(failed_indexes)
    listed = failed_indexes[:_INDEXES_CHARACTERS]
    why = f" Last error: {error.reason}: {error.message}" if error else ""
    some = f"{count} of {shard_count} shards failed ({listed})"
    if count <= max_failed_shards:
        return Outcome(
            ConditionType.COMPLETE,
            Reason.SOME_SHARDS_FAILED,
            _shorten(f"{some}; maxFailedShards allows {max_failed_shards}.{why}"),
        )
    if max_failed_shards == 0:
        return failure(Reason.SHARD_BACKOFF_EXCEEDED, _shorten(f"{some}, after all retries.{why}"))
    return failure(
        Reason.TOO_MANY_FAILED_SHARDS,
        _shorten(f"{some}; maxFailedShards allows {max_failed_shards}.{why}"),
    )


def known_reason(text: str) -> Reason:
    """Return a runner's reason if it is one of the vocabulary, else RunnerFailed."""
    return Reason(text) if text in set(Reason) else Reason.RUNNER_FAILED


def _last_error(pods: Sequence[Pod]) -> RunnerError | None:
    with_error = [pod for pod in pods if pod.message is not None and pod.message.error is not None]
    if not with_error:
        return None
    last = max(with_error, key=lambda pod: (pod.finished_at, pod.name))
    return last.message.error if last.message else None


def _tail(pods: Sequence[Pod]) -> str:
    tails = [(pod.finished_at, pod.log_tail) for pod in pods if pod.log_tail]
    return f" Last words of the pod: {max(tails)[1]}" if tails else ""


def _shorten(message: str) -> str:
    return message if len(message) <= _MESSAGE_CHARACTERS else message[:_MESSAGE_CHARACTERS] + "…"
