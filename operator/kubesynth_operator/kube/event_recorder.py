"""Kubernetes Events on an object, one per transition, for `kubectl describe` and `kubectl events`.

An Event's name is derived from what it says and when, so that telling a transition twice (after a
crash, or by two replicas in turn) makes one Event. Events are a courtesy: one that cannot be
written is logged and forgotten, and never holds anything up.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from datetime import datetime

from kubesynth_api import labels
from kubesynth_operator.actions import Transition
from kubesynth_operator.kube import errors
from kubesynth_operator.kube.client import KubeClient, Object
from kubesynth_operator.kube.resources import EVENTS
from kubesynth_operator.observation import JobKey

_logger = logging.getLogger(__name__)
_REPORTING_CONTROLLER = "kubesynth.io/operator"


@dataclasses.dataclass(frozen=True, slots=True)
class Subject:
    """The object that an Event is about, in the version that was observed."""

    kind: str
    key: JobKey
    uid: str
    resource_version: str


class EventRecorder:
    """Writes Events in the name of one operator process."""

    def __init__(self, client: KubeClient, identity: str) -> None:
        self._client = client
        self._identity = identity

    async def record(self, subject: Subject, transition: Transition, at: datetime) -> None:
        """Tell people about a transition. Never fails."""
        manifest = event_manifest(subject, transition, at, self._identity)
        try:
            await self._client.create(EVENTS, subject.key.namespace, manifest)
        except errors.AlreadyExistsError:
            return
        except errors.KubeError as exc:
            _logger.warning(
                "event not written",
                extra={
                    "kind": subject.kind,
                    "name_of_object": subject.key.name,
                    "namespace": subject.key.namespace,
                    "error": str(exc),
                },
            )


def event_manifest(subject: Subject, transition: Transition, at: datetime, identity: str) -> Object:
    """Return an events.k8s.io/v1 Event about an object."""
    content = "\n".join((subject.uid, transition.condition, transition.reason, transition.at))
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{subject.key.name}.{digest}", "namespace": subject.key.namespace},
        "eventTime": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "type": transition.type,
        "reason": transition.reason,
        "action": transition.condition,
        "note": transition.message,
        "regarding": {
            "apiVersion": labels.API_VERSION,
            "kind": subject.kind,
            "name": subject.key.name,
            "namespace": subject.key.namespace,
            "uid": subject.uid,
            "resourceVersion": subject.resource_version,
        },
        "reportingController": _REPORTING_CONTROLLER,
        "reportingInstance": identity,
    }
