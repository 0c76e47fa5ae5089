"""Two live writers of one shard, in any order, end with one result."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from pathlib import Path

import pytest

from kubesynth_api.run_spec import RunSpec
from kubesynth_api.runner_contract import ExitCode, RunnerPhase
from kubesynth_runner.io import layout
from kubesynth_testing import runs
from kubesynth_testing.fake_llm import Faults
from kubesynth_testing.recording_llm import RecordingLlm
from kubesynth_testing.runner_process import Nursery, Pod

DOCUMENTS = 40
NAMES = layout.RunLayout("uid-1")


def a_job(folder: Path, server: RecordingLlm, **fields: str) -> RunSpec:
    return runs.a_run(
        folder,
        documents=DOCUMENTS,
        models=[runs.a_model(server.url)],
        output={"rowsPerPart": 4, **fields},
    )


async def plan(folder: Path, server: RecordingLlm, nursery: Nursery) -> RunSpec:
    spec = a_job(folder, server)
    assert await nursery.run(Pod(folder / "plan", spec, RunnerPhase.PLAN)) == 0
    return spec


async def check(folder: Path, spec: RunSpec, nursery: Nursery) -> None:
    """Finalize and make sure that every document has its two rows, once."""
    for log in folder.rglob("log.jsonl"):
        assert '"crashed"' not in log.read_text(), log
    assert await nursery.run(Pod(folder / "finalize", spec, RunnerPhase.FINALIZE)) == 0
    rows = runs.read_rows(folder / "out")
    assert len(rows) == len({row["id"] for row in rows}) == 2 * DOCUMENTS
    manifest = runs.read_manifest(folder / "out")
    on_disk = {f"data/{path.name}" for path in (folder / "out/data").iterdir()}
    assert on_disk == {file.path for file in manifest.data}


async def until_committed(folder: Path, parts: int) -> None:
    while not (folder / "out" / NAMES.commit(0, parts - 1)).exists():
        await asyncio.sleep(0.002)


@pytest.mark.parametrize("writers", [2, 4])
async def test_writers_that_begin_together_end_with_one_result(
    tmp_path: Path, server: RecordingLlm, nursery: Nursery, writers: int
) -> None:
    server.set_faults(Faults(latency_seconds=0.02))
    spec = await plan(tmp_path, server, nursery)
    pids = [
        await nursery.start(Pod(tmp_path / f"pod-{number}", spec, RunnerPhase.GENERATE))
        for number in range(writers)
    ]
    codes = [await nursery.exit_code(pid) for pid in pids]
    assert set(codes) <= {ExitCode.OK, ExitCode.RETRY}
    if ExitCode.OK not in codes:  # each was overtaken by the next: the next attempt ends it
        assert await nursery.run(Pod(tmp_path / "again", spec, RunnerPhase.GENERATE)) == 0
    await check(tmp_path, spec, nursery)


async def test_writer_that_is_overtaken_gives_up_within_seconds(
    tmp_path: Path, server: RecordingLlm, nursery: Nursery
) -> None:
    server.set_faults(Faults(latency_seconds=0.2))
    spec = await plan(tmp_path, server, nursery)
    old_pod = Pod(tmp_path / "old", spec, RunnerPhase.GENERATE)
    old = await nursery.start(old_pod)
    await until_committed(tmp_path, 1)
    new = await nursery.start(Pod(tmp_path / "new", spec, RunnerPhase.GENERATE))
    assert await nursery.exit_code(old, 5) == ExitCode.RETRY
    assert "newer writer" in old_pod.message()["error"]["message"]
    assert await nursery.exit_code(new) == 0
    await check(tmp_path, spec, nursery)


@pytest.mark.parametrize("attempt", range(6))
async def test_stopped_writer_that_wakes_up_later_changes_nothing(
    tmp_path: Path, server: RecordingLlm, nursery: Nursery, attempt: int
) -> None:
    """As on a node that was cut off: its pod was replaced, and comes back."""
    server.set_faults(Faults(latency_seconds=0.01))
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    draw = random.Random(seed)
    spec = await plan(tmp_path, server, nursery)
    old = await nursery.start(Pod(tmp_path / "old", spec, RunnerPhase.GENERATE))
    await until_committed(tmp_path, draw.randrange(1, 6))
    await asyncio.sleep(draw.uniform(0, 0.02))
    os.kill(old, signal.SIGSTOP)
    new = await nursery.start(Pod(tmp_path / "new", spec, RunnerPhase.GENERATE))
    if attempt % 2:  # wakes while the new one is at work
        await asyncio.sleep(draw.uniform(0, 0.3))
        os.kill(old, signal.SIGCONT)
        codes = {await nursery.exit_code(new), await nursery.exit_code(old)}
        assert codes <= {ExitCode.OK, ExitCode.RETRY}
    else:  # wakes when everything is over
        assert await nursery.exit_code(new) == 0
        before = runs.read_committed(tmp_path / "out/data")
        os.kill(old, signal.SIGCONT)
        assert await nursery.exit_code(old) in (ExitCode.OK, ExitCode.RETRY)
        assert runs.read_committed(tmp_path / "out/data") == before
    if not (tmp_path / "out" / NAMES.shard_manifest(0)).exists():
        assert await nursery.run(Pod(tmp_path / "again", spec, RunnerPhase.GENERATE)) == 0
    await check(tmp_path, spec, nursery)


async def test_pod_of_an_overwritten_job_stops_without_a_trace(
    tmp_path: Path, server: RecordingLlm, nursery: Nursery
) -> None:
    """Deleted and applied again within a second: the old pod is still at work."""
    server.set_faults(Faults(latency_seconds=0.03))
    spec = await plan(tmp_path, server, nursery)
    old = await nursery.start(Pod(tmp_path / "old", spec, RunnerPhase.GENERATE))
    await until_committed(tmp_path, 2)
    again = a_job(tmp_path, server, ifExists="Overwrite").model_copy(update={"uid": "uid-2"})
    assert await nursery.run(Pod(tmp_path / "new", again)) == 0
    assert await nursery.exit_code(old, 5) in (ExitCode.RETRY, ExitCode.CONFIGURATION)
    await check(tmp_path, again, nursery)
    assert await nursery.run(Pod(tmp_path / "old", spec, RunnerPhase.GENERATE)) == 64
