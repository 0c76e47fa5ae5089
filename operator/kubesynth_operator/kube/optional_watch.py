"""A watch of a kind that not every cluster has: it follows the kind as it comes and goes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from enum import Enum

from kubesynth_operator.kube import errors
from kubesynth_operator.kube.client import KubeClient
from kubesynth_operator.kube.watch import Feedback, Scope, Sink, Watch
from kubesynth_operator.unreadable import Unreadable

_LOOK_AGAIN_SECONDS = 15.0


class Presence(Enum):
    """Whether objects of a kind can be had."""

    INSTALLED = "Installed"
    MISSING = "Missing"  # the API server does not know the kind
    DENIED = "Denied"  # we may not list it


class OptionalWatch(Watch):
    """Keeps one sink current with one scope, as long as the API server knows the kind.

    It counts as synced as soon as it is known whether there is such a kind. `changed` is called
    when that changes. There is no heartbeat: where the kind is missing nobody speaks.
    """

    def __init__(
        self,
        client: KubeClient,
        scope: Scope,
        sink: Sink,
        changed: Callable[[], None],
        unreadable: Unreadable,
    ) -> None:
        super().__init__(client, scope, sink, Feedback(lambda: None, unreadable))
        self._changed = changed
        self.presence = Presence.MISSING

    async def run(self) -> None:
        """Look for the kind, and list and watch it while it is there, until cancelled."""
        following: asyncio.Task[None] | None = None
        try:
            while True:
                found = await self._look()
                if found is Presence.INSTALLED and following is None:
                    following = asyncio.create_task(super().run())
                elif found in (Presence.MISSING, Presence.DENIED) and following is not None:
                    following.cancel()
                    await asyncio.wait([following])
                    following = None
                    self._sink.keep(self._scope.namespace, frozenset())
                if following is not None and following.done():
                    following.result()  # it never ends by itself
                if found is not None:
                    self._note(found)
                await asyncio.sleep(_LOOK_AGAIN_SECONDS * random.uniform(0.75, 1.25))
        finally:
            if following is not None:
                following.cancel()

    async def _look(self) -> Presence | None:
        """Return whether the kind is there; None when nobody answered."""
        try:
            await self._client.list_page(
                self._scope.resource, self._scope.namespace, {"limit": "1"}
            )
        except errors.NotFoundError:
            return Presence.MISSING
        except errors.ForbiddenError:
            return Presence.DENIED
        except errors.KubeError:
            return None
        return Presence.INSTALLED

    def _note(self, found: Presence) -> None:
        before, self.presence = self.presence, found
        if found is not Presence.INSTALLED:
            # Otherwise the first list says so.
            self.synced.set()
        if found is not before:
            self._changed()
