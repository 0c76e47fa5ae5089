"""The progress of this process as Prometheus metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from kubesynth_runner.engine.connection import ModelConnection
from kubesynth_runner.tally import Tally

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Measured(Protocol):
    """What there is to tell of a process."""

    input_records: int
    tally: Tally
    connections: Mapping[str, ModelConnection]


def exposition(progress: Measured) -> bytes:
    """Return the metrics as they are now, in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(ProgressCollector(progress))
    return generate_latest(registry)


class ProgressCollector(Collector):
    """The progress as Prometheus metrics, read only when somebody asks."""

    def __init__(self, progress: Measured) -> None:
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
