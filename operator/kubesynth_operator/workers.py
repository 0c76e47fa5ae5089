"""The pool of workers: keys in, reconciliations out, and no error that ends a worker."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from prometheus_client import Gauge

from kubesynth_operator.kube import errors
from kubesynth_operator.metrics import Metrics
from kubesynth_operator.observation import JobKey
from kubesynth_operator.work_queue import WorkQueue

_logger = logging.getLogger(__name__)
# A reconciliation is a few requests of 30 s at most each; one that hangs must not hold a worker.
_RECONCILE_SECONDS = 120.0


class Workers:
    """Runs `reconcile` on the keys of a queue."""

    def __init__(
        self,
        queue: WorkQueue[JobKey],
        reconcile: Callable[[JobKey], Awaitable[float | None]],
        metrics: Metrics,
        depth: Gauge | None = None,
    ) -> None:
        self._queue = queue
        self._reconcile = reconcile
        self._metrics = metrics
        self._depth = metrics.queue_depth if depth is None else depth

    async def run(self, count: int) -> None:
        """Work until cancelled, on so many keys at once."""
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            self._depth.set(len(self._queue))
            key = await self._queue.get()
            try:
                await self._work_on(key)
            finally:
                self._queue.done(key)

    async def _work_on(self, key: JobKey) -> None:
        started = time.perf_counter()
        try:
            async with asyncio.timeout(_RECONCILE_SECONDS):
                requeue_after_seconds = await self._reconcile(key)
        except errors.ConflictError as exc:
            # Decided on an old version: the news is on its way, or here already.
            self._put_back(key, exc, at_least_seconds=0.0)
        except errors.KubeError as exc:
            self._put_back(key, exc, at_least_seconds=exc.retry_after_seconds or 0.0)
        except Exception as exc:  # a bug in one job's reconciliation must not stop the others
            _logger.exception("reconciliation failed", extra=_fields(key))
            self._put_back(key, exc, at_least_seconds=0.0)
        else:
            self._queue.forget(key)
            if requeue_after_seconds is not None:
                self._queue.add_after(key, requeue_after_seconds)
        finally:
            self._metrics.reconcile_seconds.observe(time.perf_counter() - started)

    def _put_back(self, key: JobKey, exc: Exception, *, at_least_seconds: float) -> None:
        delay = self._queue.retry(key, at_least_seconds=at_least_seconds)
        self._metrics.queue_retries.inc()
        self._metrics.reconcile_errors.labels(kind=type(exc).__name__).inc()
        fields = {**_fields(key), "error": str(exc), "retry_seconds": round(delay, 1)}
        _logger.warning("reconciliation put back", extra=fields)


def _fields(key: JobKey) -> dict[str, object]:
    return {"job": key.name, "namespace": key.namespace}
