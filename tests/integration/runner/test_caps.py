"""Budgets, targets and leases of real runner processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import aiohttp

from kubesynth_api import runner_contract
from kubesynth_api.run_spec import RunSpec
from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_testing import runs
from kubesynth_testing.recording_llm import RecordingLlm
from kubesynth_testing.runner_process import Nursery, Pod

DOCUMENTS = 40
PRICES = {"generator": {"promptPerMillion": 1000.0, "completionPerMillion": 2000.0}}


def a_job(folder: Path, server: RecordingLlm, **spec: Any) -> RunSpec:
    models = [runs.a_model(server.url)]
    return runs.a_run(folder, documents=DOCUMENTS, models=models, **spec)


def tokens(message: dict[str, Any]) -> int:
    used = message["totals"]["tokens"]
    return int(used["prompt"] + used["completion"])


async def test_spent_budget_ends_the_run_and_a_higher_one_goes_on_with_it(
    tmp_path: Path, server: RecordingLlm, nursery: Nursery
) -> None:
    spec = a_job(tmp_path, server, budget={"tokens": 6000, "prices": PRICES})
    pod = Pod(tmp_path / "pod", spec)
    assert await nursery.run(pod) == 0
    message = pod.message()
    assert message["ended"] == "BudgetSpent"
    # A call of these takes less than 300 tokens, and four are under way at once.
    assert 6000 <= tokens(message) <= 6000 + 4 * 300
    assert message["totals"]["costUSD"] > 0
    out = tmp_path / "out"
    rows = len(runs.read_rows(out))
    assert 0 < rows < 2 * DOCUMENTS
    assert not (out / "_SUCCESS").exists()
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["ended"], manifest["complete"]) == ("BudgetSpent", False)
    assert "budget was spent" in (out / "report.md").read_text()
    richer = a_job(tmp_path, server, budget={"tokens": 10**6, "prices": PRICES})
    assert await nursery.run(Pod(tmp_path / "pod", richer)) == 0
    assert len(runs.read_rows(out)) == 2 * DOCUMENTS
    assert (out / "_SUCCESS").exists()
    # What was paid for in the first run was not asked again.
    assert {server.statistics.received[key] for key in server.documents} == {1}


async def test_reached_target_is_a_complete_dataset(
    tmp_path: Path, server: RecordingLlm, nursery: Nursery
) -> None:
    pod = Pod(tmp_path / "pod", a_job(tmp_path, server, target={"acceptedRecords": 20}))
    assert await nursery.run(pod) == 0
    assert pod.message()["ended"] == "TargetReached"
    rows = len(runs.read_rows(tmp_path / "out"))
    assert 20 <= rows <= 20 + 2  # two rows a document
    assert (tmp_path / "out" / "_SUCCESS").exists()
    missed = Pod(tmp_path / "pod", a_job(tmp_path, server, target={"acceptedRecords": 10**6}))
    assert await nursery.run(missed) == 0
    assert missed.message()["ended"] == "TargetMissed"
    assert len(runs.read_rows(tmp_path / "out")) == 2 * DOCUMENTS


async def lease_of(pod: Pod) -> dict[str, Any]:
    while True:
        report = (await pod.progress()).get("lease")
        if report is not None:
            return dict(report)
        await asyncio.sleep(0.02)


async def until_waiting(pod: Pod) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while True:
            report = await lease_of(pod)
            if report["waitsFor"]:
                return report
            await asyncio.sleep(0.02)


async def post(pod: Pod, lease: dict[str, Any], token: str) -> tuple[int, dict[str, Any]]:
    url = f"http://127.0.0.1:{pod.port}{runner_contract.LEASE_PATH}"
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json=lease, headers=headers) as response,
    ):
        text = await response.text()
        return response.status, json.loads(text) if text.startswith("{") else {}


async def test_shard_waits_at_its_cap_for_a_lease_that_outlives_its_pod(
    tmp_path: Path, server: RecordingLlm, nursery: Nursery
) -> None:
    spec = a_job(tmp_path, server, shards={"count": 2}, budget={"tokens": 8000})
    assert await nursery.run(Pod(tmp_path / "plan", spec, RunnerPhase.PLAN)) == 0
    pod = Pod(tmp_path / "pod", spec, RunnerPhase.GENERATE, 0)
    pod.environment[runner_contract.ENV_LEASE_TOKEN] = "secret"
    pid = await nursery.start(pod)
    held = await until_waiting(pod)
    assert held["waitsFor"] == "BudgetSpent"
    assert held["lease"]["caps"]["tokens"] == 4000
    assert held["lease"]["models"]["generator"]["concurrency"] == 2
    assert 4000 <= held["spent"]["tokens"] <= 4000 + 2 * 300
    share = {"concurrency": 3, "requestsPerMinute": 100000.0}
    lease = {"generation": 1, "models": {"generator": share}, "caps": {"tokens": 6000}}
    assert (await post(pod, lease, "wrong"))[0] == 401
    assert (await post(pod, {"generation": "x"}, "secret"))[0] == 400
    status, stale = await post(pod, {**lease, "generation": 7}, "secret")
    assert (status, stale["lease"]["generation"]) == (409, 0)
    status, taken = await post(pod, lease, "secret")
    assert (status, taken["lease"]) == (200, lease)
    held = await until_waiting(pod)
    assert held["spent"]["tokens"] >= 6000
    os.kill(pid, signal.SIGKILL)
    await nursery.exit_code(pid)
    pid = await nursery.start(pod)
    held = await until_waiting(pod)
    assert held["lease"]["generation"] == 1
    assert held["lease"]["caps"]["tokens"] == 6000
    assert held["lease"]["models"]["generator"]["concurrency"] == 2  # rates begin anew
    # A lease below what is spent goes as far as it can, and says so.
    status, taken = await post(pod, {**lease, "generation": 2, "caps": {"tokens": 1}}, "secret")
    assert (status, taken["lease"]["caps"]) == (200, {"tokens": held["spent"]["tokens"]})
    status, _ = await post(pod, {**lease, "generation": 3, "caps": {}}, "secret")
    assert status == 200
    assert await nursery.exit_code(pid) == 0
    assert pod.message()["lease"]["spent"]["tokens"] == tokens(pod.message())


async def test_waiting_shard_stops_at_once_and_keeps_its_rows(
    tmp_path: Path, server: RecordingLlm, nursery: Nursery
) -> None:
    spec = a_job(tmp_path, server, shards={"count": 2}, budget={"tokens": 8000})
    assert await nursery.run(Pod(tmp_path / "plan", spec, RunnerPhase.PLAN)) == 0
    pods = [Pod(tmp_path / f"pod-{n}", spec, RunnerPhase.GENERATE, n) for n in range(2)]
    pids = [await nursery.start(pod) for pod in pods]
    for pod, pid in zip(pods, pids, strict=True):
        await until_waiting(pod)
        os.kill(pid, signal.SIGTERM)
        assert await nursery.exit_code(pid, within_seconds=4) == 143
        assert pod.message()["lease"]["spent"]["tokens"] >= 4000
    finalize = Pod(tmp_path / "finalize", spec, RunnerPhase.FINALIZE)
    finalize.environment[runner_contract.ENV_PARTIAL] = "true"
    finalize.environment[runner_contract.ENV_OUTCOME] = "BudgetSpent"
    assert await nursery.run(finalize) == 0
    message = finalize.message()
    assert message["ended"] == "BudgetSpent"
    assert len(runs.read_rows(tmp_path / "out")) == message["totals"]["records"]["accepted"] > 0
    # Tokens that went into unfinished records are counted too.
    assert tokens(message) == sum(pod.message()["lease"]["spent"]["tokens"] for pod in pods)
