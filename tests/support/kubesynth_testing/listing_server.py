"""A stand-in for an API server that may be listed or not, and a sink for what it lists.

Without sockets, for tests on virtual time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Set
from contextlib import asynccontextmanager
from typing import Any

from kubesynth_operator.kube import errors
from kubesynth_operator.kube.resources import Resource
from kubesynth_operator.kube.watch import Name

ONE = {"metadata": {"namespace": "team", "name": "one", "resourceVersion": "1"}}


class ListingServer:
    """Answers every list with one status code, and with `ONE` if it is 200."""

    def __init__(self, status: int = 404) -> None:
        self.status = status

    async def list_page(
        self, resource: Resource, namespace: str | None, query: Mapping[str, str]
    ) -> dict[str, Any]:
        """Answer a list, after a moment."""
        await asyncio.sleep(0.01)
        self._refuse("list")
        return {"metadata": {"resourceVersion": "1"}, "items": [ONE]}

    @asynccontextmanager
    async def watch(
        self, resource: Resource, namespace: str | None, query: Mapping[str, str], seconds: float
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Answer a watch, in which nothing happens."""
        self._refuse("watch")

        async def events() -> AsyncIterator[dict[str, Any]]:
            await asyncio.sleep(seconds)
            return
            yield

        yield events()

    def _refuse(self, what: str) -> None:
        if self.status != 200:
            raise errors.from_refusal(what, errors.Refusal(self.status, "Refused", "no"))


class KnownNames:
    """A sink that knows the names of what exists."""

    def __init__(self) -> None:
        self.known: set[str] = set()

    def keep(self, namespace: str | None, names: Set[Name]) -> None:
        """Drop all other names."""
        self.known &= {name for _, name in names}

    def upsert(self, raw: dict[str, Any]) -> None:
        """Take a name."""
        self.known.add(raw["metadata"]["name"])

    def delete(self, raw: dict[str, Any]) -> None:
        """Drop a name."""
        self.known.discard(raw["metadata"]["name"])
