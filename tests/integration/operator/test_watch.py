"""The watch of child kinds on a real API server: gaps, cuts and versions that are too old."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import urllib.parse
from collections.abc import AsyncIterator, Set
from contextlib import asynccontextmanager
from typing import Any

import pytest
import yaml

from kubesynth_operator.kube import errors
from kubesynth_operator.kube.client import KubeClient
from kubesynth_operator.kube.resources import CONFIG_MAPS, SYNTHETIC_DATA_JOBS
from kubesynth_operator.kube.watch import Feedback, Name, Scope, Watch
from kubesynth_operator.metrics import Metrics
from kubesynth_operator.unreadable import Unreadable
from kubesynth_testing.apiserver import ApiServer
from kubesynth_testing.operator_harness import Namespace, eventually
from kubesynth_testing.relay import pump

SELECTOR = "watched=yes"


class Names:
    """A sink that knows the names of what exists."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.lists = 0

    def keep(self, namespace: str | None, names: Set[Name]) -> None:
        self.lists += 1
        self.known &= {name for _, name in names}

    def upsert(self, raw: dict[str, Any]) -> None:
        self.known.add(raw["metadata"]["name"])

    def delete(self, raw: dict[str, Any]) -> None:
        self.known.discard(raw["metadata"]["name"])


@dataclasses.dataclass
class Proxy:
    """A TCP proxy before the API server that can be cut like a cable."""

    host: str
    port: int
    address: int = 0
    up: bool = True
    _open: set[asyncio.StreamWriter] = dataclasses.field(default_factory=set)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Proxy]:
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.address = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self.cut()
            server.close()
            await server.wait_closed()

    def cut(self) -> None:
        """Break every connection and refuse new ones, until `up` is set again."""
        self.up = False
        for writer in self._open:
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.up:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection(self.host, self.port)
        self._open |= {writer, back}
        with contextlib.suppress(OSError):
            await asyncio.gather(pump(reader, back), pump(there, writer))
        self._open -= {writer, back}


def a_config_map(name: str, *, watched: bool = True) -> dict[str, Any]:
    labels = {"watched": "yes"} if watched else {}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": labels},
    }


async def create(namespace: Namespace, *names: str, watched: bool = True) -> None:
    for name in names:
        manifest = a_config_map(name, watched=watched)
        await namespace.client.create(CONFIG_MAPS, namespace.name, manifest)


async def remove(namespace: Namespace, name: str) -> None:
    found = await namespace.client.get(CONFIG_MAPS, namespace.name, name)
    await namespace.client.delete(
        CONFIG_MAPS, namespace.name, name, uid=found["metadata"]["uid"], foreground=False
    )


@asynccontextmanager
async def watching(client: KubeClient, namespace: Namespace) -> AsyncIterator[Names]:
    """Watch ConfigMaps in pages of two."""
    names = Names()
    scope = Scope(CONFIG_MAPS, namespace.name, SELECTOR, page_size=2)
    feedback = Feedback(lambda: None, Unreadable(Metrics()))
    watch = Watch(client, scope, names, feedback)
    task = asyncio.create_task(watch.run())
    try:
        await watch.synced.wait()
        yield names
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(names: Names, *wanted: str) -> None:
    async def look() -> bool:
        return names.known == set(wanted)

    try:
        await eventually(look, f"exactly {wanted} are known", seconds=20)
    except AssertionError as exc:
        raise AssertionError(f"{exc}, not {names.known}") from None


async def test_a_list_in_pages_then_every_change_of_what_is_selected(
    client: KubeClient, namespace: Namespace
) -> None:
    await create(namespace, "a", "b", "c", "d", "e")
    await create(namespace, "unselected", watched=False)
    async with watching(client, namespace) as names:
        assert names.known == {"a", "b", "c", "d", "e"}
        await create(namespace, "f")
        await remove(namespace, "b")
        await until(names, "a", "c", "d", "e", "f")
        assert names.lists == 1


async def test_what_loses_its_label_is_gone(client: KubeClient, namespace: Namespace) -> None:
    await create(namespace, "a", "b")
    async with watching(client, namespace) as names:
        unlabel = {"metadata": {"labels": {"watched": None}}}
        await client.merge_patch(CONFIG_MAPS, namespace.name, "a", unlabel)
        await until(names, "b")


async def test_deletions_while_the_cable_is_cut_are_not_missed(
    api_server: ApiServer, client: KubeClient, namespace: Namespace
) -> None:
    await create(namespace, "a", "b")
    url = urllib.parse.urlsplit(api_server.url)
    async with Proxy(url.hostname or "", url.port or 0).serve() as proxy:
        config = yaml.safe_load(api_server.kubeconfig.read_text())
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{proxy.address}"
        path = api_server.folder / "through-proxy.kubeconfig"
        path.write_text(yaml.safe_dump(config))
        through = await KubeClient.connect(str(path))
        try:
            async with watching(through, namespace) as names:
                assert names.known == {"a", "b"}
                proxy.cut()
                await remove(namespace, "a")
                await create(namespace, "c")
                await asyncio.sleep(1)
                assert names.known == {"a", "b"}, "nothing comes through"
                proxy.up = True
                await until(names, "b", "c")
                assert names.lists > 1
        finally:
            await through.close()


async def test_a_version_that_is_too_old_is_answered_with_gone(
    client: KubeClient, namespace: Namespace
) -> None:
    # The history of a custom resource begins with its CRD, long after version 1.
    query = {"resourceVersion": "1"}
    async with client.watch(SYNTHETIC_DATA_JOBS, namespace.name, query, 5) as events:
        with pytest.raises(errors.GoneError, match="too old resource version"):
            await anext(events)


class ForgetfulClient(KubeClient):
    """A client whose first watches expire as real ones do: with a 410, after a while."""

    expirations = 0

    @asynccontextmanager
    async def watch(self, *arguments: Any) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        if self.expirations > 0:
            self.expirations -= 1
            await asyncio.sleep(0.5)
            raise errors.from_refusal("watch", errors.Refusal(410, "Expired", "too old"))
        async with super().watch(*arguments) as events:
            yield events


async def test_a_watch_that_expires_lists_again_and_finds_what_is_gone(
    api_server: ApiServer, namespace: Namespace
) -> None:
    await create(namespace, "a", "b")
    client = await ForgetfulClient.connect(str(api_server.kubeconfig))
    assert isinstance(client, ForgetfulClient)
    client.expirations = 2
    try:
        async with watching(client, namespace) as names:
            await remove(namespace, "a")
            await until(names, "b")
            await create(namespace, "c")
            await until(names, "b", "c")

            async def was_listed_again() -> bool:
                return names.lists == 3

            await eventually(was_listed_again, "both expirations were followed by a list")
    finally:
        await client.close()
