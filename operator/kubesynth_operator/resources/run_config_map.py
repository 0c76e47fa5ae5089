"""The run specification as an immutable ConfigMap: what the runner pods are told to do.

It is written once, with the limits of that moment, and never again: all pods of a run, over all
restarts and operator versions, read the same bytes.
"""

from __future__ import annotations

from typing import Any

from kubesynth_api import runner_contract
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_operator.observation import Job
from kubesynth_operator.resources import naming


def build(job: Job, spec: SyntheticDataJobSpec | None = None) -> dict[str, Any]:
    """Return the manifest; with `spec`, runners are told that instead of what the job says."""
    run = job.run_spec()
    if spec is not None:
        run = run.model_copy(update={"spec": spec})
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": naming.metadata(job, naming.run_config_name(job), naming.child_labels(job)),
        "immutable": True,
        "data": {runner_contract.RUN_SPEC_KEY: run.to_json()},
    }
