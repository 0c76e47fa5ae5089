"""The operator's own HTTP endpoint: `/healthz`, `/readyz` and `/metrics`.

`/healthz` answers 503 when a watch is stale, so that the kubelet restarts a process that is alive
and blind. `/readyz` answers 503 until the watches have their first list; a standby is ready.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry, exposition


@asynccontextmanager
async def serve(
    port: int,
    registry: CollectorRegistry,
    *,
    complaints: Callable[[], list[str]],
    is_ready: Callable[[], bool],
    host: str | None = None,
) -> AsyncIterator[int]:
    """Serve probes for the length of the block, on all interfaces or on `host`; yields the port."""

    async def healthz(_: web.Request) -> web.Response:
        found = complaints()
        return web.Response(status=503 if found else 200, text="\n".join(found) or "ok")

    async def readyz(_: web.Request) -> web.Response:
        ready = is_ready()
        return web.Response(status=200 if ready else 503, text="ok" if ready else "starting")

    async def metrics(_: web.Request) -> web.Response:
        headers = {"Content-Type": exposition.CONTENT_TYPE_LATEST}
        return web.Response(body=exposition.generate_latest(registry), headers=headers)

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
