"""execution: Batch with its output in a bucket: batches under way are found again after a kill."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kubesynth_api.runner_contract import ExitCode
from kubesynth_testing import runs
from kubesynth_testing.bucket_runs import make
from kubesynth_testing.fake_batches import BatchFaults, FakeBatchLlm
from kubesynth_testing.object_stores import ObjectStoreServer

DOCUMENTS = 12
KILLS = 4


@pytest.fixture
async def batch_server() -> AsyncIterator[FakeBatchLlm]:
    async with FakeBatchLlm() as running:
        running.batch_faults = BatchFaults(in_progress_seconds=1.0)
        yield running


@pytest.mark.parametrize("any_store", ["versitygw"], indirect=True)
async def test_batches_are_taken_up_again_and_paid_for_once(
    any_store: ObjectStoreServer, batch_server: FakeBatchLlm, tmp_path: Path
) -> None:
    runs.write_documents(tmp_path / "in", DOCUMENTS)
    job = make(tmp_path, tmp_path / "in", batch_server.url, any_store, execution="Batch")
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    draw = random.Random(seed)
    for kill in range(KILLS):
        process = await job.start()
        # The first kills find the first batch under way, later ones any state.
        while kill < 2 and not batch_server.batches and process.returncode is None:
            await asyncio.sleep(0.02)
        await asyncio.sleep(draw.uniform(0.0, 2.0))
        if process.returncode is None:
            process.kill()
        await process.communicate()
    assert await job.run() == ExitCode.OK
    fetched = job.fetch(tmp_path / "fetched")
    rows = runs.read_rows(fetched)
    assert len(rows) == len({row["id"] for row in rows}) == 2 * DOCUMENTS
    assert set(batch_server.carried_out.values()) == {1}
    assert not list(fetched.rglob("batches/*.json"))
