"""The scheduler over stages without a model, with conditions, and with several models."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from kubesynth_runner import records
from kubesynth_runner.engine.calls import Caller, StageBinding, StagePlace
from kubesynth_runner.engine.connection import ModelConnection
from kubesynth_runner.engine.gate import Gate
from kubesynth_runner.engine.scheduler import BoundStage, Scheduler
from kubesynth_runner.io.journal import Journal
from kubesynth_runner.io.local_storage import LocalStorage
from kubesynth_runner.io.plan_file import ColumnType
from kubesynth_runner.io.shard_output import RootOutcome
from kubesynth_runner.io.source import RootInput
from kubesynth_runner.llm.base import Message
from kubesynth_runner.llm.fake import FakeChatClient
from kubesynth_runner.pipelines.base import StageLlm
from kubesynth_runner.pipelines.templates import Condition
from kubesynth_testing import virtual_time
from kubesynth_testing.fan_out import FanOut

SOURCE = records.Source("file:///a", 1)


@dataclasses.dataclass(frozen=True, slots=True)
class Divide:
    """A stage that asks nobody, and makes a record of each of the record's parts."""

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        return {}

    async def run(self, record: records.Record, llm: StageLlm) -> AsyncIterator[records.Columns]:
        for part in record.columns["parts"]:
            yield {"part": part}


@dataclasses.dataclass(frozen=True, slots=True)
class Both:
    """A stage that asks two models, the second one first."""

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        return {}

    async def run(self, record: records.Record, llm: StageLlm) -> AsyncIterator[records.Columns]:
        other = await llm.of("judge").complete((Message("user", "judge"),))
        mine = await llm.complete((Message("user", "write"),))
        yield {"texts": [other.text, mine.text]}


def run_bound(
    folder: Path, bound: list[BoundStage], *columns: records.Columns
) -> list[RootOutcome]:
    """Run records with these columns through stages."""
    outcomes: list[RootOutcome] = []

    async def deliver(outcome: RootOutcome) -> None:
        outcomes.append(outcome)

    roots = (
        RootInput(n, records.Record(f"r{n}", None, f"r{n}", (), given, SOURCE))
        for n, given in enumerate(columns)
    )
    journal = Journal(LocalStorage(folder), "run", 0, epoch=1)
    scheduler = Scheduler(bound, Caller(journal), roots, deliver)
    virtual_time.run(scheduler.run())
    journal.close()
    return sorted(outcomes, key=lambda outcome: outcome.ordinal)


def connect(role: str, client: FakeChatClient) -> ModelConnection:
    return ModelConnection(role, "m", client, Gate(4), True, 2, 60.0)


def test_a_stage_without_a_model_runs_between_others_without_a_slot(tmp_path: Path) -> None:
    client = FakeChatClient("So.")
    bound = [
        BoundStage(Divide(), StagePlace(0, "divide")),
        BoundStage(FanOut(), StageBinding(1, "ask", connect("m", client), {}, None)),
        BoundStage(Divide(), StagePlace(2, "divide-again")),
    ]
    (outcome, empty) = run_bound(tmp_path, bound, {"parts": ["a", "b"]}, {"parts": []})
    assert [row.path for row in sorted(outcome.rows, key=lambda row: row.path)] == [
        (0, 0, 0),
        (0, 0, 1),
        (1, 0, 0),
        (1, 0, 1),
    ]
    assert (empty.rows, empty.filtered, len(client.requests)) == ([], 1, 2)


def test_a_pipeline_may_ask_no_model_or_have_no_stage_at_all(tmp_path: Path) -> None:
    bound = [BoundStage(Divide(), StagePlace(0, "divide"))]
    outcomes = run_bound(tmp_path, bound, *({"parts": [n, n]} for n in range(300)))
    assert [len(outcome.rows) for outcome in outcomes] == [2] * 300
    (outcome,) = run_bound(tmp_path, [], {"a": 1})
    assert [row.columns for row in outcome.rows] == [{"a": 1}]


def test_a_record_for_which_the_condition_is_false_goes_past_the_stage(tmp_path: Path) -> None:
    client = FakeChatClient("So.")
    connection = connect("m", client)
    large = Condition.compile("size > 10")
    bound = [
        BoundStage(FanOut(), StageBinding(0, "a", connection, {}, None), condition=large, skips=2),
        BoundStage(FanOut(), StageBinding(1, "b", connection, {}, None)),
        BoundStage(FanOut(2), StageBinding(2, "c", connection, {}, None)),
    ]
    small, big, odd = run_bound(tmp_path, bound, {"size": 3}, {"size": 30}, {"size": "many"})
    assert [row.path for row in small.rows] == [(0,), (1,)]
    assert [row.path for row in big.rows] == [(0, 0, 0), (0, 0, 1)]
    assert (odd.rows, [(item.stage, item.kind) for item in odd.failed]) == (
        [],
        [("a", "TemplateError")],
    )
    assert len(client.requests) == 1 + 3


def test_all_models_of_a_stage_count_as_its_own_in_the_order_of_the_calls(tmp_path: Path) -> None:
    judge, writer = FakeChatClient("Good."), FakeChatClient("So.")
    others = {"judge": StageBinding(0, "s", connect("judge", judge), {"temperature": 0}, None)}
    main = StageBinding(0, "s", connect("writer", writer), {}, 7)
    (outcome,) = run_bound(tmp_path, [BoundStage(Both(), main, others)], {})
    (row,) = outcome.rows
    assert row.columns["texts"] == ["Good.", "So."]
    assert [call.seed is None for call in row.provenance] == [True, False]
    assert outcome.tally.requests_ok == 2
    assert (len(judge.requests), len(writer.requests)) == (1, 1)
    assert judge.requests[0].sampling == {"temperature": 0}
