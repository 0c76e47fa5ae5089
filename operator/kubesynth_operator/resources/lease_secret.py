"""The Secret that lets the operator, and nobody else, lease a job's pods their share of its limits.

Its token is random, made when the Secret is created, and never changed. It keeps how the caps were
divided at first: shards that are made again go on from that, whatever has been edited since.
"""

from __future__ import annotations

from typing import Any

from kubesynth_api.labels import FIRST_SHARE_ANNOTATION
from kubesynth_api.shares import initial_share
from kubesynth_operator import wire
from kubesynth_operator.observation import Job
from kubesynth_operator.resources import naming


def build(job: Job) -> dict[str, Any]:
    """Return the manifest, without the token.

    Raises:
        ValueError: the spec was not understood.
    """
    name = naming.lease_secret_name(job.key.name)
    share = wire.share_text(initial_share(job.run_spec().spec))
    metadata = naming.metadata(job, name, naming.child_labels(job))
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {**metadata, "annotations": {FIRST_SHARE_ANNOTATION: share}},
        "type": "Opaque",
        "immutable": True,
    }
