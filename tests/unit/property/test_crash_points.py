"""A process that dies between any two operations on the storage loses and duplicates nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from kubesynth_api.run_spec import RunSpec
from kubesynth_runner import clients, errors
from kubesynth_runner.io.local_storage import LocalStorage
from kubesynth_runner.llm.fake import FakeChatClient
from kubesynth_runner.phases import finalize, generate, plan
from kubesynth_testing import runs
from kubesynth_testing.crashing_storage import Crash, CrashingStorage, Fuse

DOCUMENTS = 5
SHARDS = 2


async def run_phases(spec: RunSpec, storage: CrashingStorage) -> None:
    """Do what the pods of a job do, one after the other, in a process that may die."""
    context = runs.a_context(spec, storage)
    planned = await plan.run(context)
    for shard in range(planned.shards):
        await generate.run(context, planned, shard)
    await finalize.run(context)


def died(spec: RunSpec, fuse: Fuse) -> bool:
    """Run until the process dies or everything is done."""
    root = Path(spec.spec.output.uri.removeprefix("file://"))
    storage = CrashingStorage(LocalStorage(root), fuse)
    try:
        asyncio.run(run_phases(spec, storage))
    except (Crash, errors.RunnerError, BaseExceptionGroup):
        if not fuse.is_blown:
            raise
    finally:
        storage.bury()
    return fuse.is_blown


def make_run(folder: Path, **spec: Any) -> RunSpec:
    return runs.a_run(folder, documents=DOCUMENTS, shards={"count": SHARDS}, **spec)


def paths(output: Path) -> set[str]:
    """Return the files that a reader of the dataset sees."""
    return {
        path.relative_to(output).as_posix()
        for path in output.rglob("*")
        if path.is_file() and path.relative_to(output).parts[0] != "_kubesynth"
    }


def test_every_crash_point_ends_in_the_same_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = FakeChatClient(runs.reply)
    monkeypatch.setattr(clients, "OpenAIChatClient", lambda _endpoint: client)
    (tmp_path / "calm").mkdir()
    calm, fuse = make_run(tmp_path / "calm"), Fuse()
    assert not died(calm, fuse)
    expected = runs.read_rows(tmp_path / "calm/out")
    assert len(expected) == DOCUMENTS * 2
    calls = len(client.requests)
    for point in range(2 * fuse.count):
        folder = tmp_path / str(point)
        folder.mkdir()
        (folder / "in").symlink_to(tmp_path / "calm/in")
        spec = make_run(
            folder, input={"uri": f"file://{tmp_path}/calm/in/*.jsonl", "idColumn": "id"}
        )
        client.requests.clear()
        assert died(spec, Fuse(at=point // 2, is_done=bool(point % 2)))
        assert not died(spec, Fuse())
        assert runs.digest(runs.read_rows(folder / "out")) == runs.digest(expected), point
        assert paths(folder / "out") == paths(tmp_path / "calm/out"), point
        assert not list((folder / "out").rglob("journal/*")), point
        assert not list((folder / "out").rglob("staging/*")), point
        # What was in flight when it died is asked again, and nothing else.
        assert len(client.requests) - calls <= 4, point
