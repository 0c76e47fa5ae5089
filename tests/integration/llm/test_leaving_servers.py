"""The client and a server that gives up what it is asked, as one does whose engine stops.

The server is a fake: on connections that it has from before, it says at once that it gives up, in
the words of vLLM's source. Who connects anew reaches another one, as behind a Service.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest

from kubesynth_runner.llm.base import CompletionRequest, Message
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.openai import OpenAIChatClient, OpenAIEndpoint

REQUEST = CompletionRequest((Message("user", "Hello"),))


class Service:
    """Answers on every connection; those made before `leave` give up from then on."""

    def __init__(self) -> None:
        self.url = ""
        self.connections = 0
        self.given_up = 0
        self._left_below = 0

    def leave(self) -> None:
        """Take the server away that all connections lead to."""
        self._left_below = self.connections

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        self.connections += 1
        number, lasts = self.connections, True
        with contextlib.suppress(asyncio.IncompleteReadError):
            while lasts:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                [length] = [
                    int(line.split(b":")[1])
                    for line in head.splitlines()
                    if line.startswith(b"content-length:")
                ]
                await reader.readexactly(length)
                lasts = b"connection: close" not in head
                writer.write(self._reply(number <= self._left_below, lasts))
                await writer.drain()
        writer.close()

    def _reply(self, gives_up: bool, lasts: bool) -> bytes:
        self.given_up += gives_up
        text, reason = ("", "abort") if gives_up else ("Hi.", "stop")
        choice = {"index": 0, "message": {"content": text}, "finish_reason": reason}
        body = json.dumps({"choices": [choice]}).encode()
        state = "keep-alive" if lasts else "close"
        head = f"HTTP/1.1 200 OK\r\nConnection: {state}\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    async with await asyncio.start_server(service.answer, "127.0.0.1", 0) as listener:
        host, port = listener.sockets[0].getsockname()[:2]
        service.url = f"http://{host}:{port}/v1"
        yield service


async def test_connections_to_a_server_that_leaves_are_given_up_one_by_one(
    service: Service,
) -> None:
    client = OpenAIChatClient(OpenAIEndpoint(service.url, "m", max_connections=4))
    try:
        await asyncio.gather(*(client.complete(REQUEST) for _ in range(4)))
        assert service.connections == 4
        service.leave()
        kinds = [await _kind(client) for _ in range(10)]
        assert kinds[-1] is None
        # The first answer still leaves its connection open, which is then used once more.
        assert 4 <= service.given_up <= 5
        assert kinds.count(ErrorKind.OVERLOADED) == service.given_up
        assert kinds.count(None) == 10 - service.given_up
    finally:
        await client.close()


async def _kind(client: OpenAIChatClient) -> ErrorKind | None:
    """Send a request; return what went wrong, if anything did."""
    try:
        completion = await client.complete(REQUEST)
    except ClientError as failure:
        return failure.kind
    assert completion.text == "Hi."
    return None
