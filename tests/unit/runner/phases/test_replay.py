"""A run that replays the failed records of another one, with a model that is a pure function."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from kubesynth_api.conditions import Reason
from kubesynth_api.run_spec import RunSpec
from kubesynth_api.runner_contract import RunnerPhase, TerminationMessage
from kubesynth_runner import clients, errors, records
from kubesynth_runner import run as runner
from kubesynth_runner.cli import job_estimate
from kubesynth_runner.cli.errors import CommandError
from kubesynth_runner.io.mounts import Mounts
from kubesynth_runner.llm.base import CompletionRequest
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.fake import FakeChatClient
from kubesynth_runner.run import PhaseRequest
from kubesynth_testing import runs

DOCUMENTS = 8
# Documents that no question can be asked about, and questions that have no answer.
BAD = ("Document 3 ",), ("number 1?",)


class Model:
    """A pure function of the request; those that hold all texts of an entry of `bad` fail."""

    def __init__(self) -> None:
        self.bad: tuple[tuple[str, ...], ...] = BAD
        # Those that are nothing but a question with an odd hash.
        self.bare_questions_fail = False

    def __call__(self, request: CompletionRequest) -> str | ClientError:
        prompt = request.messages[-1].content
        is_bad = any(all(text in prompt for text in texts) for texts in self.bad)
        bare = re.fullmatch(r"(?:What|It) is \w+?([0-9a-f])(?: number \d\?|\.)", prompt.strip())
        if is_bad or (self.bare_questions_fail and bare and int(bare[1], 16) % 2):
            return ClientError(ErrorKind.BAD_REQUEST, "not this one", status_code=400, body="raw")
        return runs.reply(request)


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def client(model: Model, monkeypatch: pytest.MonkeyPatch) -> FakeChatClient:
    fake = FakeChatClient(model)
    monkeypatch.setattr(clients, "OpenAIChatClient", lambda _endpoint: fake)
    return fake


async def do(spec: RunSpec, phase: RunnerPhase, shard: int = 0) -> TerminationMessage:
    return await runner.run_phase(runs.a_context(spec), PhaseRequest(phase, shard))


async def finish(spec: RunSpec) -> TerminationMessage:
    await do(spec, RunnerPhase.PLAN)
    for shard in range(spec.spec.shards.count):
        await do(spec, RunnerPhase.GENERATE, shard)
    return await do(spec, RunnerPhase.FINALIZE)


def first_run(folder: Path, **spec: Any) -> RunSpec:
    """Return a run in `folder`/first, with an input that all runs of a test share."""
    source = folder / "in"
    if not source.exists():
        runs.write_documents(source, DOCUMENTS)
    given = {"uri": f"file://{source}/*.jsonl", "idColumn": "id", "columns": {"name": "id"}}
    return runs.a_run(folder / "first", **{"input": given, "failurePolicy": _anything(), **spec})


def _anything() -> dict[str, int]:
    return {"maxFailedRecordsPercent": 100}


def replay_of(folder: Path, name: str = "again", before: str = "first", **spec: Any) -> RunSpec:
    """Return a run in `folder`/`name` over what failed in `folder`/`before`."""
    return runs.a_run(
        folder / name,
        uid=f"uid-{name}",
        **{
            "input": None,
            "retryFailed": {"fromOutput": f"file://{folder}/{before}/out"},
            "failurePolicy": _anything(),
            **spec,
        },
    )


def rows_of(folder: Path, *names: str) -> list[runs.Row]:
    """Return the rows of several runs, no id twice."""
    rows = [row for name in names for row in runs.read_rows(folder / name / "out")]
    assert len({row["id"] for row in rows}) == len(rows)
    return rows


@pytest.mark.parametrize("shards", [1, 3])
async def test_both_runs_together_are_what_one_run_without_failures_makes(
    tmp_path: Path, client: FakeChatClient, model: Model, shards: int
) -> None:
    await finish(first_run(tmp_path))
    assert len(runs.read_rows(tmp_path / "first/out")) == DOCUMENTS - 1
    model.bad = ()
    client.requests.clear()
    message = await finish(replay_of(tmp_path, shards={"count": shards}))
    # One list of questions and its two answers, and one answer for each other document.
    assert len(client.requests) == 1 + 2 + (DOCUMENTS - 1)
    assert message.totals is not None
    counts = message.totals.records
    assert (counts.in_, counts.done, counts.accepted, counts.failed) == (8, 8, 9, 0)
    whole = first_run(tmp_path, output={"uri": f"file://{tmp_path}/whole/out"})
    await finish(whole)
    assert runs.digest(rows_of(tmp_path, "first", "again")) == runs.digest(
        rows_of(tmp_path, "whole")
    )
    assert runs.read_errors(tmp_path / "again/out") == []


async def test_what_fails_again_is_what_is_left_and_can_be_replayed_in_turn(
    tmp_path: Path, client: FakeChatClient, model: Model
) -> None:
    await finish(first_run(tmp_path))
    model.bad = (("number 1?",),)
    await finish(replay_of(tmp_path))
    left = runs.read_errors(tmp_path / "again/out")
    assert len(left) == DOCUMENTS  # the question of the third document is among them now
    assert {row["stage"] for row in left} == {"answer-1"}
    model.bad = ()
    client.requests.clear()
    await finish(replay_of(tmp_path, "third", before="again"))
    assert len(client.requests) == DOCUMENTS
    rows = rows_of(tmp_path, "first", "again", "third")
    assert len(rows) == 2 * DOCUMENTS
    assert {len(row["provenance"]) for row in rows} == {2}
    assert {row["name"] for row in rows} == {f"doc-{number}" for number in range(DOCUMENTS)}


async def test_stage_that_failed_can_be_changed(
    tmp_path: Path, client: FakeChatClient, model: Model
) -> None:
    await finish(first_run(tmp_path))
    model.bad = ()
    client.requests.clear()
    pipeline = [
        {"closedQA": {"questions": 2}},
        {"answer": {"sampling": {"maxTokens": 900}}, "id": "longer"},
    ]
    await finish(replay_of(tmp_path, pipeline=pipeline))
    assert len(client.requests) == 1 + 2 + (DOCUMENTS - 1)
    assert len(rows_of(tmp_path, "first", "again")) == 2 * DOCUMENTS


async def test_other_pipeline_begins_with_the_failed_record_and_keeps_its_lineage(
    tmp_path: Path, client: FakeChatClient, model: Model
) -> None:
    await finish(first_run(tmp_path))
    model.bad = ()
    await finish(replay_of(tmp_path, pipeline=[{"answer": {}}]))
    failed = {row["id"]: row for row in runs.read_errors(tmp_path / "first/out")}
    again = runs.read_rows(tmp_path / "again/out")
    assert len(again) == DOCUMENTS - 1  # those with a question
    for row in again:
        assert row["root_id"] == failed[row["parent_id"]]["root_id"]
        assert row["question"] == failed[row["parent_id"]]["columns"]["question"]
    (left,) = runs.read_errors(tmp_path / "again/out")
    assert (left["kind"], left["columns"]["name"]) == ("BadInput", "doc-3")


async def test_failures_of_the_input_are_carried_over_and_fail_no_shard(
    tmp_path: Path, client: FakeChatClient, model: Model
) -> None:
    runs.write_documents(tmp_path / "in", DOCUMENTS)
    with (tmp_path / "in/docs-0000000.jsonl").open("a") as file:
        file.write('{broken\n{"id": "doc-0", "text": "Twice."}\n{"id": "x"}\n')
    await finish(first_run(tmp_path))
    model.bad = ()
    policy = {"maxFailedRecordsPercent": 0}
    message = await finish(replay_of(tmp_path, failurePolicy=policy, shards={"count": 2}))
    left = runs.read_errors(tmp_path / "again/out")
    first = runs.read_errors(tmp_path / "first/out")
    assert left == [row for row in first if row["stage"] == "input"]
    assert [row["kind"] for row in left].count("DuplicateId") == 1
    assert message.totals is not None
    assert message.totals.records.failed == len(left) == 3
    model.bad = (("number 1?",),)
    with pytest.raises(errors.PoisonedShardError):
        await finish(replay_of(tmp_path, "strict", failurePolicy=policy))


async def test_replay_goes_on_where_it_was(
    tmp_path: Path, client: FakeChatClient, model: Model
) -> None:
    await finish(first_run(tmp_path))
    model.bad = (("number 1?", "Document 6 "),)
    policy = {"maxFailedRecordsPercent": 0}
    spec = replay_of(tmp_path, output={"rowsPerPart": 1}, failurePolicy=policy)
    with pytest.raises(errors.PoisonedShardError):
        await finish(spec)
    done = len(client.requests)
    tolerant = replay_of(tmp_path, output={"rowsPerPart": 1, "ifExists": "Resume"})
    await finish(tolerant.model_copy(update={"uid": "uid-other"}))
    assert len(client.requests) - done < DOCUMENTS
    assert len(rows_of(tmp_path, "first", "again")) == 2 * DOCUMENTS - 1


async def test_run_without_failures_leaves_nothing_to_replay(
    tmp_path: Path, client: FakeChatClient, model: Model
) -> None:
    model.bad = ()
    await finish(first_run(tmp_path))
    await finish(replay_of(tmp_path))
    assert rows_of(tmp_path, "again") == []
    assert (tmp_path / "again/out/_SUCCESS").exists()


async def test_input_may_be_repeated_but_not_changed(
    tmp_path: Path, client: FakeChatClient
) -> None:
    first = first_run(tmp_path)
    await finish(first)
    assert first.spec.input is not None
    given = first.spec.input.to_wire()
    await do(replay_of(tmp_path, input=given), RunnerPhase.PLAN)
    with pytest.raises(errors.ConfigurationError, match=r"input\.textColumn: the run") as caught:
        await do(replay_of(tmp_path, "other", input=given | {"textColumn": "x"}), RunnerPhase.PLAN)
    assert caught.value.reason is Reason.INVALID_SPEC


async def test_unusable_earlier_runs_are_refused(tmp_path: Path, client: FakeChatClient) -> None:
    async def refusal(name: str) -> str:
        with pytest.raises(errors.ConfigurationError) as caught:
            await do(replay_of(tmp_path, name), RunnerPhase.PLAN)
        assert caught.value.reason is Reason.INPUT_UNREADABLE
        return str(caught.value)

    assert "there is no run" in await refusal("none")
    first = first_run(tmp_path, output={"rowsPerPart": 100})
    await do(first, RunnerPhase.PLAN)
    assert "the run is not finished" in await refusal("unfinished")
    await finish(first)
    (part,) = (tmp_path / "first/out/errors").iterdir()
    lines = part.read_text()
    part.write_text(lines.replace("mills", "pills"))
    assert f"{part.name} is not as the run has written it" in await refusal("changed")
    part.unlink()
    assert f"{part.name} is gone" in await refusal("gone")
    part.write_text(lines)
    manifest = tmp_path / "first/out/manifest.json"
    text = manifest.read_text()
    for name in ("output", "input"):  # as older versions let a stage be called
        manifest.write_text(text.replace("answer-1", name))
        assert f"has a stage with the id '{name}'" in await refusal(f"with-{name}")
    manifest.write_text(json.dumps({"runId": 1}))
    assert "is not that of a run" in await refusal("no-manifest")


async def test_error_rows_hold_what_a_replay_needs(tmp_path: Path, client: FakeChatClient) -> None:
    await finish(first_run(tmp_path))
    for row in runs.read_errors(tmp_path / "first/out"):
        assert (row["kind"], row["status_code"], row["raw"]) == ("BadRequest", 400, "raw")
        assert row["attempts"] == 1
        assert row["made"] == 0
        if row["stage"] == "answer-1":
            root = records.root_id_of_user_id(row["columns"]["name"])
            assert (row["root_id"], row["parent_id"], row["path"]) == (root, root, [1])
            assert row["id"] == records.child_id(root, 0, 1)
            assert [call["stage"] for call in row["provenance"]] == ["closedQA-0"]


async def test_generated_records_that_failed_are_replayed_and_none_is_generated_again(
    tmp_path: Path, client: FakeChatClient, model: Model
) -> None:
    tree = {"macroTopics": 2, "subtopics": 2, "questions": 2, "revisions": 1}
    pipeline = [{"openQA": tree}, {"answer": {}}]
    model.bad, model.bare_questions_fail = (), True
    await finish(first_run(tmp_path, input=None, pipeline=pipeline))
    failed = runs.read_errors(tmp_path / "first/out")
    assert failed
    assert {row["stage"] for row in failed} == {"answer-1"}
    model.bare_questions_fail = False
    client.requests.clear()
    await finish(replay_of(tmp_path, pipeline=pipeline))
    assert len(client.requests) == len(failed)
    whole = first_run(
        tmp_path, input=None, pipeline=pipeline, output={"uri": f"file://{tmp_path}/whole/out"}
    )
    await finish(whole)
    rows = rows_of(tmp_path, "first", "again")
    assert runs.digest(rows) == runs.digest(rows_of(tmp_path, "whole"))


async def test_the_estimate_counts_what_failed(tmp_path: Path, client: FakeChatClient) -> None:
    await finish(first_run(tmp_path))
    failed = runs.read_errors(tmp_path / "first/out")
    spec = replay_of(tmp_path).spec
    nothing = job_estimate.Options()
    found = job_estimate.of_job(spec, Mounts(), nothing)
    assert found.input_records == len(failed) > 0
    assert not found.generation
    assert found.steps[0].calls == len(failed)
    said = job_estimate.Options(records=100, characters=4_000)
    longer = job_estimate.Options(records=100, characters=8_000)
    tokens = [
        job_estimate.of_job(spec, Mounts(), options).steps[0].prompt_tokens
        for options in (said, longer)
    ]
    assert tokens[1] - tokens[0] == 100 * 1_000
    absent = replay_of(tmp_path, before="none").spec
    assert job_estimate.of_job(absent, Mounts(), said).input_records == 100
    with pytest.raises(CommandError, match=r"there is no run(.|\n)*failed with --records N"):
        job_estimate.of_job(absent, Mounts(), nothing)


async def test_what_cannot_be_tried_again_is_not_estimated(
    tmp_path: Path, client: FakeChatClient
) -> None:
    first = first_run(tmp_path)
    with (tmp_path / "in" / "bad.jsonl").open("w") as file:
        file.write('{"id": "bad"}\n')
    await finish(first)
    failed = runs.read_errors(tmp_path / "first/out")
    tried = [row for row in failed if row["stage"] != "input"]
    assert len(tried) == len(failed) - 1
    found = job_estimate.of_job(replay_of(tmp_path).spec, Mounts(), job_estimate.Options())
    assert found.input_records == len(tried)
