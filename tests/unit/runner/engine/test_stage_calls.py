"""A stage's calls for one record: several choices, log probabilities, reasoning."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kubesynth_api.conditions import Reason
from kubesynth_api.v1alpha1.pipeline import Stage as StageSpec
from kubesynth_api.v1alpha1.stages.judgement import DEFAULT_CRITERIA
from kubesynth_api.v1alpha1.stages.records import PromptOutput
from kubesynth_runner import errors, records
from kubesynth_runner.engine.calls import Caller, CallFailed, StageBinding
from kubesynth_runner.engine.connection import ModelConnection
from kubesynth_runner.engine.gate import Gate
from kubesynth_runner.engine.stage_calls import CallNumbers, StageCalls, make_children
from kubesynth_runner.io.journal import Journal
from kubesynth_runner.io.local_storage import LocalStorage
from kubesynth_runner.io.plan_file import ColumnType
from kubesynth_runner.llm.base import (
    Choice,
    Completion,
    CompletionRequest,
    Message,
    TokenLogprobs,
    TokenUsage,
)
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.fake import FakeChatClient, FakeReply
from kubesynth_runner.pipelines import registry
from kubesynth_runner.pipelines.base import Stage, StageFailure, StageLlm
from kubesynth_runner.pipelines.compiling import CompileContext
from kubesynth_runner.pipelines.prompt import PromptStage
from kubesynth_runner.pipelines.templates import PromptTemplate
from kubesynth_testing import virtual_time

RECORD = records.Record("r", None, "r", (), {"text": "t"}, records.Source("u", 1))
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def text_stage() -> Stage:
    return PromptStage(PromptTemplate.compile("{{ text }}", None), PromptOutput(column="out"))


def json_stage() -> Stage:
    output = PromptOutput.model_validate({"type": "JSON", "jsonSchema": SCHEMA})
    return PromptStage(PromptTemplate.compile("{{ text }}", None), output)


def completion(first: str, *others: str | Choice) -> Completion:
    choices = [
        choice if isinstance(choice, Choice) else Choice(choice, "stop", f"why {choice}")
        for choice in others
    ]
    usage = TokenUsage(3, 9)
    return Completion(first, "stop", usage, "m", f"why {first}", None, None, tuple(choices))


class Desk:
    """A model, a journal in a folder, and what a stage makes of a record with them."""

    def __init__(self, folder: Path, script: Callable[[CompletionRequest], FakeReply]) -> None:
        self.folder = folder
        self.client = FakeChatClient(script)
        self.rows: list[Mapping[str, Any]] = []
        self.provenance: list[tuple[records.CallProvenance, ...]] = []
        self.failure: StageFailure | CallFailed | None = None

    def run(
        self,
        stage: Stage,
        *,
        epoch: int = 1,
        column: str | None = None,
        n: int = 3,
        record: records.Record = RECORD,
    ) -> None:
        """Run a stage; what came of it is in `rows`, `provenance`, `failure` and `calls`."""
        virtual_time.run(self._run(stage, epoch, column, n, record))

    async def _run(
        self, stage: Stage, epoch: int, column: str | None, n: int, record: records.Record
    ) -> None:
        journal = Journal(LocalStorage(self.folder), "run", 0, epoch)
        journal.load(bytearray(1))
        connection = ModelConnection("g", "m", self.client, Gate(4), True, 1, 600.0)
        binding = StageBinding(0, "s", connection, {"n": n}, 5, column)
        self.calls = StageCalls(Caller(journal), binding, record, 0)
        self.rows, self.provenance, self.failure = [], [], None

        async def take(columns: records.Columns) -> None:
            self.rows.append(columns)
            self.provenance.append(tuple(self.calls.provenance))

        try:
            await make_children(stage, record, self.calls, take)
        except (StageFailure, CallFailed) as failure:
            self.failure = failure
        finally:
            journal.close()


def test_each_choice_is_a_record_and_the_request_is_sent_and_counted_once(tmp_path: Path) -> None:
    desk = Desk(tmp_path, lambda _: completion("a", "b", "c"))
    desk.run(text_stage(), column="why")
    assert desk.rows == [{"out": text, "why": f"why {text}"} for text in "abc"]
    assert [[call.choice for call in calls] for calls in desk.provenance] == [[0], [1], [2]]
    assert len(desk.client.requests) == desk.calls.tally.requests_ok == 1
    assert desk.calls.tally.completion_tokens == 9


def test_choices_come_out_of_the_journal(tmp_path: Path) -> None:
    desk = Desk(tmp_path, lambda _: completion("a", "b", "c"))
    desk.run(text_stage())
    rows, provenance = desk.rows, desk.provenance
    desk.run(text_stage(), epoch=2)
    assert (desk.rows, desk.provenance) == (rows, provenance)
    assert len(desk.client.requests) == 1


def test_server_that_ignores_n_is_asked_again_with_other_seeds(tmp_path: Path) -> None:
    desk = Desk(tmp_path, lambda request: completion(str(request.sampling["seed"])))
    desk.run(text_stage())
    assert len({row["out"] for row in desk.rows}) == 3
    assert [request.sampling.get("n") for request in desk.client.requests] == [3, None, None]
    assert desk.calls.tally.requests_ok == 3


def test_choice_that_refuses_does_not_spoil_the_others(tmp_path: Path) -> None:
    refused = Choice("", "stop", refusal="I must not.")
    desk = Desk(tmp_path, lambda _: completion("a", refused, "c"))
    desk.run(text_stage())
    assert [row["out"] for row in desk.rows] == ["a", "c"]
    assert isinstance(desk.failure, StageFailure)
    assert (desk.failure.kind, desk.failure.raw) == ("Refusal", "I must not.")
    assert "1 of 3 choices" in str(desk.failure)


def test_choice_that_is_no_json_is_repaired_by_itself(tmp_path: Path) -> None:
    def script(request: CompletionRequest) -> FakeReply:
        if len(request.messages) == 1:
            return completion('{"a": 1}', "nonsense", '{"a": 3}')
        assert request.messages[-2].content == "nonsense"
        assert "n" not in request.sampling
        return completion('{"a": 2}')

    desk = Desk(tmp_path, script)
    desk.run(json_stage())
    assert [row["a"] for row in desk.rows] == [1, 2, 3]
    assert [len(calls) for calls in desk.provenance] == [1, 2, 1]


def test_choice_whose_repair_fails_does_not_spoil_the_others(tmp_path: Path) -> None:
    def script(request: CompletionRequest) -> FakeReply:
        if len(request.messages) == 1:
            return completion("nonsense", '{"a": 2}', '{"a": 3}')
        return ClientError(ErrorKind.CONTEXT_OVERFLOW, "too long", status_code=400)

    desk = Desk(tmp_path, script)
    desk.run(json_stage())
    assert [row["a"] for row in desk.rows] == [2, 3]
    assert desk.failure is not None
    assert desk.failure.kind == ErrorKind.CONTEXT_OVERFLOW


def test_failed_call_is_the_records_failure(tmp_path: Path) -> None:
    desk = Desk(tmp_path, lambda _: ClientError(ErrorKind.BAD_REQUEST, "no", status_code=400))
    desk.run(text_stage())
    assert isinstance(desk.failure, CallFailed)
    assert desk.rows == []


@pytest.mark.parametrize("epochs", [1, 2])
def test_log_probabilities_go_into_the_provenance(tmp_path: Path, epochs: int) -> None:
    logprobs = TokenLogprobs(["a"], [-0.5], [[("a", -0.5), ("b", -1.5)]])
    answer = Completion("a", "stop", TokenUsage(1, 1), "m", logprobs=logprobs)
    desk = Desk(tmp_path, lambda _: answer)
    for epoch in range(1, epochs + 1):
        desk.run(text_stage(), epoch=epoch, n=1)
    assert len(desk.client.requests) == 1
    stored = json.loads(msgspec.json.encode(desk.provenance[0][0].logprobs))
    assert stored == {
        "tokens": ["a"],
        "logprobs": [-0.5],
        "top": [[{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1.5}]],
    }


def test_tokens_that_nobody_counted_are_marked_and_stay_so_in_the_journal(tmp_path: Path) -> None:
    answer = Completion("a", "stop", TokenUsage(3, 2, estimated=True), "m")
    desk = Desk(tmp_path, lambda _: answer)
    for epoch in (1, 2):
        desk.run(text_stage(), epoch=epoch, n=1)
        assert [call.tokens_estimated for call in desk.provenance[0]] == [True]
        assert desk.calls.tally.completion_tokens == 2
        assert desk.calls.tally.estimated_tokens == 5
    assert len(desk.client.requests) == 1


def judgement(request: CompletionRequest) -> FakeReply:
    """Judge a "?" unreadably at first; the score is the answer's length."""
    answer = request.messages[1].content.split("<answer>\n")[1].split("\n</answer>")[0]
    if answer.endswith("?") and len(request.messages) == 2:
        return "It is good."
    scores = {criterion.name: len(answer) for criterion in DEFAULT_CRITERIA}
    return json.dumps({"explanation": f"{answer}: {request.sampling['seed']}", "scores": scores})


class SlowFor(FakeChatClient):
    """A judge that takes its time with one of the answers."""

    def __init__(self, answer: str) -> None:
        super().__init__(judgement)
        self._answer = answer

    async def complete(self, request: CompletionRequest) -> Completion:
        await asyncio.sleep(9 if f"<answer>\n{self._answer}" in request.messages[1].content else 1)
        return await super().complete(request)


@pytest.mark.parametrize("slow", ["a?", "bb", "ccc?"])
def test_judgements_side_by_side_are_numbered_by_whose_they_are(tmp_path: Path, slow: str) -> None:
    spec = StageSpec.model_validate({"preferencePairs": {"answers": 3}})
    pair = registry.compile_stage(spec, CompileContext("text", lambda _: "")).steps[1].stage
    asked = {"question": "Why?", "answers": ["a?", "bb", "ccc?"]}
    record = records.Record("r", None, "r", (), asked, records.Source("u", 1))
    desk = Desk(tmp_path, judgement)
    desk.client = SlowFor(slow)
    desk.run(pair, n=1, record=record)
    # Three, and the repairs of the first and the third one.
    numbers = {0: ("a?", 2), 1: ("bb", 2), 2: ("ccc?", 2), 3: ("a?", 4), 5: ("ccc?", 4)}
    assert {
        request.sampling["seed"]: (
            request.messages[1].content.split("<answer>\n")[1].split("\n</answer>")[0],
            len(request.messages),
        )
        for request in desk.client.requests
    } == {records.derive_seed(5, "r", 0, number): call for number, call in numbers.items()}
    rows, provenance = desk.rows, desk.provenance
    assert [(row["chosen"], row["rejected"]) for row in rows] == [("ccc?", "a?")]
    desk.run(pair, epoch=2, n=1, record=record)
    assert (desk.rows, desk.provenance) == (rows, provenance)
    assert len(desk.client.requests) == len(numbers)


def test_numbers_of_divided_work_are_all_different_and_ask_in_any_order() -> None:
    def numbers(order: list[int]) -> dict[int, list[int]]:
        whole = CallNumbers()
        taken: dict[int, list[int]] = {-1: [whole.take()]}
        parts = whole.divide(3)
        inner = parts[1].divide(2)
        lines = {0: parts[0], 10: inner[0], 11: inner[1], 2: parts[2]}
        for line in order:
            taken.setdefault(line, []).append(lines[line].take())
        taken[1] = [parts[1].take()]
        taken[-1] += [whole.take(), whole.take()]
        return taken

    order = [0, 10, 11, 2, 0, 11, 11, 2]
    first = numbers(order)
    assert numbers(sorted(order)) == numbers(order[::-1]) == first
    everything = [number for line in first.values() for number in line]
    assert len(set(everything)) == len(everything)
    assert first[-1][0] == 0
    assert first[-1][1:] == [max(everything) - 1, max(everything)]
    assert [first[line][0] for line in (0, 10, 2)] == [1, 2, 3]


def test_repairs_of_choices_are_numbered_by_the_choice(tmp_path: Path) -> None:
    def script(request: CompletionRequest) -> FakeReply:
        if len(request.messages) == 1:
            return completion('{"a": 1}', "no", "nor this")
        return json.dumps({"a": request.sampling["seed"]})

    desk = Desk(tmp_path, script)
    desk.run(json_stage())
    seeds = [records.derive_seed(5, "r", 0, number) for number in (4, 5)]
    assert [row["a"] for row in desk.rows] == [1, *seeds]


class Buggy:
    """Meets an answer that it was not written for."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        return {"out": "string"}

    async def run(self, record: records.Record, llm: StageLlm) -> AsyncIterator[records.Columns]:
        answer = await llm.complete((Message("user", "?"),))
        if answer.text == "b":
            raise self._error
        yield {"out": answer.text}


def test_a_bug_that_an_answer_meets_fails_what_was_made_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(tmp_path, lambda _: completion("a", "b", "c"))
    desk.run(Buggy(IndexError("out of range")))
    assert [row["out"] for row in desk.rows] == ["a", "c"]
    assert isinstance(desk.failure, StageFailure)
    assert desk.failure.kind == "InternalError"
    assert "1 of 3 choices: IndexError: out of range" in str(desk.failure)
    (logged,) = caplog.records
    assert (logged.exc_info or (None,))[0] is IndexError
    alone = Desk(tmp_path / "alone", lambda _: completion("b"))
    alone.run(Buggy(KeyError("a")), n=1)
    assert isinstance(alone.failure, StageFailure)
    assert (alone.failure.kind, str(alone.failure)) == ("InternalError", "KeyError: 'a'")


@pytest.mark.parametrize(
    "error", [errors.StoppedError(), errors.RetryLaterError(Reason.OUTPUT_UNWRITABLE, "disk full")]
)
def test_what_ends_the_process_is_no_failure_of_a_record(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)):
        Desk(tmp_path, lambda _: completion("b")).run(Buggy(error), n=1)


def test_trouble_of_the_engine_is_no_failure_of_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrapping(Buggy):
        async def run(
            self, record: records.Record, llm: StageLlm
        ) -> AsyncIterator[records.Columns]:
            try:
                await llm.complete((Message("user", "?"),))
            except OSError as exc:
                raise self._error from exc
            yield {}

    def gone(*_: object) -> None:
        raise OSError("the mount is gone")

    monkeypatch.setattr(Journal, "append", gone)
    for stage in (text_stage(), Wrapping(ValueError("no answer"))):
        with pytest.raises(OSError, match="mount is gone"):
            Desk(tmp_path, lambda _: completion("a")).run(stage, n=1)
