"""The loop body for servers: look, decide, act, write the status once, tell people."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Awaitable, Callable

from kubesynth_api.labels import API_VERSION
from kubesynth_api.v1alpha1.model_servers import KIND, ModelServerStatus
from kubesynth_operator.kube import apply
from kubesynth_operator.kube.client import KubeClient
from kubesynth_operator.kube.event_recorder import EventRecorder, Subject
from kubesynth_operator.kube.limiter import RateLimiter
from kubesynth_operator.kube.resources import MODEL_SERVERS
from kubesynth_operator.observation import JobKey
from kubesynth_operator.servers import plan as plans
from kubesynth_operator.servers.seen import Server, ServerObservation

_logger = logging.getLogger(__name__)


class ServerReconciler:
    """Reconciles one server at a time; different servers may be reconciled at once."""

    def __init__(
        self,
        client: KubeClient,
        observe: Callable[[JobKey], Awaitable[ServerObservation | None]],
        recorder: EventRecorder,
        limiter: RateLimiter,
    ) -> None:
        self._client = client
        self._observe = observe
        self._recorder = recorder
        self._limiter = limiter

    async def reconcile(self, key: JobKey) -> float | None:
        """Take a server one step on; return after how many seconds to look again, if at all.

        Raises:
            KubeError: to be tried again, from the beginning.
        """
        seen = await self._observe(key)
        if seen is None:
            return None
        plan = plans.reconcile(seen)
        for action in plan.actions:
            obstacle = await apply.carry_out_for_server(self._client, key, action)
            if obstacle is not None:
                _logger.warning(
                    "server's child not created",
                    extra={
                        "server": key.name,
                        "namespace": key.namespace,
                        "why": obstacle.message,
                    },
                )
                # What the API server refused is part of the picture.
                plan = plans.reconcile(dataclasses.replace(seen, obstacles=(obstacle,)))
                break
        if plan.status is not None:
            await self._write_status(seen.server, plan.status)
            server = seen.server
            subject = Subject(KIND, server.key, server.uid, server.resource_version)
            for transition in plan.events:
                await self._recorder.record(subject, transition, seen.now)
        return plan.requeue_after_seconds

    async def _write_status(self, server: Server, status: ModelServerStatus) -> None:
        """PUT the status with the resourceVersion that was observed."""
        await self._limiter.wait()
        manifest = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {
                "namespace": server.key.namespace,
                "name": server.key.name,
                "uid": server.uid,
                "resourceVersion": server.resource_version,
            },
            "status": status.to_wire(),
        }
        await self._client.replace(MODEL_SERVERS, server.key.namespace, manifest, "status")
