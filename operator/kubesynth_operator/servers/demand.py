"""How many pods a server should have now: from its users, and how long it has had none.

Users are found out anew each time from the jobs that there are, so that nothing can leak. What is
decided lives in the Deployment; the user's `spec.replicas` is never written.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta

from kubesynth_api.v1alpha1.model_servers import ModelServerSpec, ModelServerStatus
from kubesynth_operator import wire


@dataclasses.dataclass(frozen=True, slots=True)
class Demand:
    """`replicas` wanted now, and after how many seconds of quiet that changes."""

    replicas: int
    idle_in_seconds: float | None = None


def wanted(
    spec: ModelServerSpec, *, users: int, running: int, last_used: datetime | None, now: datetime
) -> Demand:
    """Return how many pods there should be.

    Args:
        spec: The server.
        users: Jobs that need it now.
        running: Pods that are wanted up to now.
        last_used: When the last job let go of it; None if it was never used.
        now: The time.
    """
    if users or spec.idle is None:
        return Demand(spec.replicas)
    if running == 0:
        return Demand(0)
    ttl = timedelta(seconds=spec.idle.ttl_seconds)
    remaining = (ttl - (now - (last_used or now))).total_seconds()
    return Demand(0) if remaining <= 0 else Demand(spec.replicas, max(remaining, 1.0))


def last_used_time(
    before: ModelServerStatus, *, users: int, idles: bool, now: datetime
) -> str | None:
    """Return when the last job let go, as it has to be stored.

    Args:
        before: What is stored.
        users: Jobs that need the server now.
        idles: Whether it runs and is to sleep when nobody needs it. One that was never used is
            then taken for used now, or its time would never be up.
        now: The time.
    """
    if users:
        return before.last_used_time
    if before.users.count > 0 or (idles and before.last_used_time is None):
        return wire.format_time(now)
    return before.last_used_time
