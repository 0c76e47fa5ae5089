"""The ModelServer of a role whose server lives and dies with the job."""

from __future__ import annotations

from typing import Any

from kubesynth_api import labels
from kubesynth_api.v1alpha1.model_servers import KIND
from kubesynth_api.v1alpha1.models import ModelSpec
from kubesynth_operator.observation import Job
from kubesynth_operator.resources import naming


def build(job: Job, model: ModelSpec) -> dict[str, Any]:
    """Return the manifest: what the job says, at rest as soon as the job needs it no more.

    Raises:
        ValueError: the role has no server of the job's own.
    """
    if model.server is None:
        raise ValueError(f"role {model.name} has no server of the job's own")
    return {
        "apiVersion": labels.API_VERSION,
        "kind": KIND,
        "metadata": naming.metadata(
            job, naming.server_name(job.key.name, model.name), naming.child_labels(job)
        ),
        "spec": {**model.server.to_wire(), "idle": {"ttlSeconds": 0}},
    }
