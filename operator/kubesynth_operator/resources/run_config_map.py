"""The run specification as an immutable ConfigMap: what the runner pods are told to do.

It is written once, with the limits of that moment, and never again: all pods of a run, over all
restarts and operator versions, read the same bytes.
"""

from __future__ import annotations

from typing import Any

from kubesynth_api import runner_contract
from kubesynth_operator.observation import Job
from kubesynth_operator.resources import naming


def build(job: Job) -> dict[str, Any]:
    """Return the manifest."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": naming.metadata(job, naming.run_config_name(job), naming.child_labels(job)),
        "immutable": True,
        "data": {runner_contract.RUN_SPEC_KEY: job.run_spec().to_json()},
    }
