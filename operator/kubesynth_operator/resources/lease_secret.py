"""The Secret that lets the operator, and nobody else, lease a job's pods their share of its limits.

Its token is random, made when the Secret is created, and never changed.
"""

from __future__ import annotations

from typing import Any

from kubesynth_operator.observation import Job
from kubesynth_operator.resources import naming


def build(job: Job) -> dict[str, Any]:
    """Return the manifest, without the token."""
    name = naming.lease_secret_name(job.key.name)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": naming.metadata(job, name, naming.child_labels(job)),
        "type": "Opaque",
        "immutable": True,
    }
