"""A queue (Kueue) between the job and its pods.

A job with the queue label has it copied to its generate Job (to all of them, where the installation
says so), which is created suspended. From then on the queue alone decides when the Job runs, and
what it decided is read off `suspend`.
"""

from __future__ import annotations

from kubesynth_api.conditions import Reason
from kubesynth_operator.observation import ChildJob, Problem


def verdict(
    generate: ChildJob | None, queue_name: str | None, *, was_admitted: bool
) -> tuple[bool, Problem] | None:
    """Return whether quota is reserved, with reason and message; None without a queue."""
    if generate is None:
        if queue_name is None:
            return None
        return False, Problem(Reason.QUEUED, f"Shards will wait in queue {queue_name!r}.")
    if not generate.queued:
        return None
    if not generate.suspended:
        return True, Problem(Reason.ADMITTED, "The queue has admitted the shards.")
    if was_admitted:
        return False, Problem(
            Reason.PREEMPTED, "The queue took the quota back; the shards go on when it returns."
        )
    return False, Problem(Reason.QUEUED, f"The shards wait in queue {queue_name or 'default'!r}.")
