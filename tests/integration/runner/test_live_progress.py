"""What a runner tells while it works: true, and about the whole shard."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from pathlib import Path

from kubesynth_api import runner_contract
from kubesynth_api.runner_contract import ProgressReport, RunnerPhase
from kubesynth_testing import runs
from kubesynth_testing.fake_llm import Faults
from kubesynth_testing.ports import free_port
from kubesynth_testing.recording_llm import RecordingLlm
from kubesynth_testing.runner_process import Nursery, Pod, RunnerProcess

DOCUMENTS = 60


async def test_progress_counts_earlier_attempts_and_never_falls(
    tmp_path: Path, server: RecordingLlm, nursery: Nursery
) -> None:
    server.set_faults(Faults(latency_seconds=0.05))
    spec = runs.a_run(
        tmp_path,
        documents=2 * DOCUMENTS,
        models=[runs.a_model(server.url, concurrency=8)],
        shards={"count": 2, "parallelism": 1},
    )
    assert await nursery.run(Pod(tmp_path / "plan", spec, RunnerPhase.PLAN)) == 0
    first = Pod(tmp_path / "first", spec, RunnerPhase.GENERATE, shard=1)
    pid = await nursery.start(first)
    seen = 0
    while seen < 20:
        seen = (await first.progress())["totals"]["records"]["done"]
        await asyncio.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    await nursery.exit_code(pid)

    second = Pod(tmp_path / "second", spec, RunnerPhase.GENERATE, shard=1)
    reports: list[ProgressReport] = []
    async with RunnerProcess(second) as process:
        ending = asyncio.create_task(process.exit_code())
        await second.get(runner_contract.HEALTH_PATH)
        while not ending.done() and len(reports) < 40:
            reports.append(ProgressReport.model_validate(await second.progress()))
            await asyncio.sleep(0.02)
            if reports[-1].totals.records.done >= DOCUMENTS - 10:
                break
        metrics = (await second.get(runner_contract.METRICS_PATH)).decode()
        assert await ending == 0

    known = [report for report in reports if report.totals.records.in_]
    assert known, "it ended before anybody could ask"
    assert {report.totals.records.in_ for report in known} == {DOCUMENTS}
    assert {(report.phase, report.shard_index) for report in reports} == {("generate", 1)}
    done = [report.totals.records.done for report in known]
    assert done == sorted(done)
    # Committed parts hold three rows, so all but the last few of what was seen is in them; the
    # rest comes back from the journal within moments.
    assert done[0] >= seen - 12
    rates = [report.records_per_second for report in known]
    assert max(rates) < 200  # what earlier attempts did is no speed of this one
    shown = dict(re.findall(r'kubesynth_runner_records_total\{state="(\w+)"\} ([\d.]+)', metrics))
    assert float(shown["done"]) >= done[-1]
    assert "kubesynth_runner_input_records 60.0" in metrics

    totals = second.message()["totals"]
    assert totals["records"] == {
        "in": DOCUMENTS,
        "done": DOCUMENTS,
        "accepted": 2 * DOCUMENTS,
        "filtered": 0,
        "failed": 0,
    }
    assert totals["requests"]["ok"] == 3 * DOCUMENTS


async def test_logs_are_json_lines_without_prompts(
    tmp_path: Path, server: RecordingLlm, nursery: Nursery
) -> None:
    pod = Pod(tmp_path / "pod", runs.a_run(tmp_path, models=[runs.a_model(server.url)]))
    assert await nursery.run(pod) == 0
    lines = [json.loads(line) for line in pod.log.read_text().splitlines()]
    assert [line["message"] for line in lines] == [
        "started",
        "planned",
        "claimed shard",
        "finished shard",
    ]
    assert "about mills" not in pod.log.read_text()


async def test_a_pod_tells_which_model_it_waits_for(tmp_path: Path, nursery: Nursery) -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    spec = runs.a_run(tmp_path, models=[runs.a_model(url)])
    assert await nursery.run(Pod(tmp_path / "plan", spec, RunnerPhase.PLAN)) == 0
    pod = Pod(tmp_path / "pod", spec, RunnerPhase.GENERATE)
    pid = await nursery.start(pod)
    message = ""
    async with asyncio.timeout(60):
        while not message:
            message = (await pod.progress()).get("message", "")
            await asyncio.sleep(0.02)
    assert message.startswith("waiting for generator: connection refused")
    assert url in message
    await asyncio.sleep(1.0)  # it tries again meanwhile
    os.kill(pid, signal.SIGTERM)
    assert await nursery.exit_code(pid) == runner_contract.ExitCode.CHECKPOINTED
    lines = [json.loads(line) for line in pod.log.read_text().splitlines()]
    told = [line for line in lines if line["message"] == "waiting for a model"]
    assert [(line["model"], url in line["why"]) for line in told] == [("generator", True)]
