"""Every version of the objects of one kind, for what is gone when somebody looks."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kubesynth_testing.cluster.runners import Kubectl

_END_SECONDS = 10.0


class Recording:
    """What `kubectl get --watch` has written so far."""

    def __init__(self, kubectl: Kubectl, kind: str, output: Path) -> None:
        self._output = output
        self._whole: str | None = None
        bound = ("--kubeconfig", kubectl.kubeconfig, "--namespace", kubectl.namespace)
        watch = ("get", kind, "--watch", "--output-watch-events", "-o", "json")
        with output.open("w") as stdout:
            self._process = subprocess.Popen(
                [str(part) for part in (kubectl.program, *bound, *watch)],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=subprocess.DEVNULL,
            )

    def stop(self) -> None:
        """End the watch and keep what it has written."""
        self._process.terminate()
        self._process.wait(_END_SECONDS)
        self._whole = self._output.read_text()

    def versions(self) -> list[dict[str, Any]]:
        """Return the objects as they were, in the order of their changes."""
        text = self._output.read_text() if self._whole is None else self._whole
        decoder = json.JSONDecoder()
        found, position = [], 0
        while (position := text.find("{", position)) >= 0:
            try:
                event, position = decoder.raw_decode(text, position)
            except json.JSONDecodeError:
                break  # being written
            found.append(event["object"])
        return found

    def last_versions(self) -> list[dict[str, Any]]:
        """Return each object once, as it was last seen."""
        latest = {item["metadata"]["uid"]: item for item in self.versions()}
        return list(latest.values())

    def uids_by_name(self) -> dict[str, set[str]]:
        """Return for each name the uids of the objects that have borne it."""
        found: dict[str, set[str]] = {}
        for item in self.versions():
            metadata = item["metadata"]
            found.setdefault(metadata["name"], set()).add(metadata["uid"])
        return found


@contextmanager
def record(kubectl: Kubectl, kind: str) -> Iterator[Recording]:
    """Record the objects of a kind in a namespace for the length of a `with` block."""
    with tempfile.TemporaryDirectory(prefix="recording-") as folder:
        recording = Recording(kubectl, kind, Path(folder, "events.json"))
        try:
            yield recording
        finally:
            recording.stop()


def ends(pods: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return how the containers of each pod, by its name, were seen to have ended."""
    found: dict[str, list[dict[str, Any]]] = {}
    for pod in pods:
        for container in pod.get("status", {}).get("containerStatuses", ()):
            terminated = container.get("state", {}).get("terminated")
            if terminated is not None:
                found.setdefault(pod["metadata"]["name"], []).append(terminated)
    return found
