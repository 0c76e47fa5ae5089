"""What failed in one bucket is replayed into another."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

from kubesynth_api.run_spec import RunSpec
from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_runner import run as runner
from kubesynth_runner.environment import RunEnvironment
from kubesynth_runner.io.locations import open_storage
from kubesynth_runner.run import PhaseRequest
from kubesynth_testing import runs
from kubesynth_testing.bucket_runs import copy_of
from kubesynth_testing.fake_llm import FakeLlm, Faults
from kubesynth_testing.object_stores import ObjectStoreServer

DOCUMENTS = 20


async def run(spec: RunSpec, store: ObjectStoreServer, folder: Path) -> Path:
    """Run a job in this process and copy its output to a folder."""
    storage = open_storage(spec.spec.output, store.mounts)
    context = dataclasses.replace(
        runs.a_context(spec, storage), environment=RunEnvironment(store.mounts, writer="test")
    )
    await runner.run_phase(context, PhaseRequest(RunnerPhase.ALL))
    return await asyncio.to_thread(copy_of, storage, folder)


async def test_what_failed_in_one_bucket_is_replayed_into_another(
    any_store: ObjectStoreServer, tmp_path: Path
) -> None:
    async with FakeLlm() as llm:

        def job(name: str, **fields: Any) -> tuple[RunSpec, dict[str, Any]]:
            output = {"uri": f"{any_store.make_bucket()}/{name}", "storage": any_store.options}
            common: dict[str, Any] = {
                "models": [runs.a_model(llm.url, concurrency=8)],
                "failurePolicy": {"maxFailedRecordsPercent": 100},
                "output": output,
            }
            spec = runs.a_run(tmp_path, documents=DOCUMENTS, uid=name, **{**common, **fields})
            return spec, output

        whole = await run(job("whole")[0], any_store, tmp_path / "whole")
        llm.set_faults(Faults(error_rate=0.4, error_status=400))
        spec, output = job("first")
        first = await run(spec, any_store, tmp_path / "first")
        assert {row["stage"] for row in runs.read_errors(first)} == {"closedQA-0", "answer-1"}
        llm.set_faults(Faults())
        earlier = {"fromOutput": output["uri"], "storage": output["storage"]}
        spec, _ = job("again", input=None, retryFailed=earlier)
        again = await run(spec, any_store, tmp_path / "again")
    assert runs.read_errors(again) == []
    rows = [*runs.read_rows(first), *runs.read_rows(again)]
    assert len({row["id"] for row in rows}) == len(rows) == 2 * DOCUMENTS
    assert runs.digest(rows) == runs.digest(runs.read_rows(whole))
