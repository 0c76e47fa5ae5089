"""Jobs whose pods cannot be made: Kubernetes says so in Events on the Job, and in no status.

A quota, an admission policy, or a service account, priority class or runtime class that is not
there refuses pods, and the Job controller goes on trying without a word in the Job itself. So a Job
that should have pods and has none for a while is taken for one whose pods are refused.
"""

from __future__ import annotations

from collections.abc import Sequence

from kubesynth_api.conditions import Reason
from kubesynth_operator.observation import ChildJob, Pod, Problem

# The Job controller waits up to so long with the next pod of an index that has failed.
_LONGEST_BACKOFF_SECONDS = 600.0


def lacks_pods(child: ChildJob, pods: Sequence[Pod]) -> bool:
    """Tell whether a Job has no pod at this moment although it may have some."""
    if child.finished or child.deleting or child.suspended:
        return False
    return not child.active and not child.terminating and all(pod.ended for pod in pods)


def due_in_seconds(
    child: ChildJob, pods: Sequence[Pod], lacking_seconds: float, *, patience_seconds: float
) -> float:
    """Return in how many seconds that is no longer normal; not positive if it is so now.

    Args:
        child: A Job that lacks pods.
        pods: Its pods, which have all ended.
        lacking_seconds: For how long it was seen without any.
        patience_seconds: How long pods may take to be made.
    """
    has_failed = child.failed_pods > 0 or any(pod.status == "Failed" for pod in pods)
    patience = patience_seconds + (_LONGEST_BACKOFF_SECONDS if has_failed else 0.0)
    return patience - lacking_seconds


def problem_of(child: ChildJob) -> Problem:
    """Return what to say about a Job that lacks pods for too long."""
    return Problem(
        Reason.PODS_NOT_CREATED,
        f"No pod of Job {child.name!r} can be made: `kubectl describe job {child.name}` says why"
        " (a quota, an admission policy, or a service account, priority class or runtime class"
        " that does not exist). It goes on by itself once that is mended.",
    )
