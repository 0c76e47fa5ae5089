"""What a Docker daemon leaves in the kernel, and how to take it away again.

dockerd deletes neither its iptables chains nor its cgroup when it ends. Both are taken away
afterwards, one item at a time, so that whatever something else added stays; and the chains, which
all daemons of a host share, only when no other daemon runs.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from kubesynth_testing.cluster.shell import CommandError, Shell

_TABLES = ("filter", "nat", "raw", "mangle")
_IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
_CGROUP_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class HostState:
    """What the host looked like.

    Attributes:
        iptables: The lines of `iptables -S` by table: policies, chains, rules.
        ip_forward: Whether the kernel forwarded packets, `0` or `1`.
        links: The names of the network interfaces.
        namespaces: The names that `ip netns` lists.
    """

    iptables: dict[str, list[str]]
    ip_forward: str
    links: list[str]
    namespaces: list[str]

    @classmethod
    def observe(cls) -> HostState:
        """Look at the host. Tables that iptables cannot list count as empty."""
        return cls(
            iptables={table: _iptables_lines(table) for table in _TABLES},
            ip_forward=_IP_FORWARD.read_text().strip(),
            links=sorted(path.name for path in Path("/sys/class/net").iterdir()),
            namespaces=sorted(path.name for path in _named_namespaces()),
        )

    def save(self, path: Path) -> None:
        """Write the state to a file."""
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> HostState:
        """Read a state that `save` wrote."""
        return cls(**json.loads(path.read_text()))


def restore(before: HostState) -> None:
    """Remove what Docker added to the host's network, unless another daemon needs it."""
    if runs_docker():
        return
    for table in _TABLES:
        for command in undo_commands(before.iptables[table], _iptables_lines(table)):
            Shell().run("iptables", "-w", "-t", table, *command)
    if _IP_FORWARD.read_text().strip() != before.ip_forward:
        _IP_FORWARD.write_text(before.ip_forward)


def undo_commands(before: list[str], now: list[str]) -> list[list[str]]:
    """Return the iptables commands that clear a table of Docker, of which no daemon runs.

    Rules go first, then its chains, emptied before any is deleted since they refer to each other,
    then the policy of FORWARD that Docker changes is put back.

    Args:
        before: What `iptables -S` listed before Docker started.
        now: What it lists now.
    """
    rules = [line for line in now if line.startswith("-A ") and is_dockers(line)]
    chains = [line.split()[1] for line in now if line.startswith("-N DOCKER")]
    policies = [line for line in before if line.startswith("-P FORWARD") and line not in now]
    return [
        *(["-D", *shlex.split(rule)[1:]] for rule in rules),
        *(["-F", chain] for chain in chains),
        *(["-X", chain] for chain in chains),
        *(shlex.split(policy) for policy in policies),
    ]


def is_dockers(rule: str) -> bool:
    """Tell whether a rule names one of Docker's chains or one of its bridges."""
    return "DOCKER" in rule or re.search(r"\b(docker0|br-[0-9a-f]{12})\b", rule) is not None


def _iptables_lines(table: str) -> list[str]:
    if shutil.which("iptables") is None:
        return []
    try:
        return Shell().run("iptables", "-w", "-t", table, "-S").splitlines()
    except CommandError:
        return []


def mounts_under(folder: Path) -> list[Path]:
    """Return the mount points at or below a folder, the deepest first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        # Field 5 is the mount point; proc(5) writes a space in it as \040.
        point = Path(line.split()[4].replace("\\040", " "))
        if point == folder or folder in point.parents:
            found.append(point)
    return sorted(found, key=lambda point: len(point.parts), reverse=True)


def unmount_under(folder: Path) -> None:
    """Unmount everything at or below a folder."""
    for point in mounts_under(folder):
        Shell().succeeds("umount", "--lazy", point)


def cgroups(name: str) -> list[Path]:
    """Return the cgroups of a name: one in version 2, one in each hierarchy of version 1."""
    return [*_CGROUP_ROOT.glob(name), *_CGROUP_ROOT.glob(f"*/{name}")]


def remove_cgroups(name: str) -> None:
    """Remove the cgroups of a name and below; one that still holds a process stays."""
    for cgroup in _with_descendants(cgroups(name)):
        try:
            cgroup.rmdir()
        except OSError:
            continue


def _with_descendants(parents: list[Path]) -> list[Path]:
    """Return cgroups and all below them, the deepest first."""
    below = [path for parent in parents for path in parent.rglob("*") if path.is_dir()]
    return sorted((*parents, *below), key=lambda path: len(path.parts), reverse=True)


def _named_namespaces() -> list[Path]:
    folder = Path("/run/netns")
    return list(folder.iterdir()) if folder.is_dir() else []


def processes(folder: Path, cgroup: str) -> dict[int, str]:
    """Return the command lines, by process id, of a daemon's processes and of its containers'.

    Args:
        folder: What dockerd, containerd and the shims of this daemon name in their command lines.
        cgroup: The name of the cgroup of its containers.

    A process that has ended and waits to be reaped has no command line and does not count.
    """
    contained = _contained_process_ids(cgroup)
    found = {}
    for entry in Path("/proc").iterdir():
        command = command_line(int(entry.name)) if entry.name.isdigit() else ""
        program = Path(command.split(" ")[0]).name
        is_daemon = program.startswith(("dockerd", "containerd")) and str(folder) in command
        if command and (is_daemon or int(entry.name) in contained):
            found[int(entry.name)] = command
    return found


def runs_docker() -> bool:
    """Tell whether any Docker daemon runs, whoever started it."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return any(Path(command_line(pid).split(" ")[0]).name == "dockerd" for pid in pids)


def command_line(pid: int) -> str:
    """Return the command line of a process, empty if it does not run."""
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return line.replace(b"\0", b" ").decode(errors="replace").strip()


def _contained_process_ids(cgroup: str) -> set[int]:
    """Return the ids of the processes in the cgroups of a name and below."""
    ids: set[int] = set()
    for path in _with_descendants(cgroups(cgroup)):
        try:
            ids.update(int(line) for line in (path / "cgroup.procs").read_text().split())
        except OSError:  # removed while we looked
            continue
    return ids
