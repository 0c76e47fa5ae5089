"""Whether a spec can be carried out at all, by what is written in it.

What CEL in the CRD can check never gets here. What is left is what needs a parser (templates), the
whole spec at once (its size), or the knowledge of what this version does not do yet.
"""

from __future__ import annotations

from kubesynth_api import run_spec, validation
from kubesynth_api.conditions import Reason
from kubesynth_api.run_spec import RunSpec
from kubesynth_operator.observation import Job, Problem

# A status is bounded, so a spec with a hundred faults names the first few.
_FINDINGS_SHOWN = 5


def problem_with(job: Job) -> Problem | None:
    """Return why the spec is refused, or None.

    An invalid spec goes before one that is merely not implemented: waiting for a newer version does
    not help the former.
    """
    if job.spec is None:
        return job.spec_problem
    findings = validation.check(job.spec, job.key.name)
    for reason in (Reason.INVALID_SPEC, Reason.NOT_IMPLEMENTED):
        found = [f"{item.field}: {item.message}" for item in findings if item.reason == reason]
        if found:
            more = len(found) - _FINDINGS_SHOWN
            tail = f"; and {more} more" if more > 0 else ""
            return Problem(reason, "; ".join(found[:_FINDINGS_SHOWN]) + tail)
    return _too_large(job.run_spec())


def _too_large(run: RunSpec) -> Problem | None:
    size_bytes = len(run.to_json().encode())
    if size_bytes <= run_spec.RUN_SPEC_MAX_BYTES:
        return None
    return Problem(
        Reason.INVALID_SPEC,
        f"spec: {size_bytes} bytes of JSON are more than the {run_spec.RUN_SPEC_MAX_BYTES} that fit"
        " into the run's ConfigMap; move long prompts into ConfigMaps of their own",
    )
