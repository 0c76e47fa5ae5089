"""The loop body: look, decide, act, write the status once, tell people.

Order is everything. Children are written before the status that speaks of them, the status before
the Events that speak of it, and each write is one that can be repeated. So the process may die
between any two of them: the next look finds what was done and goes on.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Protocol

from kubesynth_api.labels import API_VERSION
from kubesynth_api.v1alpha1.synthetic_data_job import KIND
from kubesynth_operator import plan as plans
from kubesynth_operator import status, wire
from kubesynth_operator.actions import Action, Plan, Transition
from kubesynth_operator.kube import apply
from kubesynth_operator.kube.client import KubeClient
from kubesynth_operator.kube.event_recorder import EventRecorder, Subject
from kubesynth_operator.kube.limiter import RateLimiter
from kubesynth_operator.kube.resources import SYNTHETIC_DATA_JOBS
from kubesynth_operator.metrics import Metrics
from kubesynth_operator.observation import Job, JobKey, Observation, Obstacle
from kubesynth_operator.settings import OperatorSettings

_logger = logging.getLogger(__name__)


class Cluster(Protocol):
    """Where observations come from and writes go to."""

    async def observe(self, key: JobKey) -> Observation | None:
        """Look at a job; None if there is none of that name."""
        ...

    async def carry_out(self, key: JobKey, action: Action) -> Obstacle | None:
        """Do one thing; return what stands in the way, if a person has to know."""
        ...

    async def write_status(self, job: Job, plan: Plan) -> str:
        """Replace the status of exactly the version that was observed; return the new version."""
        ...

    async def tell(self, job: Job, transition: Transition, at: datetime) -> None:
        """Post a Kubernetes Event. Never fails."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Hooks:
    """Whom the reconciler tells what it learnt, besides the API server."""

    forget: Callable[[JobKey], None] = lambda key: None
    written: Callable[[JobKey, str], None] = lambda key, version: None
    observed: Callable[[Observation], None] = lambda observation: None


class Reconciler:
    """Reconciles one job at a time; different jobs may be reconciled at once."""

    def __init__(
        self, cluster: Cluster, settings: OperatorSettings, metrics: Metrics, hooks: Hooks
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._metrics = metrics
        self._hooks = hooks
        self._progress_written_at: dict[JobKey, datetime] = {}

    async def reconcile(self, key: JobKey) -> float | None:
        """Take a job one step on.

        Returns:
            After how many seconds to look again, or None when only a change can matter.

        Raises:
            KubeError: to be tried again, from the beginning.
        """
        observation = await self._cluster.observe(key)
        if observation is None:
            self._forget(key)
            return None
        self._hooks.observed(observation)
        plan = plans.reconcile(observation, self._settings)
        obstacles = await self._act(key, plan.actions)
        if obstacles:
            # What the API server refused is part of the picture; nothing is tried twice in a row.
            plan = plans.reconcile(observation.facing(obstacles), self._settings)
        requeue = await self._report(observation, plan)
        self._metrics.job_seen(key, (plan.status or observation.job.status).phase)
        return requeue

    async def _act(self, key: JobKey, actions: tuple[Action, ...]) -> tuple[Obstacle, ...]:
        """Carry actions out in order, and stop at an obstacle: later ones need earlier ones."""
        for action in actions:
            obstacle = await self._cluster.carry_out(key, action)
            if obstacle is not None:
                _logger.warning(
                    "child not created",
                    extra={"job": key.name, "namespace": key.namespace, "why": obstacle.message},
                )
                return (obstacle,)
        return ()

    async def _report(self, observation: Observation, plan: Plan) -> float | None:
        """Write the status if it changed, and numbers alone only now and then."""
        key = observation.job.key
        if plan.status is None:
            return plan.requeue_after_seconds
        if plan.progress_only:
            wait = self._progress_wait(observation)
            if wait > 0:
                return min(wait, plan.requeue_after_seconds or wait)
        version = await self._cluster.write_status(observation.job, plan)
        self._hooks.written(key, version)
        self._progress_written_at[key] = observation.now
        cause = "progress" if plan.progress_only else "transition"
        self._metrics.status_writes.labels(cause=cause).inc()
        for transition in plan.events:
            await self._cluster.tell(observation.job, transition, observation.now)
        self._count_end(observation, plan)
        return plan.requeue_after_seconds

    def _progress_wait(self, observation: Observation) -> float:
        written_at = self._progress_written_at.get(observation.job.key)
        if written_at is None:
            return 0.0
        since = (observation.now - written_at).total_seconds()
        return self._settings.limits.progress_write_seconds - since

    def _count_end(self, observation: Observation, plan: Plan) -> None:
        if plan.status is None or not status.has_ended(plan.status):
            return
        if status.has_ended(observation.job.status):
            return
        started_at = wire.parse_time(plan.status.start_time)
        if started_at is not None:
            seconds = (observation.now - started_at).total_seconds()
            self._metrics.job_seconds.labels(phase=plan.status.phase).observe(seconds)

    def _forget(self, key: JobKey) -> None:
        self._progress_written_at.pop(key, None)
        self._metrics.job_gone(key)
        self._hooks.forget(key)


class LiveCluster:
    """The real cluster."""

    def __init__(
        self,
        client: KubeClient,
        observe: Callable[[JobKey], Awaitable[Observation | None]],
        recorder: EventRecorder,
        limiter: RateLimiter,
    ) -> None:
        self._client = client
        self._observe = observe
        self._recorder = recorder
        self._limiter = limiter

    async def observe(self, key: JobKey) -> Observation | None:
        """Look at a job; None if there is none of that name."""
        return await self._observe(key)

    async def carry_out(self, key: JobKey, action: Action) -> Obstacle | None:
        """Do one thing; return what stands in the way, if a person has to know."""
        return await apply.carry_out(self._client, key, action)

    async def write_status(self, job: Job, plan: Plan) -> str:
        """PUT the status with the resourceVersion that was observed.

        A forced apply would win over a newer status; this loses to it, and is decided again.

        Raises:
            ConflictError: the job has changed since it was observed.
        """
        if plan.status is None:
            raise ValueError("the plan leaves the status as it is")
        await self._limiter.wait()
        manifest = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {
                "namespace": job.key.namespace,
                "name": job.key.name,
                "uid": job.uid,
                "resourceVersion": job.resource_version,
            },
            "status": plan.status.to_wire(),
        }
        written = await self._client.replace(
            SYNTHETIC_DATA_JOBS, job.key.namespace, manifest, "status"
        )
        return str(written["metadata"]["resourceVersion"])

    async def tell(self, job: Job, transition: Transition, at: datetime) -> None:
        """Post a Kubernetes Event. Never fails."""
        subject = Subject(KIND, job.key, job.uid, job.resource_version)
        await self._recorder.record(subject, transition, at)
