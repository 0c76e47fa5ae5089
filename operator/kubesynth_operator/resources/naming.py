"""Names and metadata of the children: derived from the job's name, so that creation is idempotent.

With a job name of 40 characters the longest name is a pod's, `NAME-generate-9999-xxxxx`, which at
60 characters is still a host name.
"""

from __future__ import annotations

from typing import Any

from kubesynth_api import labels
from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_api.v1alpha1.synthetic_data_job import KIND
from kubesynth_operator.observation import Job

# The Job of a one-shard job does everything, under the name of generate.
_SLOTS = {RunnerPhase.ALL: RunnerPhase.GENERATE}


def job_name(name: str, phase: RunnerPhase) -> str:
    """Return the name of the Job that runs `phase`."""
    return f"{name}-{_SLOTS.get(phase, phase)}"


def run_config_name(job: Job) -> str:
    """Return the name of the ConfigMap with the run specification, by its content's hash."""
    return f"{job.key.name}-run-{job.run_spec().immutable_hash()}"


def network_policy_name(name: str) -> str:
    """Return the name of the NetworkPolicy around the runner pods."""
    return f"{name}-runner"


def server_name(name: str, role: str) -> str:
    """Return the name of the ModelServer that a job owns for a role."""
    return f"{name}-{role}"


def lease_secret_name(name: str) -> str:
    """Return the name of the Secret with the token that leases are sent with."""
    return f"{name}-lease"


def child_labels(job: Job) -> dict[str, str]:
    """Return the labels of every child; the operator's watches select on the first."""
    return {
        labels.MANAGED_BY_LABEL: labels.MANAGED_BY_VALUE,
        labels.NAME_LABEL: labels.NAME_VALUE,
        labels.JOB_NAME_LABEL: job.key.name,
        labels.JOB_UID_LABEL: job.uid,
    }


def phase_labels(job: Job, phase: RunnerPhase) -> dict[str, str]:
    """Return the labels of a Job and its pods."""
    return {**child_labels(job), labels.PHASE_LABEL: _SLOTS.get(phase, phase).value}


def metadata(job: Job, name: str, object_labels: dict[str, str]) -> dict[str, Any]:
    """Return the metadata of a child that dies with the job."""
    return {
        "name": name,
        "namespace": job.key.namespace,
        "labels": object_labels,
        "ownerReferences": [
            {
                "apiVersion": labels.API_VERSION,
                "kind": KIND,
                "name": job.key.name,
                "uid": job.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
