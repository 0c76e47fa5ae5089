"""Kubernetes Events on a job, one per transition, for `kubectl describe` and `kubectl events`.

An Event's name is derived from what it says and when, so that telling a transition twice (after a
crash, or by two replicas in turn) makes one Event. Events are a courtesy: one that cannot be
written is logged and forgotten, and never holds up a job.
"""

from __future__ import annotations

import hashlib
import logging
from datetime import datetime

from kubesynth_api import labels
from kubesynth_api.v1alpha1.synthetic_data_job import KIND
from kubesynth_operator.actions import Transition
from kubesynth_operator.kube import errors
from kubesynth_operator.kube.client import KubeClient, Object
from kubesynth_operator.kube.resources import EVENTS
from kubesynth_operator.observation import Job

_logger = logging.getLogger(__name__)
_REPORTING_CONTROLLER = "kubesynth.io/operator"


class EventRecorder:
    """Writes Events in the name of one operator process."""

    def __init__(self, client: KubeClient, identity: str) -> None:
        self._client = client
        self._identity = identity

    async def record(self, job: Job, transition: Transition, at: datetime) -> None:
        """Tell people about a transition. Never fails."""
        manifest = event_manifest(job, transition, at, self._identity)
        try:
            await self._client.create(EVENTS, job.key.namespace, manifest)
        except errors.AlreadyExistsError:
            return
        except errors.KubeError as exc:
            _logger.warning(
                "event not written",
                extra={"job": job.key.name, "namespace": job.key.namespace, "error": str(exc)},
            )


def event_manifest(job: Job, transition: Transition, at: datetime, identity: str) -> Object:
    """Return an events.k8s.io/v1 Event about `job`."""
    content = "\n".join((job.uid, transition.condition, transition.reason, transition.at))
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{job.key.name}.{digest}", "namespace": job.key.namespace},
        "eventTime": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "type": transition.type,
        "reason": transition.reason,
        "action": transition.condition,
        "note": transition.message,
        "regarding": {
            "apiVersion": labels.API_VERSION,
            "kind": KIND,
            "name": job.key.name,
            "namespace": job.key.namespace,
            "uid": job.uid,
            "resourceVersion": job.resource_version,
        },
        "reportingController": _REPORTING_CONTROLLER,
        "reportingInstance": identity,
    }
