"""A relay of TCP connections that can cut them all, as a load balancer does that is replaced."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit


class Relay:
    """Passes bytes on to a port of this machine. `async with Relay(port) as relay: ...`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._open: set[asyncio.Task[None]] = set()
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self.cut()

    async def cut(self) -> None:
        """Close every connection; new ones are taken."""
        for task in (cut := list(self._open)):
            task.cancel()
        await asyncio.gather(*cut, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            there, out = await asyncio.open_connection("127.0.0.1", self._target)
            try:
                await asyncio.gather(_pump(reader, out), _pump(there, writer))
            finally:
                out.transport.abort()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


def through(relay: Relay, url: str, kubeconfig: Path, folder: Path) -> Path:
    """Return a kubeconfig like another one, for the server at `url` behind a relay."""
    address = urlsplit(url)
    found = folder / "relay.kubeconfig"
    found.write_text(
        kubeconfig.read_text().replace(url, f"{address.scheme}://127.0.0.1:{relay.port}")
    )
    return found
