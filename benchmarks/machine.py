"""What the benchmarks need of the machine: pinned processes, and what the neighbours do."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass(frozen=True, slots=True)
class Cores:
    """The core of the endpoint and this process, and the core of the client under test."""

    server: int
    client: int

    @property
    def apart(self) -> bool:
        """Whether they are two."""
        return self.server != self.client


def choose_cores() -> Cores:
    """Return the last two cores that this process may use; the first is the busiest as a rule."""
    available = sorted(os.sched_getaffinity(0))
    return Cores(available[-2] if len(available) > 1 else available[-1], available[-1])


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """Pin this process, and those started meanwhile, to one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def busy_seconds(core: int) -> float:
    """Return the time that a core has not been idle since the machine started, in seconds."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            ticks = [int(field) for field in fields]
            # user nice system idle iowait irq softirq steal; guests are part of user and nice.
            return (sum(ticks[:8]) - ticks[3] - ticks[4]) / _TICKS_PER_SECOND
    raise LookupError(f"/proc/stat knows no core {core}")


class NeighbourLoad:
    """How busy others kept a core while a process of ours ran on it."""

    def __init__(self, core: int) -> None:
        self._core = core
        self._busy = busy_seconds(core)
        self._began = time.monotonic()

    def share(self, own_seconds: float) -> float:
        """Return the share of the time since the start that went to processes other than ours."""
        wall = time.monotonic() - self._began
        others = busy_seconds(self._core) - self._busy - own_seconds
        return max(0.0, others / wall)


def proportional_set_bytes(pid: int) -> int:
    """Return a process's PSS; 0 when it is gone."""
    return _field(Path(f"/proc/{pid}/smaps_rollup"), "Pss:")


def peak_resident_bytes(pid: int | str = "self") -> int:
    """Return the largest resident set of a process so far; 0 when it is gone."""
    return _field(Path(f"/proc/{pid}/status"), "VmHWM:")


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a running process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    # utime and stime are the 14th and 15th field of the line, of which two are cut off here.
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def _field(path: Path, name: str) -> int:
    try:
        for line in path.read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    return 0


def describe() -> str:
    """Return one line about this machine and its load."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, Python {platform.python_version()}, load average {load}"
