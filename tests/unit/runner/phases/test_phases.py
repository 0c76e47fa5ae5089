"""plan, generate and finalize on a folder, with a model that is a pure function."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from kubesynth_api.conditions import Reason
from kubesynth_api.run_spec import RunSpec
from kubesynth_api.runner_contract import RunnerPhase, TerminationMessage
from kubesynth_runner import clients, errors
from kubesynth_runner import run as runner
from kubesynth_runner.io import ledger
from kubesynth_runner.llm.base import CompletionRequest
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.fake import FakeChatClient
from kubesynth_runner.run import PhaseRequest
from kubesynth_testing import runs


class Model:
    """A pure function of the request that refuses documents with one of the texts in `bad`."""

    def __init__(self) -> None:
        self.bad: tuple[str, ...] = ()

    def __call__(self, request: CompletionRequest) -> str | ClientError:
        if any(text in request.messages[-1].content for text in self.bad):
            return ClientError(ErrorKind.BAD_REQUEST, "not this one", status_code=400, body="raw")
        return runs.reply(request)


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def client(model: Model, monkeypatch: pytest.MonkeyPatch) -> FakeChatClient:
    """Stand in for every model of a run."""
    fake = FakeChatClient(model)
    monkeypatch.setattr(clients, "OpenAIChatClient", lambda _endpoint: fake)
    return fake


async def do(spec: RunSpec, phase: RunnerPhase, shard: int = 0, **more: Any) -> TerminationMessage:
    context = runs.a_context(spec)
    return await runner.run_phase(context, PhaseRequest(phase, shard, **more))


async def finish(spec: RunSpec) -> TerminationMessage:
    await do(spec, RunnerPhase.PLAN)
    for shard in range(spec.spec.shards.count):
        await do(spec, RunnerPhase.GENERATE, shard)
    return await do(spec, RunnerPhase.FINALIZE)


async def test_plan_counts_and_estimates_without_a_model(tmp_path: Path) -> None:
    message = await do(runs.a_run(tmp_path, documents=7), RunnerPhase.PLAN)
    assert message.input_records == 7
    assert message.estimate is not None
    assert (message.estimate.calls, message.estimate.rows) == (7 + 14, 14)


async def test_plan_is_made_once(tmp_path: Path) -> None:
    spec = runs.a_run(tmp_path, documents=7)
    await do(spec, RunnerPhase.PLAN)
    runs.write_documents(tmp_path / "in", 3)  # somebody changes the input
    assert (await do(spec, RunnerPhase.PLAN)).input_records == 7


@pytest.mark.parametrize(
    ("fields", "reason", "problem"),
    [
        pytest.param(
            {"input": {"uri": "file://FOLDER/none/*.jsonl"}},
            Reason.INPUT_UNREADABLE,
            "matches no file",
            id="no-input",
        ),
        pytest.param(
            {"input": {"uri": "file://FOLDER/empty.jsonl"}},
            Reason.INPUT_UNREADABLE,
            "holds no record",
            id="empty-input",
        ),
        pytest.param(
            {"input": {"uri": "file://FOLDER/empty.jsonl", "columns": {"id": "x"}}},
            Reason.INVALID_SPEC,
            "'?id'? is kubesynth's own",
            id="reserved-column",
        ),
        pytest.param(
            {"output": {"exports": ["alpaca"]}},
            Reason.NOT_IMPLEMENTED,
            "exports",
            id="not-available",
        ),
    ],
)
async def test_plan_refuses_what_cannot_work(
    tmp_path: Path, fields: dict[str, Any], reason: Reason, problem: str
) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    wire = json.loads(json.dumps(fields).replace("FOLDER", str(tmp_path)))
    with pytest.raises(errors.ConfigurationError, match=problem) as caught:
        await do(runs.a_run(tmp_path, **wire), RunnerPhase.PLAN)
    assert caught.value.reason is reason


async def test_phases_make_a_dataset_with_exact_counts(
    tmp_path: Path, client: FakeChatClient
) -> None:
    spec = runs.a_run(tmp_path, documents=7, shards={"count": 3})
    message = await finish(spec)
    rows = runs.read_rows(tmp_path / "out")
    assert len(rows) == len({row["id"] for row in rows}) == 14
    assert message.totals is not None
    counts = message.totals.records
    assert (counts.in_, counts.done, counts.accepted, counts.failed) == (7, 7, 14, 0)
    assert message.totals.requests.ok == len(client.requests) == 7 + 14
    tokens = [call["completion_tokens"] for row in rows for call in row["provenance"]]
    # Each document's call is in the provenance of both of its rows.
    assert message.totals.tokens.completion < sum(tokens)
    assert (tmp_path / "out/_SUCCESS").exists()
    assert "| rows | 14 |" in (tmp_path / "out/report.md").read_text()


async def test_row_tells_where_it_comes_from(tmp_path: Path, client: FakeChatClient) -> None:
    await finish(runs.a_run(tmp_path, documents=1))
    row = runs.read_rows(tmp_path / "out")[0]
    assert row["source"] == {
        "uri": f"file://{tmp_path}/in/docs-0000000.jsonl",
        "position": 1,
        "id": "doc-0",
    }
    assert row["text"] == "Document 0 is about mills."
    assert [call["stage"] for call in row["provenance"]] == ["closedQA-0", "answer-1"]
    assert row["provenance"][0]["seed"] != row["provenance"][1]["seed"]


async def test_finished_shard_is_finished_at_once(tmp_path: Path, client: FakeChatClient) -> None:
    spec = runs.a_run(tmp_path)
    await finish(spec)
    asked = len(client.requests)
    again = await do(spec, RunnerPhase.GENERATE)
    assert len(client.requests) == asked
    assert again.totals is not None
    assert again.totals.records.accepted == 12


async def test_finalize_can_be_repeated_and_reported(
    tmp_path: Path, client: FakeChatClient
) -> None:
    spec = runs.a_run(tmp_path)
    first = await finish(spec)
    files = {p: p.read_bytes() for p in (tmp_path / "out").iterdir() if p.is_file()}
    second = await do(spec, RunnerPhase.FINALIZE)
    assert files == {p: p.read_bytes() for p in (tmp_path / "out").iterdir() if p.is_file()}
    report = await do(spec, RunnerPhase.REPORT)
    assert first.totals == second.totals == report.totals
    assert first.manifest_uri == report.manifest_uri == f"file://{tmp_path}/out/manifest.json"


async def test_finalize_waits_for_all_shards_unless_it_may_be_partial(
    tmp_path: Path, client: FakeChatClient
) -> None:
    spec = runs.a_run(tmp_path, documents=6, shards={"count": 2})
    await do(spec, RunnerPhase.PLAN)
    await do(spec, RunnerPhase.GENERATE, 0)
    with pytest.raises(errors.RetryLaterError, match="shard 1 is not finished"):
        await do(spec, RunnerPhase.FINALIZE)
    message = await do(spec, RunnerPhase.FINALIZE, partial=True)
    assert message.totals is not None
    assert (message.totals.records.in_, message.totals.records.accepted) == (6, 6)
    assert not (tmp_path / "out/_SUCCESS").exists()
    assert not runs.read_manifest(tmp_path / "out").complete
    await do(spec, RunnerPhase.GENERATE, 1)
    await do(spec, RunnerPhase.FINALIZE)
    assert len(runs.read_rows(tmp_path / "out")) == 12
    assert (tmp_path / "out/_SUCCESS").exists()


async def test_finalize_deletes_files_that_no_commit_names(
    tmp_path: Path, client: FakeChatClient
) -> None:
    spec = runs.a_run(tmp_path)
    await do(spec, RunnerPhase.PLAN)
    await do(spec, RunnerPhase.GENERATE)
    (tmp_path / "out/data/part-00000-00099-stale.jsonl").write_text("{}")
    await do(spec, RunnerPhase.FINALIZE)
    assert not list((tmp_path / "out/data").glob("*stale*"))


@pytest.mark.parametrize("phase", [RunnerPhase.GENERATE, RunnerPhase.FINALIZE, RunnerPhase.REPORT])
async def test_nothing_goes_on_before_plan(tmp_path: Path, phase: RunnerPhase) -> None:
    with pytest.raises(errors.RetryLaterError):
        await do(runs.a_run(tmp_path), phase)


@pytest.mark.parametrize("phase", [RunnerPhase.GENERATE, RunnerPhase.FINALIZE, RunnerPhase.REPORT])
async def test_overwritten_job_can_do_nothing_in_the_new_one(
    tmp_path: Path, client: FakeChatClient, phase: RunnerPhase
) -> None:
    old = runs.a_run(tmp_path, uid="old")
    new = runs.a_run(tmp_path, uid="new", output={"ifExists": "Overwrite"})
    await do(old, RunnerPhase.PLAN)
    await finish(new)
    asked = len(client.requests)
    with pytest.raises(errors.ConfigurationError, match="belongs to the job") as caught:
        await do(old, phase)
    assert caught.value.reason is Reason.OUTPUT_CONFLICT
    assert len(client.requests) == asked


async def test_resuming_job_pays_only_for_what_is_left(
    tmp_path: Path, client: FakeChatClient
) -> None:
    old = runs.a_run(tmp_path, uid="old", shards={"count": 2})
    await do(old, RunnerPhase.PLAN)
    await do(old, RunnerPhase.GENERATE, 0)
    asked = len(client.requests)
    new = runs.a_run(tmp_path, uid="new", shards={"count": 2}, output={"ifExists": "Resume"})
    await finish(new)
    assert len(client.requests) == 2 * asked
    assert len(runs.read_rows(tmp_path / "out")) == 12


async def test_changed_input_is_named(tmp_path: Path, client: FakeChatClient) -> None:
    spec = runs.a_run(tmp_path)
    await do(spec, RunnerPhase.PLAN)
    runs.write_documents(tmp_path / "in", 3)
    with pytest.raises(errors.ConfigurationError, match=r"docs-0000000\.jsonl has changed"):
        await do(spec, RunnerPhase.GENERATE)


@pytest.mark.usefixtures("client")
async def test_failed_records_are_data_within_the_policy(tmp_path: Path, model: Model) -> None:
    model.bad = ("Document 3 ",)
    spec = runs.a_run(tmp_path, failurePolicy={"maxFailedRecordsPercent": 20})
    message = await finish(spec)
    assert message.totals is not None
    assert (message.totals.records.accepted, message.totals.records.failed) == (10, 1)
    (failed,) = runs.read_errors(tmp_path / "out")
    assert (failed["kind"], failed["stage"], failed["raw"]) == ("BadRequest", "closedQA-0", "raw")
    assert failed["columns"]["id"] == "doc-3"


@pytest.mark.usefixtures("client")
async def test_shard_with_too_many_failures_is_given_up_with_its_errors_kept(
    tmp_path: Path, model: Model
) -> None:
    model.bad = (
        "Document 3 ",
        "Document 4 ",
        "Document 5 ",
    )
    spec = runs.a_run(tmp_path, failurePolicy={"maxFailedRecordsPercent": 20})
    await do(spec, RunnerPhase.PLAN)
    for _ in range(2):  # it stays given up
        with pytest.raises(errors.PoisonedShardError, match="maxFailedRecordsPercent") as caught:
            await do(spec, RunnerPhase.GENERATE)
        assert re.search(r"most often BadRequest \(\d\): .*not this one", str(caught.value))
    assert len(runs.read_committed(tmp_path / "out/errors")) >= 2
    await do(spec, RunnerPhase.FINALIZE, partial=True)
    failed = runs.read_errors(tmp_path / "out")
    assert len(failed) >= 2
    report = (tmp_path / "out/report.md").read_text()
    assert f"| BadRequest | {len(failed)} | not this one" in report


@pytest.mark.usefixtures("client")
async def test_shard_whose_last_record_was_one_failure_too_many_stays_failed(
    tmp_path: Path, model: Model
) -> None:
    model.bad = ("Document 5 ",)
    spec = runs.a_run(tmp_path, failurePolicy={"maxFailedRecordsPercent": 0})
    await do(spec, RunnerPhase.PLAN)
    for _ in range(2):
        with pytest.raises(errors.PoisonedShardError):
            await do(spec, RunnerPhase.GENERATE)
    assert ledger.read_shard_manifest(runs.a_context(spec).storage, "uid-1", 0) is None


@pytest.mark.usefixtures("client")
async def test_all_in_one_pod_leaves_a_partial_report_of_a_failed_shard(
    tmp_path: Path, model: Model
) -> None:
    model.bad = ("Document",)
    spec = runs.a_run(tmp_path)
    with pytest.raises(errors.PoisonedShardError):
        await do(spec, RunnerPhase.ALL)
    assert not runs.read_manifest(tmp_path / "out").complete
    assert runs.read_errors(tmp_path / "out")


async def test_stop_during_plan_is_obeyed_between_files(tmp_path: Path) -> None:
    runs.write_documents(tmp_path / "in", 6, per_file=2)
    context = runs.a_context(runs.a_run(tmp_path))
    context.stop.set()
    with pytest.raises(errors.StoppedError):
        await runner.run_phase(context, PhaseRequest(RunnerPhase.PLAN))


class HangingClient(FakeChatClient):
    """Never answers."""

    async def probe(self) -> Any:
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("seconds", "expected"), [(3600, errors.StoppedError), (1, errors.RetryLaterError)]
)
async def test_waiting_for_a_model_that_hangs_ends_by_stop_or_deadline(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seconds: int,
    expected: type[errors.RunnerError],
) -> None:
    monkeypatch.setattr(clients, "OpenAIChatClient", lambda _endpoint: HangingClient(""))
    spec = runs.a_run(tmp_path, deadlines={"modelReadySeconds": seconds})
    await do(spec, RunnerPhase.PLAN)
    context = runs.a_context(spec)
    task = asyncio.create_task(runner.run_phase(context, PhaseRequest(RunnerPhase.GENERATE)))
    await asyncio.sleep(0.1)
    if expected is errors.StoppedError:
        context.stop.set()
    with pytest.raises(expected):
        await asyncio.wait_for(task, 5)


async def test_capabilities_are_asked_once_per_run(
    tmp_path: Path, client: FakeChatClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a server that has learned schemas since would make the journal useless."""
    spec = runs.a_run(tmp_path, shards={"count": 2})
    await do(spec, RunnerPhase.PLAN)
    await do(spec, RunnerPhase.GENERATE, 0)
    other = FakeChatClient(runs.reply, json_schema=False)
    monkeypatch.setattr(clients, "OpenAIChatClient", lambda _endpoint: other)
    await do(spec, RunnerPhase.GENERATE, 1)
    assert all(request.response_format for request in other.requests[:1])


@pytest.mark.parametrize("bounds", [True, False])
async def test_lists_are_asked_for_with_the_bounds_that_a_server_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bounds: bool
) -> None:
    client = FakeChatClient(runs.reply, schema_bounds=bounds)
    monkeypatch.setattr(clients, "OpenAIChatClient", lambda _endpoint: client)
    spec = runs.a_run(tmp_path, shards={"count": 2})
    await do(spec, RunnerPhase.PLAN)
    await do(spec, RunnerPhase.GENERATE, 0)
    client = FakeChatClient(runs.reply, schema_bounds=not bounds)
    await do(spec, RunnerPhase.GENERATE, 1)
    formats = [request.response_format for request in client.requests]
    (questions,) = {str(wanted.schema) for wanted in formats if wanted is not None}
    assert ("maxItems" in questions) is bounds, "as the first process of the run found"
    assert all(wanted.strict for wanted in formats if wanted is not None)
