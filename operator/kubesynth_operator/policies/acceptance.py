"""Whether a spec can be carried out at all, by what is written in it and in its prompts.

What CEL in the CRD can check never gets here, unless the CRD is older than the operator. What is
left is what needs a parser (templates, JSON schemas), the whole spec at once (its size), or the
knowledge of what this version does not do yet. Prompts in ConfigMaps are read along, so that a
mistyped placeholder is found before a pod starts.
"""

from __future__ import annotations

from kubesynth_api import clusters, validation
from kubesynth_api.conditions import Reason
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_operator.observation import Job, Problem, ReferenceKind, Referents

# A status is bounded, so a spec with a hundred faults names the first few.
_FINDINGS_SHOWN = 5


def problem_with(
    job: Job, referents: Referents | None = None, *, plugin_files: bool = True
) -> Problem | None:
    """Return why the spec is refused, or None.

    `plugin_files` tells whether jobs may run Python out of a ConfigMap.

    An invalid spec goes before one that is merely not implemented: waiting for a newer version does
    not help the former.
    """
    if job.spec is None:
        return job.spec_problem
    config_maps = {
        name: referent.data
        for (kind, name), referent in (referents or {}).items()
        if kind is ReferenceKind.CONFIG_MAP and referent.exists
    }
    findings = validation.check(job.spec, job.key.name, config_maps)
    findings += clusters.check(job.spec)
    for reason in (Reason.INVALID_SPEC, Reason.NOT_IMPLEMENTED):
        found = [str(finding) for finding in findings if finding.reason is reason]
        if found:
            more = len(found) - _FINDINGS_SHOWN
            tail = f"; and {more} more" if more > 0 else ""
            return Problem(reason, "; ".join(found[:_FINDINGS_SHOWN]) + tail)
    return None if plugin_files else _plugin_file(job.spec)


def _plugin_file(spec: SyntheticDataJobSpec) -> Problem | None:
    for index, stage in enumerate(spec.pipeline):
        if stage.plugin is not None and stage.plugin.file is not None:
            return Problem(
                Reason.REFERENCE_DENIED,
                f"spec.pipeline[{index}].plugin.file: this operator runs no Python out of "
                "ConfigMaps; use an entryPoint, or set jobs.pluginFiles.enabled in the chart",
            )
    return None
