"""Whether everything that a job refers to is there.

A missing Secret, ConfigMap, claim or key parks the job until it appears. Pods would otherwise hang
in CreateContainerConfigError, which says far less, far later.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from kubesynth_api.conditions import Reason
from kubesynth_api.references import KeyReference, References
from kubesynth_operator.observation import Problem, ReferenceKind, Referent, Referents

# A status is bounded, so a job that misses everything names the first few.
_SHOWN = 5


def problem_with(references: References, referents: Referents) -> Problem | None:
    """Return what is missing or denied, naming each field; None when all is there."""
    denied: list[str] = []
    missing: list[str] = []
    for kind, name, path, key in _mentions(references):
        referent = referents.get((kind, name), Referent(exists=False))
        what = f"{path}: {kind} {name!r}"
        if referent.denied:
            denied.append(f"{what} may not be read by the operator: its role lacks 'get'")
        elif not referent.exists:
            missing.append(f"{what} does not exist")
        elif key is not None and not key.is_satisfied_by(referent.keys):
            missing.append(f"{what} has no key {key.key!r}")
    if missing:
        return Problem(Reason.REFERENCE_NOT_FOUND, "; ".join(missing[:_SHOWN]))
    if denied:
        return Problem(Reason.REFERENCE_DENIED, "; ".join(denied[:_SHOWN]))
    return None


def _mentions(
    references: References,
) -> Iterator[tuple[ReferenceKind, str, str, KeyReference | None]]:
    for secret in references.secrets:
        yield ReferenceKind.SECRET, secret.name, secret.path, secret
    for config_map in references.config_maps:
        yield ReferenceKind.CONFIG_MAP, config_map.name, config_map.path, config_map
    for claim in references.claims:
        yield ReferenceKind.CLAIM, claim.name, claim.path, None


def recheck_after(parked_for: timedelta, *, first_seconds: float, max_seconds: float) -> float:
    """Return how long to wait before looking again: soon at first, then less and less often."""
    return min(max(parked_for.total_seconds() / 4, first_seconds), max_seconds)
