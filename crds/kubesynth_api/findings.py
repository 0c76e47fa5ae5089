"""What is wrong with a job, in a form that conditions, terminals and tests can use."""

from __future__ import annotations

import dataclasses

from kubesynth_api.conditions import Reason


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One problem. `path` is the field, as in the manifest; `message` says what to do about it."""

    path: str
    reason: Reason
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def invalid(path: str, message: str) -> Finding:
    """Return a finding about a spec that no version can carry out."""
    return Finding(path, Reason.INVALID_SPEC, message)
