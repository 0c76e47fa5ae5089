"""How many CPUs this process may really use.

`os.cpu_count()` is the machine's; a container is held to less by its affinity mask or by the
CPU quota of its cgroup, and more threads than that only wait for each other.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
# Token generation is bound by memory bandwidth: a small model gains nothing from more.
MAX_THREADS = 8


def model_threads(cpus: int) -> int:
    """Return the threads for the model: one CPU is left to the pipeline."""
    return max(1, min(cpus - 1, MAX_THREADS))


def available_cpus(cgroup_root: Path = CGROUP_ROOT) -> int:
    """Return the CPUs that affinity and cgroup quota leave to this process, at least 1."""
    return max(1, min(_affinity(), _quota(cgroup_root) or _affinity()))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota(root: Path) -> int | None:
    """Return the CPUs of the cgroup's quota, rounded up; None without one.

    Inside a container both cgroup versions show its own group at the root.
    """
    try:
        limit, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            limit = (root / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if not limit.isdecimal():  # "max", or -1
        return None
    return math.ceil(int(limit) / int(period))
