"""The edge to Kopf, and the only module that imports it.

Kopf watches the jobs and tells us that one has changed; we put its key on our queue, and that is
all. Handlers that detect changes, daemons and timers are not used: they would write annotations and
finalizers on the user's object. Whatever Kopf retries, posts, peers or scans by default is off.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any, Protocol, cast

import kopf

from kubesynth_api.labels import GROUP, VERSION
from kubesynth_api.v1alpha1.synthetic_data_job import PLURAL
from kubesynth_operator.observation import JobKey
from kubesynth_operator.settings import OperatorSettings


class JobEvents(Protocol):
    """Who wants to know. Calls return at once and never fail."""

    def changed(self, key: JobKey, version: str) -> None:
        """A job was created or changed, or exists at start-up."""
        ...

    def looked_at(self, raw: dict[str, Any]) -> None:
        """What a job looks like that was created or changed; told before `changed`."""
        ...

    def deleted(self, key: JobKey) -> None:
        """A job is gone."""
        ...


class _Forever:
    """Pauses in seconds between tries: Kopf's watch ends, for good, where they do.

    Also a right that was taken away, which Kopf tries again for as well, may be given back.
    """

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1.0, 2.0, 5.0, 10.0), itertools.repeat(20.0))


async def serve(settings: OperatorSettings, events: JobEvents, ready: asyncio.Event) -> None:
    """Watch jobs until SIGTERM; `ready` is set once the watch has begun."""
    await kopf.operator(
        registry=build_registry(events),
        settings=kopf_settings(settings),
        standalone=True,
        clusterwide=not settings.namespaces,
        namespaces=settings.namespaces,
        ready_flag=ready,
        # Or Kopf asks for the name of this user, and one that a platform chose has none.
        identity=cast(Any, settings.identity),
    )


def build_registry(events: JobEvents) -> kopf.OperatorRegistry:
    """Return a registry with one handler and one way to log in."""
    registry = kopf.OperatorRegistry()

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def on_job_event(event: Any, namespace: str | None, name: str | None, **_: Any) -> None:
        key = JobKey(namespace or "", name or "")
        if event["type"] == "DELETED":
            events.deleted(key)
        else:
            events.looked_at(dict(event["object"]))
            events.changed(key, str(event["object"]["metadata"].get("resourceVersion", "")))

    # Without this Kopf would log in through any client library that it finds installed.
    @kopf.on.login(registry=registry)
    async def on_login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        in_cluster = kopf.login_with_service_account(**kwargs)
        return in_cluster or kopf.login_with_kubeconfig(**kwargs)

    return registry


def kopf_settings(settings: OperatorSettings) -> kopf.OperatorSettings:
    """Return settings under which Kopf watches and does nothing else."""
    result = kopf.OperatorSettings()
    # Namespaces and CRDs are not scanned: that would need cluster-wide permissions of its own.
    result.scanning.disabled = True
    result.posting.enabled = False
    result.peering.standalone = True
    result.networking.request_timeout = 30
    result.networking.connect_timeout = 5
    result.networking.error_backoffs = _Forever()
    # The server ends a watch before the client gives up on it; silence ends it sooner than both.
    result.watching.server_timeout = 300
    result.watching.client_timeout = 330
    result.watching.connect_timeout = 5
    result.watching.inactivity_timeout = 70
    result.watching.chunk_size = settings.limits.page_size
    return result
