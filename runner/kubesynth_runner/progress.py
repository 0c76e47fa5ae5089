"""How far this process is, and the HTTP server that tells: /progress, /metrics, /healthz."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from pydantic import ValidationError

from kubesynth_api import runner_contract
from kubesynth_api.runner_contract import Lease, LeaseReport, ProgressReport, RunnerPhase
from kubesynth_api.v1alpha1.spending import Price
from kubesynth_runner import errors
from kubesynth_runner.engine.calls import ModelConnection
from kubesynth_runner.shard_lease import ShardLease, StaleLeaseError, is_token
from kubesynth_runner.tally import Tally

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
    lease: ShardLease | None = None
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
            message=self.message,
            lease=self.lease.report() if self.lease else None,
        )


class ProgressCollector(Collector):
    """The progress as Prometheus metrics, read only when somebody asks."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        tally = self._progress.tally
        records = CounterMetricFamily(
            "kubesynth_runner_records", "Records by what became of them.", labels=["state"]
        )
        for state in ("done", "accepted", "filtered", "failed"):
            records.add_metric([state], getattr(tally, state))
        yield records
        tokens = CounterMetricFamily(
            "kubesynth_runner_tokens", "Tokens as the servers counted them.", labels=["kind"]
        )
        tokens.add_metric(["prompt"], tally.prompt_tokens)
        tokens.add_metric(["completion"], tally.completion_tokens)
        yield tokens
        requests = CounterMetricFamily(
            "kubesynth_runner_requests", "Requests to models by outcome.", labels=["outcome"]
        )
        requests.add_metric(["ok"], tally.requests_ok)
        requests.add_metric(["retried"], tally.requests_retried)
        requests.add_metric(["rate_limited"], tally.requests_rate_limited)
        yield requests
        yield GaugeMetricFamily(
            "kubesynth_runner_input_records",
            "Input records of this shard.",
            value=self._progress.input_records,
        )
        yield from self._gates()

    def _gates(self) -> Iterator[Metric]:
        in_flight = GaugeMetricFamily(
            "kubesynth_runner_requests_in_flight", "Requests under way.", labels=["model"]
        )
        limit = GaugeMetricFamily(
            "kubesynth_runner_concurrency_limit", "Requests allowed at once.", labels=["model"]
        )
        waiting = GaugeMetricFamily(
            "kubesynth_runner_requests_waiting", "Requests held back.", labels=["model"]
        )
        outage = GaugeMetricFamily(
            "kubesynth_runner_model_outage",
            "1 while the model answers nobody and the run waits for it.",
            labels=["model"],
        )
        for role, connection in self._progress.connections.items():
            outage.add_metric([role], float(connection.gate.admission.outage_since is not None))
            in_flight.add_metric([role], connection.gate.admission.in_flight)
            limit.add_metric([role], connection.gate.admission.slots)
            waiting.add_metric([role], connection.gate.waiting)
        yield in_flight
        yield limit
        yield waiting
        yield outage


def application(progress: Progress, lease_token: str = "") -> web.Application:
    """Return the HTTP application of a runner pod. Without a token it takes no leases."""
    registry = CollectorRegistry()
    registry.register(ProgressCollector(progress))

    async def get_progress(_: web.Request) -> web.Response:
        body: dict[str, Any] = progress.report().to_wire()
        return web.Response(body=msgspec.json.encode(body), content_type="application/json")

    async def get_metrics(_: web.Request) -> web.Response:
        headers = {"Content-Type": CONTENT_TYPE_LATEST}
        return web.Response(body=generate_latest(registry), headers=headers)

    async def post_lease(request: web.Request) -> web.Response:
        if not is_token(lease_token, request.headers.get("Authorization", "")):
            return web.Response(status=401, text="wrong or missing token\n")
        held = progress.lease
        if held is None:
            return web.Response(status=503, text="no shard is open yet\n")
        try:
            lease = Lease.model_validate_json(await request.read())
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
