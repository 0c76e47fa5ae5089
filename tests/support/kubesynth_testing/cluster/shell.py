"""Runs other programs and turns their failure into an error that carries what they printed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_TAIL_CHARACTERS = 4000


class CommandError(RuntimeError):
    """A program ended with an exit status other than zero, or ran past its time.

    Attributes:
        command: The program and its arguments.
        returncode: Its exit status; None when it was ended for running too long.
        output: What it wrote to stdout and stderr, one after the other.
    """

    def __init__(self, command: Sequence[str], returncode: int | None, output: str) -> None:
        self.command = tuple(command)
        self.returncode = returncode
        self.output = output
        ended = "ran too long" if returncode is None else f"exited with {returncode}"
        super().__init__(f"`{' '.join(self.command)}` {ended}:\n{output[-_TAIL_CHARACTERS:]}")


@dataclass(frozen=True, slots=True)
class Shell:
    """How programs are run: what is added to the environment, and in which folder."""

    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None

    def run(
        self, *command: str | Path, stdin: str | None = None, timeout_seconds: float = 1800
    ) -> str:
        """Run a program to its end and return its stdout.

        Raises:
            CommandError: The program failed, or did not end in time.
        """
        argv = [str(part) for part in command]
        try:
            done = subprocess.run(
                argv,
                env={**os.environ, **self.env},
                cwd=self.cwd,
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True,
                text=True,
                timeout=timeout_seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as exc:
            output = (exc.stdout or b"") + (exc.stderr or b"")
            raise CommandError(argv, None, output.decode(errors="replace")) from exc
        except FileNotFoundError as exc:
            raise CommandError(argv, 127, f"{argv[0]}: no such program") from exc
        if done.returncode != 0:
            raise CommandError(argv, done.returncode, done.stdout + done.stderr)
        return done.stdout

    def succeeds(self, *command: str | Path, timeout_seconds: float = 60) -> bool:
        """Tell whether a program exits with zero in time; what it prints is dropped."""
        try:
            self.run(*command, timeout_seconds=timeout_seconds)
        except CommandError:
            return False
        return True


SHORT_LIVED = Shell(env={"GOGC": "off"})
"""For Go's programs that soon end, such as kubectl: no garbage collections, a tenth less CPU."""
