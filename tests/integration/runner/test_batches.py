"""execution: Batch against a server with OpenAI's Batch API: resumed, never paid for twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kubesynth_api.run_spec import RunSpec
from kubesynth_api.runner_contract import ExitCode
from kubesynth_testing import runs
from kubesynth_testing.fake_batches import BatchFaults, FakeBatchLlm
from kubesynth_testing.runner_process import Nursery, Pod

DOCUMENTS = 12


@pytest.fixture
async def batch_server() -> AsyncIterator[FakeBatchLlm]:
    async with FakeBatchLlm() as running:
        yield running


def a_job(folder: Path, server: FakeBatchLlm, **spec: Any) -> RunSpec:
    models = [runs.a_model(server.url)]
    fields = {"execution": "Batch", **spec}
    return runs.a_run(folder, documents=DOCUMENTS, models=models, **fields)


def state_files(folder: Path) -> list[Path]:
    return list((folder / "out").rglob("batches/*.json"))


async def test_pipeline_is_carried_out_level_by_level(
    tmp_path: Path, batch_server: FakeBatchLlm, nursery: Nursery
) -> None:
    pod = Pod(tmp_path / "pod", a_job(tmp_path, batch_server))
    assert await nursery.run(pod) == 0
    rows = runs.read_rows(tmp_path / "out")
    assert len(rows) == 2 * DOCUMENTS
    sizes = [len(batch.requests) for batch in batch_server.batches.values()]
    assert sizes == [DOCUMENTS, 2 * DOCUMENTS]
    assert set(batch_server.carried_out.values()) == {1}
    # Online, the same requests get the same answers: the rows are equal to the last byte.
    online = a_job(tmp_path, batch_server, execution="Online", output={"uri": _uri(tmp_path)})
    assert await nursery.run(Pod(tmp_path / "online", online)) == 0
    assert runs.digest(runs.read_rows(tmp_path / "other")) == runs.digest(rows)
    assert not [name for name in batch_server.files if name == "file-0"]
    assert state_files(tmp_path) == []


def _uri(folder: Path) -> str:
    return f"file://{folder}/other"


async def test_what_fails_goes_round_again_or_becomes_data(
    tmp_path: Path, batch_server: FakeBatchLlm, nursery: Nursery
) -> None:
    batch_server.batch_faults = BatchFaults(
        server_error_share=0.2, expired_share=0.2, bad_request_share=0.1, nonsense_lines=1
    )
    job = a_job(tmp_path, batch_server, failurePolicy={"maxFailedRecordsPercent": 100})
    assert await nursery.run(Pod(tmp_path / "pod", job)) == 0
    rows, failed = runs.read_rows(tmp_path / "out"), runs.read_errors(tmp_path / "out")
    assert {row["kind"] for row in failed} <= {"BadRequest"}
    lost_questions = sum(row["stage"] == "closedQA-0" for row in failed)
    assert len(rows) + len(failed) - lost_questions == 2 * (DOCUMENTS - lost_questions)
    assert set(batch_server.carried_out.values()) == {1}
    attempts = [call["attempts"] for row in rows for call in row["provenance"]]
    assert set(attempts) == {1, 2}
    statuses = {batch.status for batch in batch_server.batches.values()}
    assert statuses == {"completed", "expired"}


async def test_a_kill_at_any_moment_costs_no_second_answer(
    tmp_path: Path, batch_server: FakeBatchLlm, nursery: Nursery
) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    draw = random.Random(seed)
    pod = Pod(tmp_path / "pod", a_job(tmp_path, batch_server))
    code = None
    for _ in range(12):
        pid = await nursery.start(pod)
        await asyncio.sleep(draw.uniform(0.05, 0.9))
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            code = await nursery.exit_code(pid)
            break
        code = await nursery.exit_code(pid)
        if code == 0:
            break
    if code != 0:
        assert await nursery.run(pod) == 0
    assert len(runs.read_rows(tmp_path / "out")) == 2 * DOCUMENTS
    assert set(batch_server.carried_out.values()) == {1}


async def test_stop_leaves_the_batch_running_and_the_next_pod_takes_it_up(
    tmp_path: Path, batch_server: FakeBatchLlm, nursery: Nursery
) -> None:
    batch_server.batch_faults = BatchFaults(in_progress_seconds=2.0)
    pod = Pod(tmp_path / "pod", a_job(tmp_path, batch_server))
    pid = await nursery.start(pod)
    while not batch_server.batches or "batchId" not in _content(tmp_path):
        await asyncio.sleep(0.02)
    progress = await pod.progress()
    while "batches under way" not in progress["message"]:
        progress = await pod.progress()
    os.kill(pid, signal.SIGTERM)
    assert await nursery.exit_code(pid, within_seconds=8) == ExitCode.CHECKPOINTED
    (batch,) = batch_server.batches.values()
    assert batch.output_file_id is None
    assert not batch.cancelled
    assert len(state_files(tmp_path)) == 1
    batch_server.batch_faults = BatchFaults()
    assert await nursery.run(pod) == 0
    assert len(batch_server.batches) == 2
    assert set(batch_server.carried_out.values()) == {1}


def _content(folder: Path) -> str:
    return "".join(path.read_text() for path in state_files(folder) if path.exists())


async def test_batch_whose_id_was_lost_on_the_way_is_found_again(
    tmp_path: Path, batch_server: FakeBatchLlm, nursery: Nursery
) -> None:
    batch_server.batch_faults = BatchFaults(lost_answers=1)
    assert await nursery.run(Pod(tmp_path / "pod", a_job(tmp_path, batch_server))) == 0
    assert len(batch_server.batches) == 2
    assert set(batch_server.carried_out.values()) == {1}


async def test_download_that_breaks_off_begins_again(
    tmp_path: Path, batch_server: FakeBatchLlm, nursery: Nursery
) -> None:
    batch_server.batch_faults = BatchFaults(broken_downloads=2)
    assert await nursery.run(Pod(tmp_path / "pod", a_job(tmp_path, batch_server))) == 0
    assert batch_server.broken_downloads == 2
    assert len(runs.read_rows(tmp_path / "out")) == 2 * DOCUMENTS
    assert set(batch_server.carried_out.values()) == {1}


async def test_account_that_is_topped_up_goes_on_where_its_money_ended(
    tmp_path: Path, batch_server: FakeBatchLlm, nursery: Nursery
) -> None:
    batch_server.batch_faults = BatchFaults(unpaid_share=0.5)
    pod = Pod(tmp_path / "pod", a_job(tmp_path, batch_server))
    assert await nursery.run(pod) == ExitCode.RETRY
    said = pod.message()["error"]["message"]
    assert "the batch batch_0 of 12 requests" in said
    assert "You exceeded your current quota" in said
    # What was answered is kept, and nobody has to look at the batch again.
    assert state_files(tmp_path) == []
    answered = sum(batch_server.carried_out.values())
    assert 0 < answered < DOCUMENTS
    batch_server.batch_faults = BatchFaults()
    assert await nursery.run(pod) == 0
    assert len(runs.read_rows(tmp_path / "out")) == 2 * DOCUMENTS
    assert set(batch_server.carried_out.values()) == {1}


async def test_cancelled_batch_keeps_its_answers_and_the_rest_goes_round_again(
    tmp_path: Path, batch_server: FakeBatchLlm, nursery: Nursery
) -> None:
    batch_server.batch_faults = BatchFaults(in_progress_seconds=1.0)
    pod = Pod(tmp_path / "pod", a_job(tmp_path, batch_server))
    pid = await nursery.start(pod)
    while not batch_server.batches:
        await asyncio.sleep(0.02)
    batch_server.batches["batch_0"].cancelled = True
    batch_server.batch_faults = BatchFaults()
    assert await nursery.exit_code(pid) == 0
    sizes = [len(batch.requests) for batch in batch_server.batches.values()]
    # Half of the documents are a level ahead of the others.
    half = DOCUMENTS // 2
    assert sizes == [DOCUMENTS, half + 2 * half, 2 * half]
    assert set(batch_server.carried_out.values()) == {1}


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("invalid_json_line", ExitCode.CONFIGURATION),
        ("billing_hard_limit_reached", ExitCode.RETRY),
    ],
)
async def test_batch_that_is_refused_ends_the_run_with_the_reason(
    tmp_path: Path, batch_server: FakeBatchLlm, nursery: Nursery, code: str, exit_code: ExitCode
) -> None:
    batch_server.batch_faults = BatchFaults(failing_batches=9, failure_code=code)
    pod = Pod(tmp_path / "pod", a_job(tmp_path, batch_server))
    assert await nursery.run(pod) == exit_code
    said = pod.message()["error"]["message"]
    assert "refused the batch batch_0" in said
    assert code in said


async def test_endpoint_without_batches_is_named(
    tmp_path: Path, server: Any, nursery: Nursery
) -> None:
    pod = Pod(tmp_path / "pod", a_job(tmp_path, server))
    assert await nursery.run(pod) == ExitCode.CONFIGURATION
    assert "does it have OpenAI's /files and /batches?" in pod.message()["error"]["message"]
