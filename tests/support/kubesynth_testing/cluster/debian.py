"""Makes small Debian root file systems from packages, where no base image can be pulled."""

from __future__ import annotations

from pathlib import Path

from kubesynth_testing.cluster import host
from kubesynth_testing.cluster.progress import step
from kubesynth_testing.cluster.shell import CommandError, Shell

SUITE = "bookworm"
"""The Debian release. Its systemd, 252, still runs on hosts that have only cgroup v1."""

_UNREAD = ("/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*")


def root_file_system(target: Path, packages: list[str], *, extract_only: bool = False) -> None:
    """Write a root file system as a tar file.

    Args:
        target: The tar file to write.
        packages: What it holds beyond a minimal system.
        extract_only: Unpack these packages and what they depend on and nothing else: no
            minimal system, no maintainer script run.

    Raises:
        MissingProgramError: mmdebstrap is missing and cannot be installed.
        CommandError: mmdebstrap failed.
    """
    host.require_programs({"mmdebstrap": "mmdebstrap"})
    with step(f"make a Debian root file system for {target.stem}"):
        variant = "extract" if extract_only else "minbase"
        command = ["mmdebstrap", "--quiet", f"--variant={variant}", "--format=tar"]
        command += [f"--dpkgopt=path-exclude={pattern}" for pattern in _UNREAD]
        command += [f"--include={','.join(packages)}", SUITE, str(target)]
        Shell().run(*command, *_mirror())


def _mirror() -> list[str]:
    """Return the mirror that this host's apt takes the suite from; none leaves mmdebstrap's own."""
    fields = "$(CODENAME) $(ORIGIN) $(SITE)"
    try:
        targets = Shell().run("apt-get", "indextargets", "--format", fields, "Created-By: Packages")
    except CommandError:
        return []
    for line in targets.splitlines():
        codename, origin, *site = line.split(" ")
        if (codename, origin) == (SUITE, "Debian") and site:
            return site[:1]
    return []
