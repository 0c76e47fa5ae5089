"""A relay of TCP connections that can cut them all, as a load balancer does that is replaced."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit


class Relay:
    """Passes bytes on to a port of this machine. `async with Relay(port) as relay: ...`.

    Without `port` it listens on a free one. What is still open at the end of the block is closed.
    """

    def __init__(self, target: int, host: str = "127.0.0.1", port: int = 0) -> None:
        self._target = target
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self.host = host
        self.port = port

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connect, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        # A connection that is being accepted while its server is closed is left open and forgotten
        # (asyncio before Python 3.12): first no more are accepted, then those have their turn.
        for listening in self._server.sockets:
            asyncio.get_running_loop().remove_reader(listening)
        for _ in range(3):
            await asyncio.sleep(0)
        self._server.close()
        while self._open:
            await self._end(list(self._open))
            await asyncio.sleep(0)
        await self._server.wait_closed()

    async def cut(self) -> None:
        """Break every connection; new ones are taken."""
        for writer in self._open.values():
            writer.transport.abort()
        await self._end(list(self._open))

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer))
        self._open[task] = writer
        task.add_done_callback(self._open.pop)
        # Also of a task that is cancelled before it has begun.
        task.add_done_callback(lambda _: writer.close())

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            there, out = await asyncio.open_connection("127.0.0.1", self._target)
            with contextlib.closing(out):
                await asyncio.gather(pump(reader, out), pump(there, writer))


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes until no more does, and close the other side."""
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
