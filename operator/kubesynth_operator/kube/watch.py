"""A list that stays current: pages first, then a watch, and a list again when the watch is lost.

Guarantees: the sink hears of every object that exists, and of every deletion, including those that
happened while no watch was open: after each list the sink is told all names that there are, and
what it knew beyond them is gone. Events of one watch arrive in order. It never gives up; its
heartbeat tells whether it still works. An object that its sink cannot read is left out, and hurts
no other.

Selects on the server by label, reads in pages, and asks for bookmarks, so that neither a big
cluster nor a quiet one costs more than it has to.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
from collections.abc import Callable, Set
from typing import Any, Protocol

from kubesynth_operator.kube import errors
from kubesynth_operator.kube.client import KubeClient
from kubesynth_operator.kube.resources import Resource
from kubesynth_operator.unreadable import Unreadable

_logger = logging.getLogger(__name__)

# The server ends the watch after so long; bookmarks come about every minute.
_WATCH_SECONDS = 240
_BACKOFF_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


# Namespace and name; the namespace is empty for kinds of the cluster.
Name = tuple[str, str]


class Sink(Protocol):
    """What keeps the objects of a watch. Calls do not block."""

    def upsert(self, raw: dict[str, Any]) -> None:
        """Take a new or changed object, or one that is known already."""
        ...

    def keep(self, namespace: str | None, names: Set[Name]) -> None:
        """Forget what is not among `names`, the objects in `namespace` (None: in the cluster)."""
        ...

    def delete(self, raw: dict[str, Any]) -> None:
        """Forget an object."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Scope:
    """What to watch: one kind, in one namespace (None: the cluster), with these labels."""

    resource: Resource
    namespace: str | None
    selector: str
    page_size: int = 500


@dataclasses.dataclass(frozen=True, slots=True)
class Feedback:
    """Who is told what a watch meets.

    `heartbeat` is called whenever the server speaks, `denied` when a namespace may not be listed
    any more (True), or again (False).
    """

    heartbeat: Callable[[], None]
    unreadable: Unreadable
    denied: Callable[[bool], None] = lambda is_denied: None


class Watch:
    """Keeps one sink current with one scope.

    A namespace that may not be listed counts as empty and known, until it may: its Role goes with
    it when it is deleted, and the other namespaces must not wait for it.
    """

    def __init__(self, client: KubeClient, scope: Scope, sink: Sink, feedback: Feedback) -> None:
        self._client = client
        self._scope = scope
        self._sink = sink
        self._feedback = feedback
        self.synced = asyncio.Event()
        self._is_denied = False

    async def run(self) -> None:
        """List and watch until cancelled."""
        failures = 0
        while True:
            try:
                version = await self._list()
                self._note_denied(False)
                self.synced.set()
                failures = 0
                await self._follow(version)
            except errors.GoneError:
                _logger.info("watch expired, listing again", extra=self._fields())
            except errors.KubeError as exc:
                if not self._is_denied:
                    _logger.warning("watch failed", extra={**self._fields(), "error": str(exc)})
                if isinstance(exc, errors.ForbiddenError) and self._scope.namespace is not None:
                    self._take_for_empty()
                delay = _BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS) - 1)]
                failures += 1
                jittered = delay * random.uniform(0.75, 1.25)
                await asyncio.sleep(max(jittered, exc.retry_after_seconds or 0.0))

    def _take_for_empty(self) -> None:
        # The server speaks, and a restart would change nothing.
        self._feedback.heartbeat()
        if not self._is_denied:
            self._note_denied(True)
            self._sink.keep(self._scope.namespace, frozenset())
            self.synced.set()

    def _note_denied(self, is_denied: bool) -> None:
        if is_denied is not self._is_denied:
            self._is_denied = is_denied
            self._feedback.denied(is_denied)

    async def _list(self) -> str:
        query = {"limit": str(self._scope.page_size), "labelSelector": self._scope.selector}
        names: set[Name] = set()
        while True:
            page = await self._client.list_page(self._scope.resource, self._scope.namespace, query)
            self._feedback.heartbeat()
            for raw in page.get("items") or ():
                names.add(_name(raw))
                self._put(raw)
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                break
            query = {**query, "continue": metadata["continue"]}
        self._sink.keep(self._scope.namespace, names)
        return str(metadata.get("resourceVersion", ""))

    async def _follow(self, version: str) -> None:
        """Watch from `version` on, over any number of connections, until that is not possible.

        Raises:
            GoneError: a version is too old; list again.
            KubeError: the server cannot be watched at the moment.
        """
        while True:
            query = {
                "labelSelector": self._scope.selector,
                "allowWatchBookmarks": "true",
                "resourceVersion": version,
                "timeoutSeconds": str(_WATCH_SECONDS),
            }
            async with self._client.watch(
                self._scope.resource, self._scope.namespace, query, _WATCH_SECONDS
            ) as events:
                self._feedback.heartbeat()
                async for event in events:
                    self._feedback.heartbeat()
                    version = self._take(event)
            # A server that hangs up at once must not be called in a loop.
            await asyncio.sleep(_BACKOFF_SECONDS[0])

    def _take(self, event: dict[str, Any]) -> str:
        raw = event["object"]
        match event["type"]:
            case "ADDED" | "MODIFIED":
                self._put(raw)
            case "DELETED":
                self._sink.delete(raw)
            case _:  # a bookmark carries a version and nothing else
                pass
        return str(raw["metadata"]["resourceVersion"])

    def _put(self, raw: dict[str, Any]) -> None:
        """Hand an object to the sink; of one that cannot be read it keeps what it had before."""
        version = str(raw["metadata"].get("resourceVersion", ""))
        name = "/".join(_name(raw)).lstrip("/")
        with self._feedback.unreadable.left_out(self._scope.resource.plural, name, version):
            self._sink.upsert(raw)

    def _fields(self) -> dict[str, object]:
        return {
            "resource": self._scope.resource.plural,
            "namespace": self._scope.namespace or "*",
        }


def _name(raw: dict[str, Any]) -> Name:
    metadata = raw["metadata"]
    return str(metadata.get("namespace") or ""), str(metadata["name"])
