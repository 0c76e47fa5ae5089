"""The order of a job's Jobs, as a table over the states that they can be in."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from kubesynth_api.conditions import ConditionType, Reason
from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_operator.observation import Outcome, failure
from kubesynth_operator.policies.sequence import (
    Await,
    Create,
    Finish,
    Situation,
    State,
    Step,
    Stop,
    next_step,
)

GOOD = Outcome(ConditionType.COMPLETE, Reason.ALL_SHARDS_SUCCEEDED, "all")
SOME = Outcome(ConditionType.COMPLETE, Reason.SOME_SHARDS_FAILED, "some")
BAD = failure(Reason.SHARD_BACKOFF_EXCEEDED, "bad")
BROKEN = failure(Reason.RUNNER_FAILED, "broken")
ENOUGH = Outcome(ConditionType.COMPLETE, Reason.TARGET_REACHED, "enough")
LATE = failure(Reason.DEADLINE_EXCEEDED, "late")

SHARDED = Situation(
    sharded=True,
    plan=State.ABSENT,
    generate=State.ABSENT,
    finalize=State.ABSENT,
    report=State.ABSENT,
    verdict=None,
    totals_known=False,
)
PLANNED = dataclasses.replace(SHARDED, plan=GOOD)
GENERATING = dataclasses.replace(PLANNED, generate=State.RUNNING)
GENERATED = dataclasses.replace(PLANNED, generate=GOOD)
FINALIZING = dataclasses.replace(GENERATED, finalize=State.RUNNING, verdict=GOOD)
FINALIZED = dataclasses.replace(FINALIZING, finalize=GOOD)
ALONE = dataclasses.replace(SHARDED, sharded=False)
PLAN, GENERATE = RunnerPhase.PLAN, RunnerPhase.GENERATE
FINALIZE, REPORT = RunnerPhase.FINALIZE, RunnerPhase.REPORT


@pytest.mark.parametrize(
    ("situation", "changes", "step"),
    [
        pytest.param(SHARDED, {}, Create(PLAN), id="first-the-plan"),
        pytest.param(SHARDED, {"plan": State.RUNNING}, Await(PLAN), id="the-plan-runs"),
        pytest.param(SHARDED, {"plan": State.STOPPED}, Await(PLAN), id="the-plan-is-resumed"),
        pytest.param(SHARDED, {"plan": BROKEN}, Finish(BROKEN), id="no-plan-no-run"),
        pytest.param(PLANNED, {}, Create(GENERATE), id="then-the-shards"),
        pytest.param(GENERATING, {}, Await(GENERATE), id="the-shards-run"),
        pytest.param(
            GENERATING, {"plan": State.ABSENT}, Await(GENERATE), id="a-deleted-plan-is-not-missed"
        ),
        pytest.param(GENERATED, {}, Create(FINALIZE, GOOD), id="then-finalize"),
        pytest.param(
            GENERATED, {"generate": SOME}, Create(FINALIZE, SOME), id="finalize-without-some"
        ),
        pytest.param(
            GENERATED, {"generate": BAD}, Create(FINALIZE, BAD), id="finalize-after-failure"
        ),
        pytest.param(FINALIZING, {}, Await(FINALIZE), id="finalize-runs"),
        pytest.param(
            FINALIZING, {"generate": State.ABSENT}, Await(FINALIZE), id="deleted-shards-stay-done"
        ),
        pytest.param(FINALIZED, {"totals_known": True}, Finish(GOOD), id="the-end"),
        pytest.param(FINALIZED, {}, Create(REPORT), id="last-words-are-lost"),
        pytest.param(FINALIZED, {"report": State.RUNNING}, Await(REPORT), id="report-runs"),
        pytest.param(FINALIZED, {"report": BROKEN}, Finish(GOOD), id="report-may-fail"),
        pytest.param(
            FINALIZED,
            {"report": State.RUNNING, "report_overdue": True},
            Finish(GOOD),
            id="report-may-hang",
        ),
        pytest.param(
            FINALIZED, {"verdict": None, "totals_known": True}, Finish(GOOD), id="verdict-was-lost"
        ),
        pytest.param(FINALIZING, {"finalize": BROKEN}, Finish(BROKEN), id="finalize-fails"),
        pytest.param(
            FINALIZING,
            {"finalize": BROKEN, "verdict": BAD},
            Finish(BAD),
            id="the-first-failure-counts",
        ),
        pytest.param(
            FINALIZED,
            {"verdict": BAD, "totals_known": True},
            Finish(BAD),
            id="failed-with-a-partial-report",
        ),
        pytest.param(ALONE, {}, Create(GENERATE), id="one-shard-has-one-job"),
        pytest.param(ALONE, {"generate": State.RUNNING}, Await(GENERATE), id="one-shard-runs"),
        pytest.param(
            ALONE, {"generate": GOOD, "totals_known": True}, Finish(GOOD), id="one-shard-ends"
        ),
        pytest.param(ALONE, {"generate": GOOD}, Create(REPORT), id="one-shard-lost-its-words"),
        pytest.param(ALONE, {"generate": BROKEN}, Finish(BROKEN), id="one-shard-fails"),
    ],
)
def test_each_state_has_one_next_step(
    situation: Situation, changes: dict[str, Any], step: Step
) -> None:
    assert next_step(dataclasses.replace(situation, **changes)) == step


@pytest.mark.parametrize(
    ("situation", "changes", "step"),
    [
        pytest.param(SHARDED, {}, Finish(LATE), id="before-anything"),
        pytest.param(SHARDED, {"plan": State.RUNNING}, Stop(PLAN, LATE), id="plan-is-stopped"),
        pytest.param(SHARDED, {"plan": State.STOPPED}, Finish(LATE), id="plan-has-stopped"),
        pytest.param(PLANNED, {}, Finish(LATE), id="planned-but-nothing-made"),
        pytest.param(GENERATING, {}, Stop(GENERATE, LATE), id="shards-are-stopped-first"),
        pytest.param(
            GENERATING,
            {"generate": State.STOPPED},
            Create(FINALIZE, LATE),
            id="then-what-they-made-is-reported",
        ),
        pytest.param(
            PLANNED,
            {"generate_was_there": True},
            Create(FINALIZE, LATE),
            id="a-queued-job-was-deleted-to-stop-it",
        ),
        pytest.param(GENERATED, {}, Create(FINALIZE, GOOD), id="finished-shards-are-not-wasted"),
        pytest.param(FINALIZING, {}, Await(FINALIZE), id="finalize-has-some-grace"),
        pytest.param(
            FINALIZING, {"finalize_overdue": LATE}, Stop(FINALIZE, LATE), id="but-not-for-ever"
        ),
        pytest.param(
            FINALIZING,
            {"finalize_overdue": LATE, "finalize": State.STOPPED},
            Finish(LATE),
            id="finalize-has-stopped",
        ),
        pytest.param(
            FINALIZING,
            {"finalize_overdue": LATE, "finalize": State.STOPPED, "verdict": BAD},
            Finish(BAD),
            id="the-first-reason-stays",
        ),
        pytest.param(
            FINALIZING,
            {"finalize_overdue": LATE, "interruption": ENOUGH, "verdict": ENOUGH},
            Stop(FINALIZE, LATE),
            id="enough-is-late-too-without-its-report",
        ),
        pytest.param(
            FINALIZING,
            {"finalize_overdue": LATE, "finalize": State.ABSENT},
            Finish(LATE),
            id="finalize-was-deleted-to-stop-it",
        ),
        pytest.param(
            GENERATED,
            {"finalize_overdue": LATE, "generate": BAD},
            Finish(BAD),
            id="no-time-is-left-for-a-report-of-failed-shards",
        ),
        pytest.param(
            GENERATING,
            {"finalize_overdue": LATE, "generate": State.STOPPED, "interruption": ENOUGH},
            Finish(LATE),
            id="nor-of-stopped-ones",
        ),
        pytest.param(ALONE, {"generate": State.RUNNING}, Stop(GENERATE, LATE), id="one-shard"),
        pytest.param(ALONE, {"generate": State.STOPPED}, Finish(LATE), id="one-shard-stopped"),
    ],
)
def test_an_interrupted_job_stops_its_writers_and_reports(
    situation: Situation, changes: dict[str, Any], step: Step
) -> None:
    interrupted = dataclasses.replace(situation, **{"interruption": LATE, **changes})
    assert next_step(interrupted) == step
