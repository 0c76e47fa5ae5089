"""Whether the volumes of a job can be mounted by all the pods that need them.

A ReadWriteOnce volume is attached to one node, so two pods at once may end up with one of them
waiting for ever. ReadWriteOncePod admits one pod at a time in the whole cluster: a job of several
pods would pass it on from pod to pod, and any pod that lingers (a drained node, a debugging
session) would block the rest, so only a job that is a single pod may use it.
"""

from __future__ import annotations

from kubesynth_api.conditions import Reason
from kubesynth_api.references import Access, References
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_operator.observation import Problem, ReferenceKind, Referents

_HOSTNAME_LABEL = "kubernetes.io/hostname"
# Modes that let the pods of one claim spread over nodes, by what they do with it.
_SPREADS = {
    Access.WRITE: frozenset({"ReadWriteMany"}),
    Access.READ: frozenset({"ReadWriteMany", "ReadOnlyMany"}),
}


def problem_with(
    spec: SyntheticDataJobSpec, references: References, referents: Referents
) -> Problem | None:
    """Return which claim does not fit the shards, or None. A missing claim is no concern here."""
    for claim, access in references.claim_access().items():
        referent = referents.get((ReferenceKind.CLAIM, claim))
        if referent is None or not referent.exists:
            continue
        modes = frozenset(referent.access_modes)
        complaint = None if modes & _SPREADS[access] else _complaint(spec, modes)
        if complaint:
            path = next(item.path for item in references.claims if item.name == claim)
            message = f"{path}: claim {claim!r} is {_listed(modes)}, {complaint}"
            return Problem(Reason.ACCESS_MODE_CONFLICT, message)
    return None


def _complaint(spec: SyntheticDataJobSpec, modes: frozenset[str]) -> str | None:
    if modes == {"ReadWriteOncePod"}:
        if spec.shards.count > 1:
            return (
                "which one pod at a time may mount; use ReadWriteMany, or one shard (shards.count)"
            )
        return None
    if modes == {"ReadOnlyMany"}:
        return "and the output has to be written; use ReadWriteMany"
    if spec.parallelism > 1 and _HOSTNAME_LABEL not in spec.runner.node_selector:
        return (
            f"but {spec.parallelism} pods at once may run on several nodes; use ReadWriteMany, "
            f"shards.parallelism: 1, or pin the pods to a node with runner.nodeSelector "
            f"{_HOSTNAME_LABEL}"
        )
    return None


def _listed(modes: frozenset[str]) -> str:
    return " and ".join(sorted(modes)) or "without an access mode"
