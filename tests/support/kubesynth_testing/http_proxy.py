"""An HTTP proxy that wants a user and a password, on loopback: RFC 9110, CONNECT and absolute URLs.

Whatever host is asked for, it connects to one address of its own: names need not exist.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator

USER, PASSWORD = "ann", "s3cr:t@"
_EXPECTED = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
_REFUSAL = (
    b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=out\r\n"
    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)


class HttpProxy:
    """Serves while it is entered; `url` has no credentials in it."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self.url = ""
        # First lines of the requests that it let through, and how many it refused.
        self.passed: list[str] = []
        self.refused = 0
        self._under_way: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[HttpProxy]:
        """Listen on a free port."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield self
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._handle(reader, writer))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            line, *headers = head.decode("latin-1").split("\r\n")
            if f"proxy-authorization: basic {_EXPECTED}".lower() not in map(str.lower, headers):
                self.refused += 1
                writer.write(_REFUSAL)
                await writer.drain()
                return
            self.passed.append(line)
            there, back = await asyncio.open_connection("127.0.0.1", self._target_port)
            if line.startswith("CONNECT "):
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                back.write(head)
            await asyncio.gather(_copy(reader, back), _copy(there, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    except ConnectionError:
        pass
    finally:
        sink.close()
