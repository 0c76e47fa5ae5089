"""How far this process is, and the HTTP server that tells: /progress, /metrics, /healthz."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web
from pydantic import ValidationError

from kubesynth_api import runner_contract
from kubesynth_api.runner_contract import (
    LEFT_OUT_CHARACTERS,
    Lease,
    LeaseReport,
    ProgressReport,
    RunnerPhase,
)
from kubesynth_api.v1alpha1.spending import Price
from kubesynth_runner import errors
from kubesynth_runner.engine.connection import ModelConnection
from kubesynth_runner.engine.waiting import Waiting
from kubesynth_runner.shard_lease import ShardLease, StaleLeaseError, is_token
from kubesynth_runner.tally import Tally, told

# Time constant of the moving average of the rate.
RATE_WINDOW_SECONDS = 30.0


@dataclasses.dataclass(slots=True)
class Progress:
    """The live state of this process; whoever knows more writes it here."""

    phase: RunnerPhase
    shard_index: int = 0
    input_records: int = 0
    tally: Tally = dataclasses.field(default_factory=Tally)
    connections: Mapping[str, ModelConnection] = dataclasses.field(default_factory=dict)
    message: str = ""
    # What it waits for; while that is anything, it is the message.
    waiting: Waiting = dataclasses.field(default_factory=Waiting)
    lease: ShardLease | None = None
    # Which files of the input's folder are not read, in words.
    left_out: str = ""
    prices: Mapping[str, Price] = dataclasses.field(default_factory=dict)
    _rate: float = 0.0
    _last: tuple[float, int] | None = None

    def tick(self, now: float) -> None:
        """Update the rate; call it about once a second."""
        if self._last is not None and now > self._last[0]:
            seconds = now - self._last[0]
            current = (self.tally.done - self._last[1]) / seconds
            weight = 1 - math.exp(-seconds / RATE_WINDOW_SECONDS)
            self._rate += (current - self._rate) * (weight if self._rate else 1.0)
        self._last = (now, self.tally.done)

    def report(self) -> ProgressReport:
        """Return the body of /progress."""
        return ProgressReport(
            phase=self.phase,
            shard_index=self.shard_index,
            totals=self.tally.to_totals(self.input_records, self.prices),
            records_per_second=round(max(0.0, self._rate), 3),
            message=self.waiting.sentence or self.message,
            failures=told(self.tally.failures()),
            left_out=self.left_out[:LEFT_OUT_CHARACTERS],
            lease=self.lease.report() if self.lease else None,
        )


def application(progress: Progress, lease_token: str = "") -> web.Application:
    """Return the HTTP application of a runner pod. Without a token it takes no leases."""

    async def get_progress(_: web.Request) -> web.Response:
        body: dict[str, Any] = progress.report().to_wire()
        return web.Response(body=msgspec.json.encode(body), content_type="application/json")

    async def get_metrics(_: web.Request) -> web.Response:
        from kubesynth_runner import metrics  # nobody who starts waits for it

        headers = {"Content-Type": metrics.CONTENT_TYPE}
        return web.Response(body=metrics.exposition(progress), headers=headers)

    async def post_lease(request: web.Request) -> web.Response:
        if not is_token(lease_token, request.headers.get("Authorization", "")):
            return web.Response(status=401, text="wrong or missing token\n")
        held = progress.lease
        if held is None:
            return web.Response(status=503, text="no shard is open yet\n")
        try:
            lease = Lease.from_peer(await request.read())
        except ValidationError as exc:
            return web.Response(status=400, text=f"not a lease: {exc}\n")
        try:
            return _json(await held.take(lease), 200)
        except StaleLeaseError:
            return _json(held.report(), 409)
        except errors.RunnerError as exc:
            return web.Response(status=500, text=f"the lease was not stored: {exc}\n")

    async def get_health(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    app = web.Application()
    app.router.add_get(runner_contract.PROGRESS_PATH, get_progress)
    app.router.add_get(runner_contract.METRICS_PATH, get_metrics)
    app.router.add_get(runner_contract.HEALTH_PATH, get_health)
    app.router.add_post(runner_contract.LEASE_PATH, post_lease)
    return app


def _json(report: LeaseReport, status: int) -> web.Response:
    body = msgspec.json.encode(report.to_wire())
    return web.Response(body=body, status=status, content_type="application/json")


async def serve(progress: Progress, port: int, lease_token: str = "") -> web.AppRunner:
    """Start the server on all interfaces; the caller cleans the runner up."""
    runner = web.AppRunner(application(progress, lease_token), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, None, port).start()
    return runner
