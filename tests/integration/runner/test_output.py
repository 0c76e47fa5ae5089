"""Whose output it is, what it may hold, and what happens when it cannot be written."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubesynth_api.conditions import Reason
from kubesynth_api.run_spec import RunSpec
from kubesynth_api.runner_contract import ExitCode, RunnerPhase
from kubesynth_testing import runs
from kubesynth_testing.fake_llm import Faults
from kubesynth_testing.recording_llm import RecordingLlm
from kubesynth_testing.runner_process import Nursery, Pod

DOCUMENTS = 12


def a_job(folder: Path, server: RecordingLlm, uid: str, **fields: Any) -> RunSpec:
    models = [runs.a_model(server.url)]
    return runs.a_run(folder, documents=DOCUMENTS, models=models, uid=uid, name=uid, **fields)


@pytest.mark.parametrize(
    ("if_exists", "same_pipeline", "code"),
    [
        ("Fail", True, ExitCode.CONFIGURATION),
        ("Fail", False, ExitCode.CONFIGURATION),
        ("Resume", True, ExitCode.OK),
        ("Resume", False, ExitCode.CONFIGURATION),
        ("Overwrite", True, ExitCode.OK),
        ("Overwrite", False, ExitCode.OK),
    ],
)
async def test_output_that_holds_another_run(
    tmp_path: Path,
    server: RecordingLlm,
    nursery: Nursery,
    if_exists: str,
    same_pipeline: bool,
    code: ExitCode,
) -> None:
    assert await nursery.run(Pod(tmp_path / "1", a_job(tmp_path, server, "first"))) == 0
    before, asked = runs.read_rows(tmp_path / "out"), server.statistics.received.total()
    second = a_job(
        tmp_path,
        server,
        "second",
        output={"ifExists": if_exists},
        seed=1 if same_pipeline else 2,
    )
    pod = Pod(tmp_path / "2", second)
    assert await nursery.run(pod) == code
    if code:
        error = pod.message()["error"]
        assert error["reason"] == Reason.OUTPUT_CONFLICT
        assert f"file://{tmp_path}/out holds a run of the job 'first'" in error["message"]
    after = runs.read_rows(tmp_path / "out")
    assert len(after) == 2 * DOCUMENTS
    assert (runs.digest(after) == runs.digest(before)) == same_pipeline or bool(code)
    is_asked_again = server.statistics.received.total() > asked
    assert is_asked_again == (if_exists == "Overwrite")


async def test_files_of_nobodys_run_are_left_alone(
    tmp_path: Path, server: RecordingLlm, nursery: Nursery
) -> None:
    (tmp_path / "out/data").mkdir(parents=True)
    (tmp_path / "out/data/precious.parquet").write_bytes(b"x")
    pod = Pod(tmp_path / "1", a_job(tmp_path, server, "first"))
    assert await nursery.run(pod) == ExitCode.CONFIGURATION
    assert "data/precious.parquet but no run.json" in pod.message()["error"]["message"]
    assert (tmp_path / "out/data/precious.parquet").exists()


async def test_two_jobs_that_want_one_output_at_once(
    tmp_path: Path, server: RecordingLlm, nursery: Nursery
) -> None:
    pods = [Pod(tmp_path / uid, a_job(tmp_path, server, uid)) for uid in ("a", "b", "c")]
    pids = [await nursery.start(pod) for pod in pods]
    codes = [await nursery.exit_code(pid) for pid in pids]
    assert sorted(codes) == [ExitCode.OK, ExitCode.CONFIGURATION, ExitCode.CONFIGURATION]
    assert len(runs.read_rows(tmp_path / "out")) == 2 * DOCUMENTS


async def test_two_jobs_that_resume_one_output_at_once(
    tmp_path: Path, server: RecordingLlm, nursery: Nursery
) -> None:
    server.set_faults(Faults(latency_seconds=0.02))
    output = {"ifExists": "Resume"}
    specs = [a_job(tmp_path, server, uid, output=output) for uid in ("a", "b")]
    pids = [await nursery.start(Pod(tmp_path / spec.uid, spec)) for spec in specs]
    codes = {await nursery.exit_code(pid) for pid in pids}
    assert codes <= {ExitCode.OK, ExitCode.RETRY}
    for spec in specs:  # what Kubernetes does with a 75
        assert await nursery.run(Pod(tmp_path / spec.uid, spec)) == 0
    rows = runs.read_rows(tmp_path / "out")
    assert len(rows) == len({row["id"] for row in rows}) == 2 * DOCUMENTS


async def test_changed_input_is_named_at_the_next_attempt(
    tmp_path: Path, server: RecordingLlm, nursery: Nursery
) -> None:
    spec = a_job(tmp_path, server, "first")
    assert await nursery.run(Pod(tmp_path / "1", spec, RunnerPhase.PLAN)) == 0
    runs.write_documents(tmp_path / "in", DOCUMENTS + 1)
    pod = Pod(tmp_path / "2", spec, RunnerPhase.GENERATE)
    assert await nursery.run(pod) == ExitCode.CONFIGURATION
    error = pod.message()["error"]
    assert error["reason"] == Reason.INPUT_CHANGED
    assert f"file://{tmp_path}/in/docs-0000000.jsonl has changed" in error["message"]


async def test_output_that_cannot_be_written_is_named(
    tmp_path: Path, server: RecordingLlm, nursery: Nursery
) -> None:
    (tmp_path / "out").write_text("a file where a folder has to be")
    pod = Pod(tmp_path / "1", a_job(tmp_path, server, "first"))
    assert await nursery.run(pod) == ExitCode.CONFIGURATION
    error = pod.message()["error"]
    assert error["reason"] == Reason.OUTPUT_UNWRITABLE
    assert f"file://{tmp_path}/out" in error["message"]


async def test_broken_run_specification_is_a_configuration_error(
    tmp_path: Path, server: RecordingLlm, nursery: Nursery
) -> None:
    pod = Pod(tmp_path / "1", a_job(tmp_path, server, "first"))
    (tmp_path / "1/run.json").write_text('{"name": "qa"}')
    assert await nursery.run(pod) == ExitCode.CONFIGURATION
    assert pod.message()["error"]["reason"] == Reason.INVALID_SPEC


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount 1 MiB of memory as a file system that fills up quickly."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder = tmp_path / "out"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("left_bytes", [0, 20_000, 40_000, 60_000])
async def test_full_disk_can_be_tried_again_when_there_is_room(
    tmp_path: Path, small_disk: Path, server: RecordingLlm, nursery: Nursery, left_bytes: int
) -> None:
    spec = a_job(tmp_path, server, "first", output={"format": "Parquet"})
    assert await nursery.run(Pod(tmp_path / "1", spec, RunnerPhase.PLAN)) == 0
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * (shutil.disk_usage(small_disk).free - left_bytes))
    pod = Pod(tmp_path / "2", spec)
    assert await nursery.run(pod) == ExitCode.RETRY
    error = pod.message()["error"]
    assert error["reason"] == Reason.OUTPUT_UNWRITABLE
    assert "No space left on device" in error["message"]
    ballast.unlink()
    assert await nursery.run(Pod(tmp_path / "3", spec)) == 0
    rows = runs.read_rows(small_disk)
    assert len(rows) == len({row["id"] for row in rows}) == 2 * DOCUMENTS
