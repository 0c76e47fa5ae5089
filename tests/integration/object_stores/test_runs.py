"""Whole runs into object stores: equal to a run on a disk, whatever dies on the way."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kubesynth_api.runner_contract import ExitCode
from kubesynth_testing.bucket_runs import CONCURRENCY, make
from kubesynth_testing.fake_llm import FakeLlm, Faults
from kubesynth_testing.object_stores import ObjectStoreServer
from kubesynth_testing.runs import digest, read_errors, read_manifest, read_rows, write_documents

DOCUMENTS = 30
# What the server understands is asked once; then for two questions each, and their answers.
CALLS = 1 + 3 * DOCUMENTS
LATENCY_SECONDS = 0.05
KILLS = 3
# The journal is uploaded every second; a slow machine is a little late.
UNFLUSHED_SECONDS = 2.0


@pytest.fixture
async def llm() -> AsyncIterator[FakeLlm]:
    async with FakeLlm(faults=Faults(latency_seconds=LATENCY_SECONDS)) as server:
        yield server


@pytest.fixture(scope="session")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run to this machine's disk: what every other run must come to."""
    folder = tmp_path_factory.mktemp("on-disk")

    async def run() -> None:
        async with FakeLlm() as server:
            assert await make(folder, folder / "in", server.url, None).run() == ExitCode.OK

    write_documents(folder / "in", DOCUMENTS)
    with ThreadPoolExecutor(1) as thread:  # the tests' own loop is not to be disturbed
        thread.submit(asyncio.run, run()).result()
    return folder / "local"


def check_equal(output: Path, expected: Path) -> None:
    """Compare the datasets of two finished runs."""
    assert (output / "_SUCCESS").exists()
    assert read_errors(output) == []
    rows = read_rows(output)
    assert len(rows) == 2 * DOCUMENTS
    assert digest(rows) == digest(read_rows(expected))
    assert read_manifest(output).tally.accepted == 2 * DOCUMENTS
    names = {file.path for file in read_manifest(output).data}
    assert {path.relative_to(output).as_posix() for path in (output / "data").iterdir()} == names


async def test_a_run_is_the_same_on_every_store(
    any_store: ObjectStoreServer, llm: FakeLlm, tmp_path: Path, expected: Path
) -> None:
    before = llm.statistics.answered.total()
    job = make(tmp_path, expected.parent / "in", llm.url, any_store)
    assert await job.run() == ExitCode.OK
    assert llm.statistics.answered.total() - before == CALLS
    fetched = job.fetch(tmp_path / "fetched")
    check_equal(fetched, expected)
    assert not list((fetched / "_kubesynth").rglob("journal/*"))
    assert not list((fetched / "_kubesynth").rglob("staging/*"))
    if any_store.scheme != "s3":  # a start takes seconds
        return
    assert await job.run() == ExitCode.OK  # again: nothing is left to do
    assert llm.statistics.answered.total() - before == CALLS


@pytest.mark.parametrize("any_store", ["versitygw"], indirect=True)
async def test_kills_lose_nothing_and_cost_little(
    any_store: ObjectStoreServer, llm: FakeLlm, tmp_path: Path, expected: Path
) -> None:
    job = make(tmp_path, expected.parent / "in", llm.url, any_store)
    before = llm.statistics.answered.total()
    draw = random.Random(7)
    kills = 0
    for _ in range(KILLS):
        process = await job.start()
        finish = asyncio.create_task(process.wait())
        enough = llm.statistics.answered.total() + draw.randrange(5, CALLS // 4)
        while not finish.done() and llm.statistics.answered.total() < enough:
            await asyncio.sleep(0.01)
        if not finish.done():
            process.kill()
            kills += 1
        await process.communicate()
    assert await job.run() == ExitCode.OK
    check_equal(job.fetch(tmp_path / "fetched"), expected)
    again = llm.statistics.answered.total() - before - CALLS
    per_kill = CONCURRENCY + UNFLUSHED_SECONDS * CONCURRENCY / LATENCY_SECONDS
    print(f"{kills} kills, {again} calls again, at most {kills * per_kill:.0f} allowed")
    assert kills >= 2
    assert again <= kills * per_kill


@pytest.mark.parametrize("any_store", ["seaweedfs"], indirect=True)
async def test_of_two_writers_each_record_is_kept_once(
    any_store: ObjectStoreServer, llm: FakeLlm, tmp_path: Path, expected: Path
) -> None:
    job = make(tmp_path, expected.parent / "in", llm.url, any_store)
    codes = await asyncio.gather(job.run(), job.run())
    assert ExitCode.OK in codes
    check_equal(job.fetch(tmp_path / "fetched"), expected)
