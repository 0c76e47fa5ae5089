"""kubectl and helm, bound to a cluster and a namespace."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubesynth_testing.cluster.shell import SHORT_LIVED, CommandError

_LOG_LINES = 60


@dataclass(frozen=True, slots=True)
class Runner:
    """A command line tool whose every call is for one namespace of one cluster.

    Attributes:
        program: The tool: kubectl or helm.
        kubeconfig: The cluster and the user.
        namespace: The namespace.
    """

    program: Path
    kubeconfig: Path
    namespace: str

    def __call__(
        self, *arguments: str | Path, stdin: str | None = None, timeout_seconds: float = 120
    ) -> str:
        """Run the tool and return what it prints.

        Raises:
            CommandError: It failed; `output` has the message.
        """
        bound = (self.program, "--kubeconfig", self.kubeconfig, "--namespace", self.namespace)
        return SHORT_LIVED.run(*bound, *arguments, stdin=stdin, timeout_seconds=timeout_seconds)


@dataclass(frozen=True, slots=True)
class Kubectl(Runner):
    """kubectl for one namespace."""

    def json(self, *arguments: str | Path) -> dict[str, Any]:
        """Run kubectl with `-o json` and return the object that it prints."""
        document: dict[str, Any] = json.loads(self(*arguments, "-o", "json"))
        return document

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Apply manifests."""
        listing = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self("apply", "-f", "-", stdin=json.dumps(listing))

    def wait(self, condition: str, *resources: str, timeout_seconds: float = 120) -> None:
        """Wait for a condition, in the words of `kubectl wait --for`.

        Raises:
            CommandError: It did not come true in time.
        """
        limit = f"--timeout={timeout_seconds:.0f}s"
        wait = ("wait", f"--for={condition}", *resources, limit)
        self(*wait, timeout_seconds=timeout_seconds + 10)

    def diagnosis(self) -> str:
        """Return what there is to know about a namespace after a failed test."""
        parts = [
            self._try("get", "all,jobs,pvc", "-o", "wide"),
            self._try("get", "syntheticdatajobs", "-o", "yaml"),
            self._try("get", "events", "--sort-by=.lastTimestamp"),
        ]
        for pod in self._try("get", "pods", "-o", "name").split():
            lines = ("--all-containers", "--prefix", f"--tail={_LOG_LINES}")
            parts.append(f"--- logs of {pod}\n" + self._try("logs", pod, *lines))
        return "\n".join(parts)

    def _try(self, *arguments: str) -> str:
        try:
            return self(*arguments, timeout_seconds=30)
        except CommandError as error:
            return f"{error}\n"
