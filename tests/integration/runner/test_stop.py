"""SIGTERM checkpoints: the process ends within 10 seconds, and nothing is paid for twice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from pathlib import Path

import pytest

from kubesynth_api.run_spec import RunSpec
from kubesynth_api.runner_contract import ExitCode, RunnerPhase
from kubesynth_testing import runs
from kubesynth_testing.fake_llm import Faults
from kubesynth_testing.ports import free_port
from kubesynth_testing.recording_llm import RecordingLlm
from kubesynth_testing.runner_process import Nursery, Pod, RunnerProcess

DOCUMENTS = 30


def a_job(folder: Path, server: RecordingLlm) -> RunSpec:
    models = [runs.a_model(server.url)]
    return runs.a_run(folder, documents=DOCUMENTS, models=models)


async def until_received(server: RecordingLlm, requests: int) -> None:
    while len(server.documents) < requests:
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("latency_seconds", [0.05, 1.0])
async def test_stop_ends_with_143_and_what_was_under_way_is_kept(
    tmp_path: Path, server: RecordingLlm, nursery: Nursery, latency_seconds: float
) -> None:
    server.set_faults(Faults(latency_seconds=latency_seconds))
    spec = a_job(tmp_path, server)
    pod = Pod(tmp_path / "pod", spec)
    async with RunnerProcess(pod) as process:
        await until_received(server, 10)
        process.send(signal.SIGTERM)
        process.send(signal.SIGTERM)
        began = time.monotonic()
        assert await process.exit_code() == ExitCode.CHECKPOINTED
        assert time.monotonic() - began < 10
    assert pod.message()["error"]["reason"] == "SuspendedByUser"
    server.set_faults(Faults())
    assert await nursery.run(Pod(tmp_path / "pod", spec)) == 0
    assert len(runs.read_rows(tmp_path / "out")) == 2 * DOCUMENTS
    # Even what was in flight was answered in time, so that nothing at all is asked again.
    asked = {key: server.statistics.received[key] for key in server.documents}
    assert set(asked.values()) == {1}


async def test_server_that_hangs_does_not_hold_the_process(
    tmp_path: Path, server: RecordingLlm, nursery: Nursery
) -> None:
    server.set_faults(Faults(hang_rate=0.3))
    spec = a_job(tmp_path, server)
    pid = await nursery.start(Pod(tmp_path / "pod", spec))
    while server.statistics.in_flight < 4:
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    finished = set(server.statistics.answered)
    os.kill(pid, signal.SIGTERM)
    began = time.monotonic()
    assert await nursery.exit_code(pid) == ExitCode.CHECKPOINTED
    assert time.monotonic() - began < 10
    server.set_faults(Faults())
    server.statistics.received.clear()
    assert await nursery.run(Pod(tmp_path / "pod", spec)) == 0
    assert len(runs.read_rows(tmp_path / "out")) == 2 * DOCUMENTS
    assert not finished & server.documents.keys() & server.statistics.received.keys()


async def test_stop_while_waiting_for_the_model(
    tmp_path: Path, server: RecordingLlm, nursery: Nursery
) -> None:
    models = [runs.a_model(f"http://127.0.0.1:{free_port()}/v1")]
    spec = runs.a_run(tmp_path, models=models)
    pod = Pod(tmp_path / "pod", spec)
    pid = await nursery.start(pod)
    await pod.progress()
    while not list((tmp_path / "out").rglob("claims/*")):
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.3)
    os.kill(pid, signal.SIGTERM)
    began = time.monotonic()
    assert await nursery.exit_code(pid) == ExitCode.CHECKPOINTED
    assert time.monotonic() - began < 3


async def test_stop_while_the_model_hangs_at_the_first_question(
    tmp_path: Path, server: RecordingLlm, nursery: Nursery
) -> None:
    server.set_faults(Faults(hang_rate=1.0))
    pid = await nursery.start(Pod(tmp_path / "pod", a_job(tmp_path, server)))
    while not server.statistics.in_flight:
        await asyncio.sleep(0.02)
    os.kill(pid, signal.SIGTERM)
    began = time.monotonic()
    assert await nursery.exit_code(pid) == ExitCode.CHECKPOINTED
    assert time.monotonic() - began < 3


async def test_stop_during_plan(tmp_path: Path, server: RecordingLlm, nursery: Nursery) -> None:
    runs.write_documents(tmp_path / "in", 60_000, per_file=20_000)
    spec = runs.a_run(tmp_path, models=[runs.a_model(server.url)])
    pod = Pod(tmp_path / "pod", spec, RunnerPhase.PLAN)
    pid = await nursery.start(pod)
    while not (tmp_path / "out/run.json").exists():
        await asyncio.sleep(0.002)
    os.kill(pid, signal.SIGTERM)
    began = time.monotonic()
    assert await nursery.exit_code(pid) == ExitCode.CHECKPOINTED
    assert time.monotonic() - began < 10
    assert await nursery.run(Pod(tmp_path / "pod", spec, RunnerPhase.PLAN)) == 0
    assert pod.message()["inputRecords"] == 60_000


async def test_stop_at_any_moment_of_the_start_is_143(
    tmp_path: Path, server: RecordingLlm, nursery: Nursery
) -> None:
    server.set_faults(Faults(latency_seconds=0.05))
    spec = a_job(tmp_path, server)
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    draw = random.Random(seed)
    codes = []
    for _ in range(10):
        pid = await nursery.start(Pod(tmp_path / "pod", spec))
        await asyncio.sleep(draw.uniform(0, 0.15))
        with contextlib.suppress(ProcessLookupError):  # done already
            os.kill(pid, signal.SIGTERM)
        codes.append(await nursery.exit_code(pid))
    # A process that has not even begun dies of the signal, which Kubernetes reports as 143 too.
    assert set(codes) <= {ExitCode.CHECKPOINTED, -signal.SIGTERM, ExitCode.OK}
    assert codes.count(ExitCode.OK) < 5
    assert await nursery.run(Pod(tmp_path / "pod", spec)) == 0
    assert len(runs.read_rows(tmp_path / "out")) == 2 * DOCUMENTS
    assert {server.statistics.received[key] for key in server.documents} == {1}
