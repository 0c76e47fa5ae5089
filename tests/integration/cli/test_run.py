"""`kubesynth run` as a user starts it: a process of its own, a manifest, an exit code."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web

from kubesynth_runner.embedded import weights
from kubesynth_testing.cli_process import kubesynth, read_until, running
from kubesynth_testing.fake_llm import MODEL, FakeLlm, Faults
from kubesynth_testing.ports import free_port
from kubesynth_testing.runs import read_rows

DOCUMENTS = 6
QUESTIONS = 2
CALLS = DOCUMENTS + DOCUMENTS * QUESTIONS
JOB = """\
apiVersion: kubesynth.io/v1alpha1
kind: SyntheticDataJob
metadata: {{name: qa}}
spec:
  models:
    - name: generator
      {model}
      sampling: {{maxTokens: 64}}
      limits: {{concurrency: 2}}
      maxAttempts: 2
  input: {{uri: "file://docs/*.md"}}
  pipeline:
    - closedQA: {{questions: 2}}
    - answer: {{}}
  output: {{uri: "file://out"}}
  shards: {{count: 2}}
  seed: 7
"""


@pytest.fixture
async def server() -> AsyncIterator[FakeLlm]:
    async with FakeLlm() as running:
        yield running


@pytest.fixture(autouse=True)
def _documents(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for number in range(DOCUMENTS):
        (tmp_path / "docs" / f"{number}.md").write_text(f"Document {number} is about a river.")


def _external(server: FakeLlm) -> str:
    return _at(server.url)


def _at(url: str) -> str:
    return JOB.format(model=f"external: {{url: '{url}', model: {MODEL}}}")


async def test_job_runs_to_a_dataset_next_to_its_manifest(
    server: FakeLlm, write_manifest: Callable[[str], Path], tmp_path: Path
) -> None:
    code, out, err = await kubesynth("run", write_manifest(_external(server)))
    assert (code, (tmp_path / "out" / "_SUCCESS").exists()) == (0, True), err
    assert f"complete: {DOCUMENTS * QUESTIONS} rows from 6 of 6 input records" in out
    assert err.splitlines()[0] == "planning"
    rows = read_rows(tmp_path / "out")
    assert len({row["id"] for row in rows}) == DOCUMENTS * QUESTIONS
    assert Counter(row["root_id"] for row in rows).most_common(1)[0][1] == QUESTIONS


async def test_same_command_again_asks_nothing_again(
    server: FakeLlm, write_manifest: Callable[[str], Path]
) -> None:
    path = write_manifest(_external(server))
    first_code, first_out, _ = await kubesynth("run", path)
    received = server.statistics.received.total()
    again_code, again_out, _ = await kubesynth("run", path)
    assert (first_code, again_code, again_out) == (0, 0, first_out)
    assert server.statistics.received.total() == received


class HoldingLlm(FakeLlm):
    """Answers some requests, and the others when it may."""

    def __init__(self, at_once: int) -> None:
        super().__init__()
        self._at_once = at_once
        self.holds, self.goes_on = asyncio.Event(), asyncio.Event()

    async def _answer(self, request: web.Request, raw: bytes) -> web.StreamResponse:
        self._at_once -= 1
        if self._at_once < 0:
            self.holds.set()
            await self.goes_on.wait()
        return await super()._answer(request, raw)

    async def stop(self) -> None:
        self.goes_on.set()
        await super().stop()


async def test_interrupted_run_goes_on_where_it_stopped(
    write_manifest: Callable[[str], Path], tmp_path: Path
) -> None:
    async with HoldingLlm(at_once=5) as server:
        path = write_manifest(_external(server))
        async with running("run", path) as process:
            while not server.holds.is_set():
                assert process.returncode is None, "it ended before it was interrupted"
                await asyncio.sleep(0.02)
            process.send_signal(signal.SIGINT)
            # Those under way are finished: nothing depends on how quick this machine is.
            await read_until(process.stderr, "stopping: calls under way are finished and kept")
            server.goes_on.set()
            _, err = await process.communicate()
        assert process.returncode == 143
        assert "the same command goes on from here" in err.decode()
        assert not (tmp_path / "out" / "_SUCCESS").exists()
        assert 5 < server.statistics.answered.total() < CALLS + 1
        code, out, _ = await kubesynth("run", path)
        assert (code, f"complete: {DOCUMENTS * QUESTIONS} rows" in out) == (0, True)
        # One call more: the probe. What was answered before the interrupt is not asked again.
        assert not server.statistics.to_json(hashes=False)["answered_again"]
        assert server.statistics.answered.total() == CALLS + 1


async def test_model_that_cannot_be_reached_is_named_at_once_and_when_stopped(
    write_manifest: Callable[[str], Path],
) -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    async with running("run", write_manifest(_at(url))) as process:
        line = await read_until(process.stderr, "generating (waiting for generator: ")
        assert url in line
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert process.returncode == 143
    assert "\nit was waiting for generator: " in err.decode()
    assert "WARNING" not in err.decode()


async def test_url_that_may_lack_its_version_is_noted_before_the_run_begins(
    write_manifest: Callable[[str], Path],
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    async with running("run", write_manifest(_at(url))) as process:
        line = await read_until(process.stderr, "")
        # No SIGINT: whoever starts the tests in the background has it ignored until a run begins.
        process.kill()
        await process.communicate()
    assert f"spec.models[0].external.url: note: {url} has no /v1" in line


async def test_changed_pipeline_meets_the_finished_output(
    server: FakeLlm, write_manifest: Callable[[str], Path]
) -> None:
    await kubesynth("run", write_manifest(_external(server)))
    changed = write_manifest(_external(server).replace("seed: 7", "seed: 8"))
    code, _, err = await kubesynth("run", changed)
    assert (code, "output.ifExists" in err) == (64, True)


async def test_failures_above_the_limit_exit_65_and_are_written_down(
    server: FakeLlm, write_manifest: Callable[[str], Path], tmp_path: Path
) -> None:
    server.set_faults(Faults(context_tokens=20))
    code, _, err = await kubesynth("run", write_manifest(_external(server)))
    assert (code, "maxFailedRecordsPercent" in err) == (65, True)
    assert "most often ContextOverflow (" in err
    assert "ContextOverflow, such as: " in err
    assert "all of them: " in err
    errors = [
        json.loads(line)
        for path in (tmp_path / "out" / "errors").glob("*.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert errors


async def test_wrong_key_ends_the_run_and_names_it(
    server: FakeLlm, write_manifest: Callable[[str], Path]
) -> None:
    server.set_faults(Faults(api_key="right"))
    code, _, err = await kubesynth("run", write_manifest(_external(server)))
    assert (code, "apiKey" in err, "Traceback" in err) == (64, True, False)


async def test_key_from_a_secret_flag_is_sent(
    server: FakeLlm, write_manifest: Callable[[str], Path], tmp_path: Path
) -> None:
    server.set_faults(Faults(api_key="right"))
    (tmp_path / "keys.env").write_text("token=right\n")
    model = (
        f"external: {{url: '{server.url}', model: {MODEL},"
        " apiKey: {secretKeyRef: {name: llm, key: token}}}"
    )
    path = write_manifest(JOB.format(model=model))
    code, out, err = await kubesynth("run", path, "--secret", f"llm={tmp_path / 'keys.env'}")
    assert (code, "complete: 12 rows" in out) == (0, True), err


async def test_server_flag_stands_in_for_a_model_server(
    server: FakeLlm, write_manifest: Callable[[str], Path]
) -> None:
    path = write_manifest(JOB.format(model="serverRef: {name: shared}"))
    code, out, err = await kubesynth("run", path, "--server", f"shared={server.url}#{MODEL}")
    assert (code, "complete: 12 rows" in out) == (0, True), err


async def test_show_prints_the_first_rows_and_lineage_on_demand(
    server: FakeLlm, write_manifest: Callable[[str], Path], tmp_path: Path
) -> None:
    await kubesynth("run", write_manifest(_external(server)))
    code, out, _ = await kubesynth("show", tmp_path / "out", "--rows", "3")
    assert (code, "3 of 12 rows" in out, "question" in out, "root_id" in out) == (
        0,
        True,
        True,
        False,
    )
    _, out, _ = await kubesynth("show", tmp_path / "out", "--rows", "1", "--all-columns")
    assert "root_id" in out


async def test_show_of_anything_else_says_what_it_is(tmp_path: Path) -> None:
    code, _, err = await kubesynth("show", tmp_path)
    assert (code, "it is no output of kubesynth" in err) == (64, True)


async def test_embedded_model_makes_a_dataset_without_key_or_network(
    pulled_weights: weights.Weights, write_manifest: Callable[[str], Path], tmp_path: Path
) -> None:
    assert pulled_weights.path.exists()
    model = "embedded: {slots: 2, contextTokens: 1024}"
    text = JOB.format(model=model).replace("docs/*.md", "docs/[0-2].md")
    # So small a model does not come to an end by itself.
    text = text.replace("answer: {}", "answer: {onCutOff: Keep}")
    async with running("run", write_manifest(text)) as process:
        out, err = await process.communicate()
    assert (process.returncode, b"complete: " in out) == (0, True), err
    rows = read_rows(tmp_path / "out")
    assert rows
    assert all(row["question"] and row["answer"] for row in rows)
    assert not _servers_of(process.pid)


def _servers_of(pid: int) -> list[Path]:
    """Return the embedded servers that a process has started and left behind."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"--parent-pid={pid}" in (folder / "cmdline").read_text().split("\0"):
                found.append(folder)
    return found
