"""Whatever the server does, each input record ends as rows or as an error, and none is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from kubesynth_api.conditions import Reason
from kubesynth_api.run_spec import RunSpec
from kubesynth_api.runner_contract import ExitCode, RunnerPhase
from kubesynth_runner.engine.breaker import SUSPECT_AFTER_ERRORS
from kubesynth_runner.io.local_storage import LocalStorage
from kubesynth_runner.models import CapabilityStore, StoredCapabilities
from kubesynth_testing import runs
from kubesynth_testing.fake_llm import FakeLlm, Faults
from kubesynth_testing.ports import free_port
from kubesynth_testing.recording_llm import RecordingLlm
from kubesynth_testing.runner_process import Nursery, Pod, RunnerProcess

DOCUMENTS = 20


def a_job(folder: Path, url: str, *, percent: int = 100, **model: Any) -> RunSpec:
    return runs.a_run(
        folder,
        documents=DOCUMENTS,
        models=[runs.a_model(url, concurrency=8, **model)],
        failurePolicy={"maxFailedRecordsPercent": percent},
    )


def attempts_by_call(rows: list[runs.Row]) -> Counter[tuple[str, str]]:
    """Return how often each completion that the rows are made of was asked for."""
    calls = (call for row in rows for call in row["provenance"])
    return Counter({(call["stage"], call["prompt_hash"]): call["attempts"] for call in calls})


def check_nothing_is_lost(folder: Path) -> Counter[str]:
    """Make sure that each document has rows or an error; return the errors by kind."""
    output = folder / "out"
    rows, failed = runs.read_rows(output), runs.read_errors(output)
    roots = {row["root_id"] for row in (*rows, *failed)}
    assert len(roots) == DOCUMENTS
    ids = [row["id"] for row in rows]
    assert len(ids) == len(set(ids))
    tally = runs.read_manifest(output).tally
    assert (tally.done, tally.accepted, tally.failed) == (DOCUMENTS, len(rows), len(failed))
    return Counter(row["kind"] for row in failed)


# Faults that spend an attempt of their record each, and faults that spend none.
RETRIED = (
    Faults(error_rate=0.15, error_status=500),
    Faults(garbage_rate=0.15),
    Faults(empty_choices_rate=0.15),
    Faults(null_content_rate=0.15),
)
PATIENCE = (
    Faults(requests_per_second=40, burst=2),
    Faults(drip_rate=0.3, drip_seconds=0.5),
    Faults(usage=False),
    Faults(wrong_usage=True),
)


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(Faults(error_rate=0.15, error_status=500), id="500"),
        pytest.param(Faults(error_rate=0.08, error_status=503), id="503"),
        pytest.param(Faults(error_rate=0.08, error_status=529), id="529"),
        pytest.param(Faults(garbage_rate=0.15), id="garbage"),
        pytest.param(Faults(half_closed_rate=0.2), id="half-closed"),
        pytest.param(Faults(empty_choices_rate=0.15), id="empty-choices"),
        pytest.param(Faults(null_content_rate=0.15), id="null-content"),
        pytest.param(Faults(drip_rate=0.3, drip_seconds=0.5), id="slow-drip"),
        pytest.param(Faults(hang_rate=0.05), id="hang"),
        pytest.param(Faults(usage=False), id="no-usage"),
        pytest.param(Faults(wrong_usage=True), id="wrong-usage"),
        pytest.param(Faults(reasoning="Let me think."), id="reasoning"),
        pytest.param(Faults(strict_mode="None"), id="no-schemas"),
        pytest.param(Faults(strict_mode="Azure"), id="no-bounds-in-schemas"),
        pytest.param(Faults(requests_per_second=40, burst=2), id="429-storm"),
    ],
)
async def test_faults_that_pass_leave_a_whole_dataset(
    tmp_path: Path, server: RecordingLlm, nursery: Nursery, faults: Faults
) -> None:
    server.set_faults(faults)
    spec = a_job(tmp_path, server.url, maxAttempts=20, requestTimeoutSeconds=1)
    pod = Pod(tmp_path / "pod", spec)
    assert await nursery.run(pod) == 0
    assert check_nothing_is_lost(tmp_path) == {}
    rows = runs.read_rows(tmp_path / "out")
    assert len(rows) == 2 * DOCUMENTS
    received, answered = server.statistics.received, server.statistics.answered
    assert {answered[key] for key in server.documents} == {1}, "paid for twice"
    attempts = attempts_by_call(rows)
    # A pause that the server asks for, or an outage, is no attempt of the record's.
    assert len(attempts) == 3 * DOCUMENTS <= attempts.total()
    assert attempts.total() <= sum(received[key] for key in server.documents)
    requests = pod.message()["totals"]["requests"]
    assert requests["ok"] == 3 * DOCUMENTS
    if faults.requests_per_second:
        assert requests["rateLimited"] == server.statistics.statuses["429"] > 0
    if faults in PATIENCE:
        assert set(attempts.values()) == {1}
        assert requests["retried"] == 0
    if faults in RETRIED:
        assert attempts.total() == sum(received[key] for key in server.documents)
        assert requests["retried"] == attempts.total() - len(attempts) > 0


@pytest.mark.parametrize(
    ("faults", "kinds"),
    [
        pytest.param(Faults(error_rate=0.5, error_status=500), {"ServerError"}, id="500"),
        pytest.param(Faults(error_rate=0.5, error_status=400), {"BadRequest"}, id="400"),
        pytest.param(Faults(garbage_rate=0.5), {"MalformedResponse"}, id="garbage"),
        pytest.param(Faults(empty_choices_rate=0.5), {"EmptyCompletion"}, id="empty-choices"),
        pytest.param(Faults(null_content_rate=0.5), {"EmptyCompletion"}, id="null-content"),
        pytest.param(Faults(context_tokens=100), {"ContextOverflow"}, id="context-overflow"),
        pytest.param(Faults(hang_rate=0.3), {"Timeout"}, id="hang"),
    ],
)
async def test_faults_that_stay_become_errors_with_their_kind(
    tmp_path: Path, server: RecordingLlm, nursery: Nursery, faults: Faults, kinds: set[str]
) -> None:
    spec = a_job(tmp_path, server.url, maxAttempts=1, requestTimeoutSeconds=1)
    # The server broke after it was asked what it understands.
    assert await nursery.run(Pod(tmp_path / "plan", spec, RunnerPhase.PLAN)) == 0
    found = StoredCapabilities(json_schema=True)
    CapabilityStore(LocalStorage(tmp_path / "out"), spec.uid).save("generator", found)
    server.set_faults(faults)
    assert await nursery.run(Pod(tmp_path / "pod", spec)) == 0
    assert check_nothing_is_lost(tmp_path).keys() == kinds
    for failed in runs.read_errors(tmp_path / "out"):
        assert failed["attempts"] == 1
        assert failed["message"]
        assert failed["columns"]["text"].startswith("Document")


class BrokenByOne(RecordingLlm):
    """Drops the connection over every answer about document 0."""

    async def _deliver(
        self, request: web.Request, key: str, reply: dict[str, Any], fault: str | None
    ) -> web.StreamResponse:
        broken = "half_closed" if self.documents.get(key) == 0 else fault
        return await super()._deliver(request, key, reply, broken)


async def test_record_that_breaks_the_connection_fails_alone(
    tmp_path: Path, nursery: Nursery
) -> None:
    """It must neither pass for an outage of the server nor hold the shard for ever."""
    async with BrokenByOne() as server:
        server.set_faults(Faults(latency_seconds=0.3))
        pod = Pod(tmp_path / "pod", a_job(tmp_path, server.url, maxAttempts=3))
        assert await nursery.run(pod) == 0
    assert check_nothing_is_lost(tmp_path) == {"Connection": 1}
    (failed,) = runs.read_errors(tmp_path / "out")
    assert (failed["columns"]["id"], failed["attempts"]) == ("doc-0", 3)


async def test_outage_in_the_middle_pauses_and_goes_on(tmp_path: Path, nursery: Nursery) -> None:
    port = free_port()
    faults = Faults(latency_seconds=0.05)
    spec = a_job(tmp_path, f"http://127.0.0.1:{port}/v1", maxAttempts=3)
    pod = Pod(tmp_path / "pod", spec)
    async with FakeLlm(port=port, faults=faults) as server:
        pid = await nursery.start(pod)
        while server.statistics.answered.total() < 20:
            await asyncio.sleep(0.01)
    await asyncio.sleep(1.5)  # nobody listens
    during = await pod.progress()
    assert during["totals"]["records"]["failed"] == 0
    async with FakeLlm(port=port, faults=faults):
        assert await nursery.exit_code(pid) == 0
    assert check_nothing_is_lost(tmp_path) == {}


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(Faults(error_rate=1.0, error_status=500), id="500"),
        pytest.param(Faults(error_rate=1.0, error_status=503), id="503"),
        pytest.param(Faults(error_rate=1.0, error_status=404), id="404"),
        pytest.param(Faults(garbage_rate=1.0), id="garbage"),
        pytest.param(Faults(half_closed_rate=1.0), id="half-closed"),
        pytest.param(Faults(hang_rate=1.0), id="hang"),
    ],
)
async def test_server_that_fails_everybody_for_a_while_costs_no_record(
    tmp_path: Path, server: RecordingLlm, nursery: Nursery, faults: Faults
) -> None:
    """Each record would have run out of attempts long before the server is well again."""
    server.set_faults(Faults(latency_seconds=0.05))
    spec = a_job(tmp_path, server.url, percent=0, maxAttempts=3, requestTimeoutSeconds=1)
    pod = Pod(tmp_path / "pod", spec)
    pid = await nursery.start(pod)
    while server.statistics.answered.total() < 10:
        await asyncio.sleep(0.01)
    server.set_faults(faults)
    await asyncio.sleep(2.0)
    assert (await pod.progress())["totals"]["records"]["failed"] == 0
    server.set_faults(Faults())
    assert await nursery.exit_code(pid) == 0
    assert check_nothing_is_lost(tmp_path) == {}
    # The first errors count as their records' own; then the server is asked, and the rest wait.
    again = attempts_by_call(runs.read_rows(tmp_path / "out"))
    assert sum(again.values()) - len(again) <= SUSPECT_AFTER_ERRORS + 8


async def test_server_that_never_comes_is_given_up_in_time(
    tmp_path: Path, nursery: Nursery
) -> None:
    spec = a_job(tmp_path, f"http://127.0.0.1:{free_port()}/v1")
    deadlines = spec.spec.deadlines.model_copy(update={"model_ready_seconds": 1})
    spec = spec.model_copy(update={"spec": spec.spec.model_copy(update={"deadlines": deadlines})})
    pod = Pod(tmp_path / "pod", spec)
    assert await nursery.run(pod) == ExitCode.RETRY
    error = pod.message()["error"]
    assert error["reason"] == Reason.MODEL_STARTUP_FAILED
    assert "did not answer within deadlines.modelReadySeconds (1 s)" in error["message"]


async def test_wrong_key_is_a_configuration_error(
    tmp_path: Path, server: RecordingLlm, nursery: Nursery
) -> None:
    server.set_faults(Faults(api_key="right"))
    secret = {"secretKeyRef": {"name": "llm", "key": "key"}}
    spec = a_job(
        tmp_path,
        server.url,
        external={"url": server.url, "model": "fake-model", "apiKey": secret},
    )
    pod = Pod(tmp_path / "pod", spec)
    for key, code in (("wrong", ExitCode.CONFIGURATION), ("right", ExitCode.OK)):
        async with RunnerProcess(pod, KUBESYNTH_MODEL_GENERATOR_API_KEY=key) as process:
            assert await process.exit_code() == code
        if code:
            error = pod.message()["error"]
            assert error["reason"] == Reason.MODEL_STARTUP_FAILED
            assert "refused the API key" in error["message"]
            assert "wrong" not in (tmp_path / "pod/log.jsonl").read_text()


async def test_missing_key_names_the_secret(
    tmp_path: Path, server: RecordingLlm, nursery: Nursery
) -> None:
    secret = {"secretKeyRef": {"name": "llm", "key": "key"}}
    external = {"url": server.url, "model": "fake-model", "apiKey": secret}
    pod = Pod(tmp_path / "pod", a_job(tmp_path, server.url, external=external))
    assert await nursery.run(pod) == ExitCode.CONFIGURATION
    assert "Secret 'llm' has no key 'key'" in pod.message()["error"]["message"]


async def test_too_many_failures_poison_the_shard_and_leave_errors(
    tmp_path: Path, server: RecordingLlm, nursery: Nursery
) -> None:
    server.set_faults(Faults(context_tokens=100))
    spec = a_job(tmp_path, server.url, percent=10)
    for _ in range(2):
        pod = Pod(tmp_path / "pod", spec)
        assert await nursery.run(pod) == ExitCode.POISONED_SHARD
        assert pod.message()["error"]["reason"] == Reason.TOO_MANY_FAILED_RECORDS
    failed = runs.read_errors(tmp_path / "out")
    assert len(failed) >= 3
    assert {row["kind"] for row in failed} == {"ContextOverflow"}
    assert not (tmp_path / "out/_SUCCESS").exists()
    # Its state is intact: a job that allows for more goes on with it and asks nothing again.
    asked = {key for key in server.statistics.received if key in server.documents}
    tolerant = a_job(tmp_path, server.url, percent=100)
    output = tolerant.spec.output.model_copy(update={"if_exists": "Resume"})
    tolerant = tolerant.model_copy(
        update={"uid": "uid-2", "spec": tolerant.spec.model_copy(update={"output": output})}
    )
    assert await nursery.run(Pod(tmp_path / "tolerant", tolerant)) == 0
    assert check_nothing_is_lost(tmp_path) == {"ContextOverflow": DOCUMENTS}
    again = sum(server.statistics.received[key] - 1 for key in asked)
    assert again <= 8, "more than what was in flight was asked again"
