"""The running operator: watches, queue, workers, poller and resync around one reconciler."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import sys
import time
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

from kubesynth_api.labels import MANAGED_BY_LABEL, MANAGED_BY_VALUE
from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_operator import handlers, wire
from kubesynth_operator.child_cache import ChildCache
from kubesynth_operator.health import WatchHealth
from kubesynth_operator.kube import errors
from kubesynth_operator.kube.client import KubeClient
from kubesynth_operator.kube.event_recorder import EventRecorder
from kubesynth_operator.kube.limiter import RateLimiter
from kubesynth_operator.kube.resources import (
    JOBS,
    MODEL_SERVERS,
    PODS,
    SERVER_CLASSES,
    SYNTHETIC_DATA_JOBS,
    Resource,
)
from kubesynth_operator.kube.watch import Feedback, Scope, Sink, Watch
from kubesynth_operator.lease_keeper import LeaseKeeper
from kubesynth_operator.metrics import Metrics
from kubesynth_operator.observation import ChildJob, JobKey, Observation, Pod
from kubesynth_operator.observe import Observer, Snapshots
from kubesynth_operator.progress_book import ProgressBook
from kubesynth_operator.progress_poller import ProgressPoller
from kubesynth_operator.reconcile import Hooks, LiveCluster, Reconciler
from kubesynth_operator.server_control import ServerControl
from kubesynth_operator.settings import OperatorSettings
from kubesynth_operator.unreadable import Unreadable
from kubesynth_operator.work_queue import WorkQueue
from kubesynth_operator.workers import Workers

_logger = logging.getLogger(__name__)
_SELECTOR = f"{MANAGED_BY_LABEL}={MANAGED_BY_VALUE}"
_CRD_RETRY_SECONDS = 5.0
# Of objects and lists in one another the API server takes 10,000, where a job leaves room for any
# JSON; Python reads 1,000. One such job must not keep us, or Kopf, from reading all the others.
_RECURSION_LIMIT = 12_000


class Application:
    """Everything of one operator process but its probes and its leadership."""

    def __init__(self, client: KubeClient, settings: OperatorSettings, metrics: Metrics) -> None:
        self._client = client
        self._settings = settings
        self._metrics = metrics
        self.health = WatchHealth(time.monotonic, settings.limits.watch_stale_seconds)
        self.queue: WorkQueue[JobKey] = WorkQueue(clock=time.monotonic, random=random.random)
        self._book = ProgressBook(settings.limits.progress_write_seconds)
        self._jobs: ChildCache[ChildJob] = ChildCache(wire.parse_child_job, self.queue.add)
        self._pods: ChildCache[Pod] = ChildCache(wire.parse_pod, self.queue.add, self._pod_seen)
        self._unreadable = Unreadable(metrics)
        # Kinds and namespaces that may not be listed.
        self._denied: set[tuple[str, str]] = set()
        self._look_again = asyncio.Event()
        self._servers = ServerControl(client, settings, metrics, self.queue.add, self._unreadable)
        self._leases = LeaseKeeper(
            client, self._pods, settings, self._unreadable, look_at=self.queue.add
        )
        self._watches = [
            self._watch(resource, namespace, sink)
            for namespace in settings.watched_namespaces
            for resource, sink in ((JOBS, self._jobs), (PODS, self._pods))
        ]
        self._watches += self._servers.watches(self._feedback)
        self.ready = asyncio.Event()

    async def run(self, *, with_kopf: bool = True) -> None:
        """Work until SIGTERM (Kopf handles it), or until cancelled.

        Raises:
            Exception: whatever ended a part that must not end.
        """
        sys.setrecursionlimit(max(sys.getrecursionlimit(), _RECURSION_LIMIT))
        await self._wait_for_crd()
        parts: list[Coroutine[Any, Any, None]] = [watch.run() for watch in self._watches]
        parts += [self._work(), self._resync(), self._servers.run(self._list_jobs, self._is_denied)]
        parts.append(self._poller().run())
        parts.append(self._leases.run())
        if with_kopf:
            parts.append(handlers.serve(self._settings, self, asyncio.Event()))
        await first_end(parts)

    def changed(self, key: JobKey, version: str) -> None:
        """Take note of a job that was created or changed."""
        self.health.seen(key, version)
        self._metrics.watch_last_event.labels(
            resource=SYNTHETIC_DATA_JOBS.plural
        ).set_to_current_time()
        self.queue.add(key)

    def looked_at(self, raw: dict[str, Any]) -> None:
        """Take note of which model servers a job needs."""
        metadata = raw["metadata"]
        name = f"{metadata['namespace']}/{metadata['name']}"
        version = str(metadata.get("resourceVersion", ""))
        with self._unreadable.left_out(SYNTHETIC_DATA_JOBS.plural, name, version):
            self._servers.catalog.job_seen(raw)

    def deleted(self, key: JobKey) -> None:
        """Take note of a job that is gone."""
        self.health.gone(key)
        self._servers.catalog.job_gone(key)
        self.queue.add(key)

    async def _work(self) -> None:
        """Start working once the children are known: before, all would seem to be missing."""
        for watch in self._watches:
            await watch.synced.wait()
        self.ready.set()
        # Half of the time after which a missing reference is looked for again.
        referent_age = timedelta(seconds=self._settings.limits.reference_recheck_seconds / 2)
        snapshots = Snapshots(
            self._jobs, self._pods, self._book, self._servers.catalog, self._leases.view
        )
        observer = Observer(self._client, snapshots, _now, referent_age=referent_age)

        async def observe(key: JobKey) -> Observation | None:
            # Where children cannot be seen all would seem to be missing.
            return None if self._is_denied(key.namespace) else await observer.observe(key)

        cluster = LiveCluster(
            self._client,
            observe,
            EventRecorder(self._client, self._settings.identity),
            RateLimiter(self._settings.limits.status_writes_per_second, time.monotonic),
        )
        hooks = Hooks(self._gone, self.health.expect, self._leases.observed)
        reconciler = Reconciler(cluster, self._settings, self._metrics, hooks)
        await Workers(self.queue, reconciler.reconcile, self._metrics).run(self._settings.workers)

    async def _resync(self) -> None:
        """Look at every job now and then, from a fresh list, whatever the watches have said."""
        while True:
            try:
                await self._resync_once()
            except errors.KubeError as exc:
                _logger.warning("resync failed", extra={"error": str(exc)})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.limits.resync_seconds):
                    await self._look_again.wait()
            self._look_again.clear()

    async def _resync_once(self) -> None:
        found = await self._list_jobs()
        for key, version in found.items():
            self.health.expect(key, version)
            self.queue.add(key)
        for key in self.health.known():
            if key not in found:
                self.queue.add(key)
        self._servers.resync()

    async def _list_jobs(self) -> dict[JobKey, str]:
        """Read all jobs afresh; return their versions."""
        found: dict[JobKey, str] = {}
        unseen: set[JobKey] = set()
        for namespace in self._settings.watched_namespaces:
            try:
                found |= await self._list_jobs_in(namespace)
            except errors.ForbiddenError:
                if namespace is None:
                    raise
                # Pods that run there may still be using a server.
                unseen |= self._servers.catalog.jobs_in(namespace)
        self._servers.catalog.jobs_are(set(found) | unseen)
        return found

    async def _list_jobs_in(self, namespace: str | None) -> dict[JobKey, str]:
        found: dict[JobKey, str] = {}
        size = self._settings.limits.page_size
        pages = self._client.list_all(SYNTHETIC_DATA_JOBS, namespace, selector="", page_size=size)
        async for raw in pages:
            metadata = raw["metadata"]
            key = JobKey(metadata["namespace"], metadata["name"])
            found[key] = str(metadata["resourceVersion"])
            self.looked_at(raw)
        return found

    async def _wait_for_crd(self) -> None:
        """Wait until the API server knows our kinds: the chart may still be installing them."""
        for resource in (SYNTHETIC_DATA_JOBS, MODEL_SERVERS, SERVER_CLASSES):
            while not await self._can_list_anywhere(resource):
                await asyncio.sleep(_CRD_RETRY_SECONDS)

    async def _can_list_anywhere(self, resource: Resource) -> bool:
        for namespace in self._settings.watched_namespaces:
            if await self._can_list(resource, namespace):
                return True
        return False

    async def _can_list(self, resource: Resource, namespace: str | None) -> bool:
        try:
            await self._client.list_page(resource, namespace, {"limit": "1"})
        except errors.NotFoundError:
            _logger.warning("a CRD is not installed yet", extra={"resource": resource.plural})
        except errors.KubeError as exc:
            fields = {"resource": resource.plural, "error": str(exc)}
            _logger.warning("our own kind cannot be listed", extra=fields)
        else:
            return True
        return False

    def _watch(self, resource: Resource, namespace: str | None, sink: Sink) -> Watch:
        scope = Scope(resource, namespace, _SELECTOR, self._settings.limits.page_size)
        return Watch(self._client, scope, sink, self._feedback(scope))

    def _feedback(self, scope: Scope) -> Feedback:
        kind = scope.resource.plural
        name = f"{kind}/{scope.namespace or '*'}/{scope.selector}"

        def beat() -> None:
            self.health.beat(name)
            self._metrics.watch_last_event.labels(resource=kind).set_to_current_time()

        def denied(is_denied: bool) -> None:
            self._note_denied(kind, scope.namespace or "", is_denied)

        return Feedback(beat, self._unreadable, denied)

    def _note_denied(self, kind: str, namespace: str, is_denied: bool) -> None:
        if is_denied:
            self._denied.add((kind, namespace))
        else:
            self._denied.discard((kind, namespace))
            self._look_again.set()
        self._metrics.watch_denied.labels(resource=kind, namespace=namespace).set(is_denied)
        fields = {"resource": kind, "namespace": namespace}
        if is_denied:
            _logger.error("a namespace may not be read, it is left alone", extra=fields)
        else:
            _logger.info("a namespace may be read again", extra=fields)
        for key in self.health.known():
            if key.namespace == namespace:
                self.queue.add(key)

    def _is_denied(self, namespace: str) -> bool:
        return any(denied == namespace for _, denied in self._denied)

    def _poller(self) -> ProgressPoller:
        return ProgressPoller(
            self._pods,
            self._book,
            self._settings,
            self._unreadable,
            clock=_now,
            look_at=self.queue.add,
        )

    def _gone(self, key: JobKey) -> None:
        self.health.gone(key)
        self._leases.forget(key)

    def _pod_seen(self, pod: Pod) -> None:
        """Take a shard's last words as soon as they are known."""
        if not pod.ended or pod.phase is not RunnerPhase.GENERATE:
            return
        self._leases.pod_ended(pod)
        if pod.message is None or pod.message.totals is None:
            return
        succeeded = pod.status == "Succeeded"
        self._book.record_end(pod.job_uid, pod.index, pod.message, succeeded=succeeded, now=_now())


async def first_end(parts: list[Coroutine[Any, Any, None]]) -> None:
    """Run parts side by side; when the first one ends, end them all, and raise what it raised."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _now() -> datetime:
    return datetime.now(UTC)
