"""The running half of the operator that looks after model servers: watches, queue, workers."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from kubesynth_api.labels import MANAGED_BY_LABEL, MANAGED_BY_VALUE, SERVER_NAME_LABEL
from kubesynth_api.v1alpha1.server_classes import CLUSTER_KIND, KIND
from kubesynth_operator.child_cache import ChildCache
from kubesynth_operator.kube.client import KubeClient
from kubesynth_operator.kube.event_recorder import EventRecorder
from kubesynth_operator.kube.limiter import RateLimiter
from kubesynth_operator.kube.optional_watch import OptionalWatch, Presence
from kubesynth_operator.kube.resources import (
    CLUSTER_SERVER_CLASSES,
    DEPLOYMENTS,
    LEADER_WORKER_SETS,
    MODEL_SERVERS,
    PODS,
    SERVER_CLASSES,
    SERVICES,
)
from kubesynth_operator.kube.watch import Feedback, Scope, Watch
from kubesynth_operator.metrics import Metrics
from kubesynth_operator.observation import JobKey
from kubesynth_operator.servers import classes, wire
from kubesynth_operator.servers.catalog import Catalog, ClassSink, ServerSink
from kubesynth_operator.servers.observe import ServerObserver, ServerSnapshots
from kubesynth_operator.servers.reconcile import ServerReconciler
from kubesynth_operator.servers.seen import ServerObservation, ServerPod, Service, Workload
from kubesynth_operator.settings import OperatorSettings
from kubesynth_operator.unreadable import Unreadable
from kubesynth_operator.work_queue import WorkQueue
from kubesynth_operator.workers import Workers

_CHILDREN = f"{MANAGED_BY_LABEL}={MANAGED_BY_VALUE},{SERVER_NAME_LABEL}"


class ServerControl:
    """Everything about model servers. `wake_job` is told of jobs whose servers have changed."""

    def __init__(
        self,
        client: KubeClient,
        settings: OperatorSettings,
        metrics: Metrics,
        wake_job: Callable[[JobKey], None],
        unreadable: Unreadable,
    ) -> None:
        self._client = client
        self._settings = settings
        self._metrics = metrics
        self._unreadable = unreadable
        self.queue: WorkQueue[JobKey] = WorkQueue(clock=time.monotonic, random=random.random)
        add = self.queue.add
        self.catalog = Catalog(add, wake_job)
        self._deployments: ChildCache[Workload] = ChildCache(
            wire.parse_deployment, add, owner_label=SERVER_NAME_LABEL
        )
        self._groups: ChildCache[Workload] = ChildCache(
            wire.parse_groups, add, owner_label=SERVER_NAME_LABEL
        )
        self._group_watches: list[OptionalWatch] = []
        self._services: ChildCache[Service] = ChildCache(
            wire.parse_service, add, owner_label=SERVER_NAME_LABEL
        )
        self._pods: ChildCache[ServerPod] = ChildCache(
            wire.parse_server_pod, add, owner_label=SERVER_NAME_LABEL
        )
        self._watches: list[Watch] = []

    def watches(self, feedback: Callable[[Scope], Feedback]) -> list[Watch]:
        """Return the watches to run; `feedback` says who is told what one of them meets."""
        size = self._settings.limits.page_size
        scopes = [
            (Scope(resource, namespace, selector, size), sink)
            for namespace in self._settings.watched_namespaces
            for resource, selector, sink in (
                (MODEL_SERVERS, "", ServerSink(self.catalog)),
                (SERVER_CLASSES, "", ClassSink(self.catalog, KIND)),
                (DEPLOYMENTS, _CHILDREN, self._deployments),
                (SERVICES, _CHILDREN, self._services),
                (PODS, _CHILDREN, self._pods),
            )
        ]
        if not self._settings.namespaces:
            shared = Scope(CLUSTER_SERVER_CLASSES, None, "", size)
            scopes.append((shared, ClassSink(self.catalog, CLUSTER_KIND)))
        self._group_watches = [
            OptionalWatch(
                self._client,
                Scope(LEADER_WORKER_SETS, namespace, _CHILDREN, size),
                self._groups,
                self.resync,
                self._unreadable,
            )
            for namespace in self._settings.watched_namespaces
        ]
        self._watches = [
            *(Watch(self._client, scope, sink, feedback(scope)) for scope, sink in scopes),
            *self._group_watches,
        ]
        return self._watches

    def _groups_problem(self) -> str:
        """Return why there can be no LeaderWorkerSets; an empty text if there can."""
        found = {watch.presence for watch in self._group_watches}
        if Presence.MISSING in found:
            return (
                "a server on several nodes needs LeaderWorkerSet, which this cluster does not "
                "have; install it (https://lws.sigs.k8s.io)"
            )
        if Presence.DENIED in found:
            return (
                "the operator may not list leaderworkersets (leaderworkerset.x-k8s.io); "
                "upgrade its chart, which has the right in its roles"
            )
        return ""

    def resync(self) -> None:
        """Look at every server again."""
        for key in self.catalog.server_keys():
            self.queue.add(key)

    async def run(
        self, list_jobs: Callable[[], Awaitable[object]], is_denied: Callable[[str], bool]
    ) -> None:
        """Work until cancelled, once everything that there is was listed.

        Before, every server would seem to be without children, and without users; and so they seem
        in a namespace that is denied.
        """
        for watch in self._watches:
            await watch.synced.wait()
        observer = ServerObserver(
            self._client,
            ServerSnapshots(
                self.catalog,
                self._deployments,
                self._groups,
                self._services,
                self._pods,
                self._groups_problem,
            ),
            lambda: datetime.now(UTC),
            list_jobs,
        )
        limiter = RateLimiter(self._settings.limits.status_writes_per_second, time.monotonic)
        recorder = EventRecorder(self._client, self._settings.identity)

        async def observe(key: JobKey) -> ServerObservation | None:
            return None if is_denied(key.namespace) else await observer.observe(key)

        reconciler = ServerReconciler(self._client, observe, recorder, limiter)
        depth = self._metrics.server_queue_depth
        workers = Workers(self.queue, reconciler.reconcile, self._metrics, depth)
        async with asyncio.TaskGroup() as group:
            group.create_task(workers.run(self._settings.workers))
            if self._settings.classes_folder is not None:
                folder = Path(self._settings.classes_folder)
                namespaces = self._settings.namespaces
                specs = await asyncio.to_thread(classes.load, folder, self._unreadable)
                group.create_task(classes.create_missing(self._client, specs, namespaces))
