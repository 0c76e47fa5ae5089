"""Looking at a server: from the snapshots of the watches, and afresh where it matters."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from datetime import datetime

from kubesynth_operator.child_cache import ChildCache
from kubesynth_operator.kube import errors
from kubesynth_operator.kube.client import KubeClient
from kubesynth_operator.kube.resources import MODEL_SERVERS, SECRETS
from kubesynth_operator.observation import JobKey, Referent
from kubesynth_operator.servers import wire
from kubesynth_operator.servers.catalog import Catalog
from kubesynth_operator.servers.seen import (
    Server,
    ServerClass,
    ServerObservation,
    ServerPod,
    Service,
    Workload,
)


@dataclasses.dataclass(frozen=True, slots=True)
class ServerSnapshots:
    """What the watches keep current."""

    catalog: Catalog
    deployments: ChildCache[Workload]
    groups: ChildCache[Workload]
    services: ChildCache[Service]
    pods: ChildCache[ServerPod]
    # Why there can be no LeaderWorkerSet; empty where there can.
    groups_problem: Callable[[], str]


class ServerObserver:
    """Builds observations of servers. `list_jobs` brings the catalog's jobs up to date."""

    def __init__(
        self,
        client: KubeClient,
        snapshots: ServerSnapshots,
        clock: Callable[[], datetime],
        list_jobs: Callable[[], Awaitable[object]],
    ) -> None:
        self._client = client
        self._snapshots = snapshots
        self._clock = clock
        self._list_jobs = list_jobs

    async def observe(self, key: JobKey) -> ServerObservation | None:
        """Look at a server; None if there is none of that name.

        Raises:
            KubeError: something could not be read.
        """
        try:
            server = wire.parse_server(await self._client.get(MODEL_SERVERS, *key))
        except errors.NotFoundError:
            return None
        seen = self._snapshots
        grouped = server.spec is not None and server.spec.nodes > 1
        cache = seen.groups if grouped else seen.deployments
        workloads = [each for each in cache.of_job(key) if each.owner_uid == server.uid]
        services = [each for each in seen.services.of_job(key) if each.owner_uid == server.uid]
        observation = ServerObservation(
            now=self._clock(),
            server=server,
            server_class=self._class_of(server),
            users=seen.catalog.users_of(key),
            workload=workloads[0] if workloads else None,
            service=services[0] if services else None,
            pods=tuple(pod for pod in seen.pods.of_job(key) if pod.server_uid == server.uid),
            secret=await self._secret_of(server),
            class_hint=self._hint(server),
            groups_problem=seen.groups_problem(),
        )
        if _may_be_stopped(observation):
            # The last moment to learn of a job that the watch has not brought yet.
            await self._list_jobs()
            users = seen.catalog.users_of(key)
            observation = dataclasses.replace(observation, users=users)
        return observation

    def _class_of(self, server: Server) -> ServerClass | None:
        if server.spec is None:
            return None
        return self._snapshots.catalog.find_class(server.spec.class_ref, server.key.namespace)

    def _hint(self, server: Server) -> str:
        if server.spec is None:
            return ""
        return missing_class(server.spec.class_ref.kind, server.spec.class_ref.name)

    async def _secret_of(self, server: Server) -> Referent | None:
        if server.deleting or server.spec is None or server.spec.token is None:
            return None
        name = server.spec.token.secret_key_ref.name
        try:
            raw = await self._client.get(SECRETS, server.key.namespace, name)
        except errors.NotFoundError:
            return Referent(exists=False)
        except errors.ForbiddenError:
            return Referent(exists=False, denied=True)
        # The values are dropped at once.
        version = str(raw["metadata"].get("resourceVersion", ""))
        return Referent(exists=True, keys=frozenset(raw.get("data") or {}), version=version)


def missing_class(kind: str | None, name: str) -> str:
    """Return what to say about a class that is not there."""
    what = kind or "ModelServerClass or ClusterModelServerClass"
    return f"there is no {what} {name!r} here"


def _may_be_stopped(seen: ServerObservation) -> bool:
    spec = seen.server.spec
    running = seen.workload is not None and seen.workload.wanted > 0
    return running and not seen.users and spec is not None and spec.idle is not None
