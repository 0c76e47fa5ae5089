"""The operator's own endpoint over HTTP."""

from __future__ import annotations

import aiohttp
import pytest

from kubesynth_operator import probes
from kubesynth_operator.metrics import Metrics
from kubesynth_operator.observation import JobKey


@pytest.mark.parametrize(
    ("path", "complaints", "ready", "status", "says"),
    [
        pytest.param("/healthz", [], True, 200, "ok", id="healthy"),
        pytest.param("/healthz", ["watch jobs/* is silent"], True, 503, "jobs/*", id="blind"),
        pytest.param("/readyz", [], False, 503, "starting", id="starting"),
        pytest.param("/readyz", ["watch jobs/* is silent"], True, 200, "ok", id="ready"),
    ],
)
async def test_probes(
    path: str, complaints: list[str], ready: bool, status: int, says: str
) -> None:
    registry = Metrics().registry
    async with probes.serve(
        0,
        registry,
        complaints=lambda: complaints,
        is_ready=lambda: ready,
        host="127.0.0.1",
    ) as port:
        url = f"http://127.0.0.1:{port}{path}"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            assert response.status == status
            assert says in await response.text()


async def test_jobs_are_counted_by_phase() -> None:
    metrics = Metrics()
    metrics.job_seen(JobKey("a", "x"), "Running")
    metrics.job_seen(JobKey("a", "y"), "Running")
    metrics.job_seen(JobKey("a", "x"), "Complete")
    metrics.job_gone(JobKey("a", "y"))
    metrics.job_gone(JobKey("a", "never-seen"))
    async with probes.serve(
        0, metrics.registry, complaints=list, is_ready=lambda: True, host="127.0.0.1"
    ) as port:
        url = f"http://127.0.0.1:{port}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            text = await response.text()
    assert 'kubesynth_job_phase{phase="Complete"} 1.0' in text
    assert 'kubesynth_job_phase{phase="Running"} 0.0' in text
