"""The docker command line: which of the installed ones, and which daemon it speaks to."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kubesynth_testing.cluster import paths
from kubesynth_testing.cluster.shell import CommandError, Shell

_QUICK_SECONDS = 20.0


class NoBuildKitError(RuntimeError):
    """No installed docker client can run a build that needs BuildKit."""


@dataclass(frozen=True, slots=True)
class Docker:
    """A docker client bound to one daemon.

    Attributes:
        program: The client.
        host: The daemon's address, or None for the one that the environment selects.
        owned: The harness started the daemon, and stops it with the cluster.
    """

    program: Path
    host: str | None
    owned: bool

    @property
    def env(self) -> dict[str, str]:
        """The variables under which docker, and kind, which calls `docker`, find this daemon."""
        variables = {"DOCKER_BUILDKIT": "1", "DOCKER_CLI_EXPERIMENTAL": "enabled"}
        if self.host is not None:
            variables |= {"DOCKER_HOST": self.host, "DOCKER_CONTEXT": ""}
        if Path(shutil.which("docker") or "") != self.program:
            variables["PATH"] = f"{_only(self.program)}{os.pathsep}{os.environ['PATH']}"
        return variables

    def run(
        self, *arguments: str | Path, stdin: str | None = None, timeout_seconds: float = 1800
    ) -> str:
        """Run a docker command and return its stdout.

        Raises:
            CommandError: It failed.
        """
        shell = Shell(env=self.env)
        return shell.run(self.program, *arguments, stdin=stdin, timeout_seconds=timeout_seconds)

    def answers(self) -> bool:
        """Tell whether the daemon can be reached."""
        shell = Shell(env=self.env)
        return shell.succeeds(
            self.program, "version", "--format", "{{.Server.Version}}", timeout_seconds=10
        )

    def has_image(self, tag: str) -> bool:
        """Tell whether the daemon holds an image."""
        return bool(self.run("image", "ls", "-q", tag).strip())

    def image_label(self, tag: str, label: str) -> str | None:
        """Return a label of an image, None if there is no such image or label."""
        template = '{{index .Config.Labels "' + label + '"}}'
        try:
            return self.run("image", "inspect", "--format", template, tag).strip() or None
        except CommandError:
            return None

    def keep_newest(self, repository: str, count: int) -> None:
        """Delete all but the newest images of a repository that no container uses."""
        template = "{{.Repository}}:{{.Tag}}"
        newest_first = self.run("image", "ls", repository, "--format", template).split()
        for name in newest_first[count:]:
            Shell(env=self.env).succeeds(self.program, "image", "rm", name)

    def can_pull(self, image: str) -> bool:
        """Tell whether the image's registry can be reached and has the image; pulls nothing."""
        shell = Shell(env=self.env)
        return shell.succeeds(
            self.program, "manifest", "inspect", image, timeout_seconds=_QUICK_SECONDS
        )


@cache
def find_program() -> Path | None:
    """Return the first docker client in PATH that can build with BuildKit, or None.

    Clients before 23 have BuildKit inside; later ones need the buildx plugin.
    """
    return next((program for program in _installed() if _builds_with_buildkit(program)), None)


def require_program() -> Path:
    """Return the first docker client in PATH that can build with BuildKit.

    Raises:
        NoBuildKitError: There is none.
    """
    program = find_program()
    if program is None:
        clients = ", ".join(map(str, _installed())) or "no docker client"
        raise NoBuildKitError(f"{clients}: cannot build with BuildKit; install the buildx plugin")
    return program


def _installed() -> list[Path]:
    return [
        Path(folder) / "docker"
        for folder in os.environ.get("PATH", os.defpath).split(os.pathsep)
        if shutil.which("docker", path=folder) is not None
    ]


def _builds_with_buildkit(program: Path) -> bool:
    try:
        version = re.search(r"version (\d+)\.", Shell().run(program, "--version"))
    except CommandError:
        return False
    if version is not None and int(version[1]) < 23:
        return True
    return Shell().succeeds(program, "buildx", "version")


def _only(program: Path) -> Path:
    """Return a folder for PATH in which `docker` is the given client, and that holds no other."""
    folder = paths.cache_folder("docker-client", str(program.parent).strip("/").replace("/", "-"))
    link = folder / "docker"
    if not link.is_symlink():
        link.symlink_to(program)
    return folder
