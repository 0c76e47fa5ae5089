"""A runner killed at any moment loses nothing, repeats nothing and pays for little twice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kubesynth_api.run_spec import RunSpec
from kubesynth_runner.io import layout, ledger
from kubesynth_runner.io.journal import CallFrame, read_frames
from kubesynth_runner.io.local_storage import LocalStorage
from kubesynth_testing import runs
from kubesynth_testing.fake_llm import Faults
from kubesynth_testing.recording_llm import RecordingLlm
from kubesynth_testing.runner_process import Nursery, Pod

DOCUMENTS = 40
BROKEN = 4
CONCURRENCY = 6
NAMES = layout.RunLayout("uid-1")


def a_job(folder: Path, server: RecordingLlm) -> RunSpec:
    """Return a run over the documents beside its folder, so that equal runs have equal rows."""
    documents = folder.parent / "in/docs.jsonl"
    if not documents.exists():
        runs.write_documents(documents.parent, DOCUMENTS)
        lines = (documents.parent / "docs-0000000.jsonl").read_text().splitlines()
        lines[:: DOCUMENTS // BROKEN] = ["{broken"] * BROKEN
        (documents.parent / "docs-0000000.jsonl").unlink()
        documents.write_text("\n".join(lines))
    return runs.a_run(
        folder,
        models=[runs.a_model(server.url, concurrency=CONCURRENCY)],
        input={"uri": f"file://{folder.parent}/in/*.jsonl", "idColumn": "id"},
        output={"rowsPerPart": 8},
        failurePolicy={"maxFailedRecordsPercent": 50},
    )


Wait = Callable[[LocalStorage], Coroutine[Any, Any, None]]


class Attempts:
    """The attempts at one run, and what each of them left finished."""

    def __init__(self, folder: Path, server: RecordingLlm, nursery: Nursery) -> None:
        self.spec = a_job(folder, server)
        self.storage = LocalStorage(folder / "out")
        self._pod_folder = folder / "pod"
        self._server = server
        self._nursery = nursery
        self.kills = 0

    async def start(self) -> int:
        self._server.statistics.received.clear()
        return await self._nursery.start(Pod(self._pod_folder, self.spec))

    async def end(self, pid: int) -> int:
        """Wait for a runner to be gone, and for the server to notice."""
        code = await self._nursery.exit_code(pid)
        while self._server.statistics.in_flight:
            await asyncio.sleep(0.001)
        return code

    def received(self) -> set[str]:
        """Return the requests about documents that the last attempt made."""
        twice = {key for key, count in self._server.statistics.received.items() if count > 1}
        assert not twice & self._server.documents.keys(), "one attempt asked twice"
        return self._server.statistics.received.keys() & self._server.documents.keys()

    def finished(self) -> set[str]:
        """Return the requests whose answers are in the journal or in committed parts."""
        done: set[int] = set()
        for commit in ledger.read_commits(self.storage, "uid-1", 0):
            for first, last in commit.done:
                done |= set(range(first, last + 1))
        texts = {frame.text for frame in self._journal()}
        return {
            key
            for key, document in self._server.documents.items()
            if document in done or self._server.texts[key] in texts
        }

    def _journal(self) -> list[CallFrame]:
        return [
            msgspec.msgpack.decode(payload, type=CallFrame)
            for file in self.storage.list_files(NAMES.journal(0))
            for _, payload in read_frames(self.storage.read(file.path))
        ]


async def until_a_file_appears(storage: LocalStorage, folder: str, draw: random.Random) -> None:
    """Wait for the next file in a folder, and sometimes a little longer."""

    def files() -> set[str]:
        try:
            return set(os.listdir(storage.root / folder))
        except FileNotFoundError:
            return set()

    before = files()
    while files() <= before:
        await asyncio.sleep(0.0005)
    await asyncio.sleep(draw.choice([0, 0, draw.uniform(0, 0.004)]))


async def forever(storage: LocalStorage) -> None:
    await asyncio.Event().wait()


async def moment_of_death(
    moment: str, storage: LocalStorage, life_seconds: float, draw: random.Random
) -> None:
    """Wait until a runner is to be killed."""
    match moment:
        case "any":
            await asyncio.sleep(draw.uniform(0, 0.7 * life_seconds))
        case "commit":
            await until_a_file_appears(storage, f"{NAMES.shard(0)}/commits", draw)
        case "stage":
            await until_a_file_appears(storage, NAMES.staging(0), draw)
        case _:
            await until_a_file_appears(storage, moment, draw)


async def kill_once(attempts: Attempts, waiting: asyncio.Task[None], pid: int) -> bool:
    """Kill a runner at the end of `waiting`; return False if it was done before that."""
    ending = asyncio.create_task(attempts.end(pid))
    await asyncio.wait({waiting, ending}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not ending.done():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return await ending == -signal.SIGKILL


async def disturbed(attempts: Attempts, kills: int, wait: Wait) -> int:
    """Run a job to its end, killing it up to `kills` times; return how often that succeeded."""
    finished: set[str] = set()
    killed = 0
    while True:
        pid = await attempts.start()
        if killed < kills:
            waiting = asyncio.create_task(wait(attempts.storage))
            was_killed = await kill_once(attempts, waiting, pid)
        else:
            was_killed = False
            assert await attempts.end(pid) == 0
        received, before, finished = attempts.received(), finished, attempts.finished()
        assert not received & before, "a finished call was made again"
        assert before <= finished, "a finished call was forgotten"
        if not was_killed:
            assert received <= finished
            return killed
        assert len(received - finished) <= CONCURRENCY, "more was lost than was in flight"
        killed += 1


@pytest.mark.parametrize(
    ("moment", "kills"), [("any", 16), ("commit", 10), ("stage", 6), ("data", 6), ("errors", 4)]
)
async def test_killed_runs_end_like_undisturbed_ones(
    tmp_path: Path, server: RecordingLlm, nursery: Nursery, moment: str, kills: int
) -> None:
    server.set_faults(Faults(latency_seconds=0.01, latency_sigma=0.6))
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    draw = random.Random(seed)
    for name in ("warm-up", "calm"):
        began = time.monotonic()
        calm = Attempts(tmp_path / name, server, nursery)
        assert await disturbed(calm, 0, forever) == 0
        life_seconds = time.monotonic() - began
    expected = runs.read_rows(tmp_path / "calm/out"), runs.read_errors(tmp_path / "calm/out")
    assert len(expected[0]) == 2 * (DOCUMENTS - BROKEN)
    assert len(expected[1]) == BROKEN

    async def wait(storage: LocalStorage) -> None:
        await moment_of_death(moment, storage, life_seconds, draw)

    killed = rounds = 0
    print(f"an undisturbed run takes {life_seconds:.2f} s")
    while killed < kills:
        rounds += 1
        assert rounds <= 3 * kills, "runs end before they can be killed"
        attempts = Attempts(tmp_path / f"killed-{rounds}", server, nursery)
        killed += await disturbed(attempts, kills - killed, wait)
        output = tmp_path / f"killed-{rounds}/out"
        assert runs.digest(runs.read_rows(output)) == runs.digest(expected[0])
        assert runs.read_errors(output) == expected[1]
