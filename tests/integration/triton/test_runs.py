"""Whole runs over a real Triton: an example, kills, and servers that come and go."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import grpc

from kubesynth_api.run_spec import RunSpec
from kubesynth_testing import runs
from kubesynth_testing.cluster import paths
from kubesynth_testing.ports import free_port
from kubesynth_testing.runner_process import Pod, RunnerProcess
from kubesynth_testing.triton.gateway import MODEL, Behaviour, Gateway
from kubesynth_testing.triton.server import TritonServer

EXAMPLE = paths.REPOSITORY / "examples" / "triton-nemo-deploy.yaml"
DOCUMENTS = 30
CALLS = DOCUMENTS * 3  # two questions of each, and their answers
CONCURRENCY = 8


async def test_example_runs_as_it_is_written_but_for_the_address(
    tmp_path: Path, triton: TritonServer
) -> None:
    text = EXAMPLE.read_text()
    for there, here in (
        ("grpc://nemo-deploy.models.svc:8001", triton.url),
        ("model: llama ", "model: pure "),
    ):
        assert there in text
        text = text.replace(there, here)
    (tmp_path / "job.yaml").write_text(text)
    documents = EXAMPLE.parent / "data" / "documents.jsonl"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kubesynth_runner.cli", "run", "job.yaml"),
        *("--config", f"documents={documents}", "--volume", f"datasets={tmp_path}/datasets"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 240)
    assert process.returncode == 0, said.decode()
    rows = runs.read_rows(tmp_path / "datasets/triton-nemo-deploy")
    assert len(rows) == 3 * len(documents.read_text().splitlines())
    assert all(call["tokens_estimated"] for row in rows for call in row["provenance"])


def a_run(folder: Path, url: str, **fields: Any) -> RunSpec:
    """Return a run over the documents beside its folder, so that equal runs have equal rows."""
    if not (folder.parent / "in").exists():
        runs.write_documents(folder.parent / "in", DOCUMENTS)
    model = {
        "name": "generator",
        "external": {"protocol": "Triton", "url": url, "model": "pure"},
        "sampling": {"temperature": 0.7, "maxTokens": 64},
        "limits": {"concurrency": CONCURRENCY},
    }
    source = {"uri": f"file://{folder.parent}/in/*.jsonl", "idColumn": "id"}
    return runs.a_run(folder, models=[model], input=source, **fields)


async def finished_calls(output: Path, count: int) -> None:
    """Wait until a run has so many bytes' worth of calls in its journal."""
    async with asyncio.timeout(60):
        while sum(file.stat().st_size for file in output.glob("**/journal/*.log")) < count * 100:
            await asyncio.sleep(0.01)


def totals(pod: Pod) -> dict[str, Any]:
    content: dict[str, Any] = pod.message()["totals"]
    return content


async def test_killed_run_goes_on_and_pays_for_little_twice(
    tmp_path: Path, triton: TritonServer
) -> None:
    calm = Pod(tmp_path / "calm/pod", a_run(tmp_path / "calm", triton.url))
    async with RunnerProcess(calm) as process:
        assert await process.exit_code() == 0
    before = triton.inferences("pure")
    spec = a_run(tmp_path / "killed", triton.url)
    async with RunnerProcess(Pod(tmp_path / "killed/pod", spec)):
        await finished_calls(tmp_path / "killed/out", 20)
        # The end of the block kills it.
    async with RunnerProcess(Pod(tmp_path / "killed/pod", spec)) as process:
        assert await process.exit_code() == 0
    paid = triton.inferences("pure") - before
    probes = 2
    assert CALLS <= paid <= CALLS + CONCURRENCY + probes, "what was in flight, and no more"
    rows = runs.read_rows(tmp_path / "killed/out")
    assert len(rows) == DOCUMENTS * 2
    assert runs.digest(rows) == runs.digest(runs.read_rows(tmp_path / "calm/out"))


async def test_run_waits_for_a_server_that_starts_late_and_outlives_its_death(
    tmp_path: Path,
) -> None:
    port = free_port()
    loading = Behaviour(
        code=grpc.StatusCode.NOT_FOUND, details="Request for unknown model: 'echo' is not found"
    )
    model = {
        "name": "generator",
        "external": {
            "protocol": "Triton",
            "url": f"grpc://127.0.0.1:{port}",
            "model": MODEL,
            "triton": {"chatTemplate": {"builtIn": "ChatML"}},
        },
        "limits": {"concurrency": CONCURRENCY},
    }
    runs.write_documents(tmp_path / "run/in", DOCUMENTS)
    stage = {"prompt": {"user": {"inline": "{{ text }}"}}}
    pod = Pod(tmp_path / "run/pod", runs.a_run(tmp_path / "run", models=[model], pipeline=[stage]))
    async with RunnerProcess(pod) as process:
        await asyncio.sleep(1)
        async with Gateway(Behaviour(latency_seconds=0.3), port=port) as server:
            while len(server.calls) < CONCURRENCY * 2:
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        async with Gateway(loading, port=port) as server:
            while not server.calls:
                await asyncio.sleep(0.05)
            server.behaviour = Behaviour()
            assert await process.exit_code() == 0
    records = totals(pod)["records"]
    assert (records["accepted"], records["failed"]) == (DOCUMENTS, 0)


async def answered(server: TritonServer, count: int) -> int:
    """Wait until a server has answered so many requests since its start; return their number."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(OSError):  # it only starts
                if (found := await asyncio.to_thread(server.inferences, "pure")) >= count:
                    return found
            await asyncio.sleep(0.02)


async def test_run_outlives_a_real_triton_that_stops_and_one_that_is_killed(
    tmp_path: Path,
) -> None:
    """Records under way wait; none is lost, and none spends its attempts on the outages."""
    folder = tmp_path / "triton"
    folder.mkdir()
    server = TritonServer(folder, ["pure"], latency_seconds=0.3)
    pod = Pod(tmp_path / "run/pod", a_run(tmp_path / "run", server.url))
    paid = 0
    try:
        await asyncio.to_thread(server.start)
        async with RunnerProcess(pod) as process:  # it waits for the first start, too
            for end in (server.stop, server.kill):
                paid += await answered(server, CALLS // 4)
                await asyncio.to_thread(end)
                await asyncio.to_thread(server.start)
            assert await process.exit_code(120) == 0
        paid += await asyncio.to_thread(server.inferences, "pure")
    finally:
        await asyncio.to_thread(server.kill)
    records = totals(pod)["records"]
    assert (records["accepted"], records["failed"]) == (DOCUMENTS * 2, 0)
    rows = runs.read_rows(tmp_path / "run/out")
    assert len({row["id"] for row in rows}) == DOCUMENTS * 2
    attempts = [call["attempts"] for row in rows for call in row["provenance"]]
    # A call that is cut off is one attempt; that nobody is there for long is none.
    assert max(attempts) <= 3
    # What was cut off is asked again, and the server is asked now and then whether it is back.
    assert paid <= CALLS + 2 * CONCURRENCY + 4


async def test_run_with_a_wrong_tensor_ends_at_once_and_names_it(
    tmp_path: Path, triton: TritonServer
) -> None:
    spec = a_run(tmp_path / "run", triton.url)
    model = json.loads(spec.to_json())["spec"]["models"][0]
    model["external"] |= {"model": "numbers", "triton": {"chatTemplate": {"builtIn": "Plain"}}}
    pod = Pod(
        tmp_path / "run/pod",
        runs.a_run(
            tmp_path / "run", models=[model], input=json.loads(spec.to_json())["spec"]["input"]
        ),
    )
    async with RunnerProcess(pod) as process:
        assert await process.exit_code() == 64
    message = pod.message()
    assert "input text_input INT32[1] must be of datatype BYTES" in json.dumps(message)
