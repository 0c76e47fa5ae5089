"""What this host is: every special case of the harness is decided here, by looking.

A workstation with Docker and cgroup v2 meets none of them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from kubesynth_testing.cluster.progress import step
from kubesynth_testing.cluster.shell import Shell

_CAP_SYS_RESOURCE = 24
_CA_BUNDLE_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")


class MissingProgramError(RuntimeError):
    """A program that the harness needs is not installed, and it may not install it."""


def is_root() -> bool:
    """Tell whether this process may start daemons and install packages."""
    return os.geteuid() == 0


def holds_sys_resource() -> bool:
    """Tell whether CAP_SYS_RESOURCE is in the bounding set of this process.

    Without it no process below may lower its oom_score_adj, and runc may not hand the capability to
    a privileged container: `unable to apply caps: operation not permitted`.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapBnd:"):
            return bool(int(line.split()[1], 16) >> _CAP_SYS_RESOURCE & 1)
    return True


def has_cgroup_v1() -> bool:
    """Tell whether containers get cgroup v1, which the kubelet refuses unless it is told not to."""
    return not Path("/sys/fs/cgroup/cgroup.controllers").exists()


def ca_bundle() -> Path | None:
    """Return the certificate bundle that the environment names, for downloads inside a build.

    A host behind a proxy that terminates TLS sets one of these variables; others set none.
    """
    for variable in _CA_BUNDLE_VARIABLES:
        path = Path(os.environ.get(variable, ""))
        if path.is_file():
            return path
    return None


def require_programs(packages: dict[str, str]) -> None:
    """Install the Debian packages of the programs that are missing.

    Args:
        packages: The Debian package of each program.

    Raises:
        MissingProgramError: A program is missing and this is not root on a host with apt-get.
    """
    missing = {name: package for name, package in packages.items() if shutil.which(name) is None}
    if not missing:
        return
    wanted = sorted(set(missing.values()))
    if not is_root() or shutil.which("apt-get") is None:
        raise MissingProgramError(
            f"missing programs: {', '.join(missing)}. Install them (Debian: {' '.join(wanted)})"
        )
    with step(f"install the packages {' '.join(wanted)}"):
        apt = Shell(env={"DEBIAN_FRONTEND": "noninteractive"})
        install = ("apt-get", "install", "-y", "-qq", "--no-install-recommends")
        if not apt.succeeds(*install, "--download-only", *wanted, timeout_seconds=600):
            apt.run("apt-get", "update", "-qq")
        apt.run(*install, *wanted)
