"""A proxy in front of a chat completions server that counts requests by their body.

A real model cannot say how often it was asked the same. The proxy passes requests and answers on as
they are, later if it is told to, and speaks of them as `fake_llm` does.

    python -m kubesynth_testing.counting_proxy --upstream http://127.0.0.1:8001

    POST /v1/...   GET /v1/...   GET /health     passed on
    GET  /stats                  what was asked and answered
    GET  /calls                  every distinct request, with how often it came
    POST /reset                  forget it
    POST /delay                  {"seconds": ...}: chat completions are passed on that much later
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from kubesynth_testing.fake_replies import body_hash

PORT = 8000
_PASSED_HEADERS = ("Content-Type", "Authorization", "Accept")
_TIMEOUT = aiohttp.ClientTimeout(total=600)


class CountingProxy:
    """Passes requests on to `upstream` and counts chat completions by the hash of their body."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream.rstrip("/")
        self._received: Counter[str] = Counter()
        self._answered: Counter[str] = Counter()
        self._bodies: dict[str, Any] = {}
        self._delay_seconds = 0.0
        self._client: aiohttp.ClientSession | None = None

    def application(self) -> web.Application:
        """Return the HTTP application."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.cleanup_ctx.append(self._with_client)
        app.add_routes(
            [
                web.get("/stats", self._on_stats),
                web.get("/calls", self._on_calls),
                web.post("/reset", self._on_reset),
                web.post("/delay", self._on_delay),
                web.post("/v1/chat/completions", self._on_chat),
                web.route("*", "/{path:.*}", self._pass_on),
            ]
        )
        return app

    async def _with_client(self, _: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as self._client:
            yield

    async def _on_stats(self, request: web.Request) -> web.Response:
        view = {
            "requests": self._received.total(),
            "unique_requests": len(self._received),
            "answered": self._answered.total(),
            "duplicates": {key: count for key, count in self._received.items() if count > 1},
            "answered_again": {key: count for key, count in self._answered.items() if count > 1},
        }
        return web.json_response(view)

    async def _on_calls(self, request: web.Request) -> web.Response:
        calls = [
            {"body": self._bodies[key], "received": count} for key, count in self._received.items()
        ]
        return web.json_response(calls)

    async def _on_delay(self, request: web.Request) -> web.Response:
        self._delay_seconds = float((await request.json())["seconds"])
        return web.json_response({})

    async def _on_reset(self, request: web.Request) -> web.Response:
        self._received.clear()
        self._answered.clear()
        self._bodies.clear()
        return web.json_response({})

    async def _on_chat(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        key = body_hash(body)
        self._received[key] += 1
        self._bodies[key] = body
        await asyncio.sleep(self._delay_seconds)
        response = await self._pass_on(request)
        if response.status == 200:
            self._answered[key] += 1
        return response

    async def _pass_on(self, request: web.Request) -> web.Response:
        assert self._client is not None, "the application runs"
        headers = {
            name: request.headers[name] for name in _PASSED_HEADERS if name in request.headers
        }
        try:
            async with self._client.request(
                request.method,
                self._upstream + request.path_qs,
                data=await request.read(),
                headers=headers,
            ) as answer:
                return web.Response(
                    status=answer.status,
                    body=await answer.read(),
                    content_type=answer.content_type,
                )
        except aiohttp.ClientConnectionError as exc:
            return web.json_response({"error": {"message": str(exc)}}, status=502)


def pod_files() -> dict[str, str]:
    """Return the files that a pod needs to run this proxy, name to text."""
    folder = Path(__file__).parent
    names = ("__init__.py", "counting_proxy.py", "fake_replies.py")
    return {name: (folder / name).read_text() for name in names}


async def _serve(upstream: str) -> None:
    # A client that gives up ends its request upstream too, as it would without the proxy.
    runner = web.AppRunner(CountingProxy(upstream).application(), handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", PORT).start()
    print(f"passing requests on to {upstream}", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--upstream", required=True, help="origin of the server")
    asyncio.run(_serve(parser.parse_args().upstream))


if __name__ == "__main__":
    main()
