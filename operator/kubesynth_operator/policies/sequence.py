"""Which of a job's Jobs comes next: plan, then generate, then finalize, and how it all ends.

A state machine without memory: the states of the Jobs go in, one step comes out. A job of one shard
does everything in one pod, under the name of generate. `report` runs only when the Job that had the
totals succeeded, but its pod was gone before anybody read them.
"""

from __future__ import annotations

import dataclasses
from enum import StrEnum

from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_operator.observation import Outcome


class State(StrEnum):
    """Where a Job stands. An `Outcome` in its place says how it has ended."""

    ABSENT = "Absent"
    RUNNING = "Running"  # pods run, or may be started
    STOPPED = "Stopped"  # suspended, and its last pod is gone


@dataclasses.dataclass(frozen=True, slots=True)
class Situation:
    """The states of the Jobs, and what else the order of things depends on.

    `interruption` is a reason to end the job now (a deadline, say); while it lasts nothing is
    started but finalize. `verdict` is how the job will end once finalize is done, as recorded when
    finalize was created. `generate_was_there` says that shards were started, though their Job may
    be deleted since: that is how a queued Job is stopped. `finalize_overdue` is how the job ends
    when there is no time left for finalize, `report_overdue` ends the patience with report.
    """

    sharded: bool
    plan: State | Outcome
    generate: State | Outcome
    finalize: State | Outcome
    report: State | Outcome
    verdict: Outcome | None
    totals_known: bool
    generate_was_there: bool = False
    interruption: Outcome | None = None
    finalize_overdue: Outcome | None = None
    report_overdue: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Create:
    """Create a Job. `verdict` is given with FINALIZE: how the job will end after it."""

    phase: RunnerPhase
    verdict: Outcome | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Await:
    """Nothing to do until this Job changes."""

    phase: RunnerPhase


@dataclasses.dataclass(frozen=True, slots=True)
class Stop:
    """Stop the pods of this Job, and look again when they are gone."""

    phase: RunnerPhase
    because: Outcome


@dataclasses.dataclass(frozen=True, slots=True)
class Finish:
    """The job has ended."""

    outcome: Outcome


Step = Create | Await | Stop | Finish


def next_step(situation: Situation) -> Step:
    """Return the one thing that is next."""
    if not situation.sharded:
        return _single(situation)
    if situation.finalize is not State.ABSENT:
        return _after_finalize(situation)
    if isinstance(situation.generate, Outcome):
        return _finalize(situation, situation.generate)
    if situation.interruption is not None:
        return _wind_down(situation, situation.interruption)
    if situation.generate is not State.ABSENT:
        return Await(RunnerPhase.GENERATE)
    if isinstance(situation.plan, Outcome):
        return _after_plan(situation.plan)
    return _create_or_await(RunnerPhase.PLAN, situation.plan)


def _after_plan(plan: Outcome) -> Step:
    # Without a plan there is no run, so there is nothing to finalize either.
    return Finish(plan) if plan.failed else Create(RunnerPhase.GENERATE)


def _wind_down(situation: Situation, interruption: Outcome) -> Step:
    """Stop the writers, then report what is there. Writers first: finalize counts their work."""
    for phase, state in (
        (RunnerPhase.PLAN, situation.plan),
        (RunnerPhase.GENERATE, situation.generate),
    ):
        if state is State.RUNNING:
            return Stop(phase, interruption)
    if situation.generate is State.STOPPED or situation.generate_was_there:
        return _finalize(situation, interruption)
    return Finish(interruption)


def _finalize(situation: Situation, end: Outcome) -> Step:
    """Report what is there, if there is time: a queued finalize has been deleted to stop it."""
    if situation.finalize_overdue is None:
        return Create(RunnerPhase.FINALIZE, end)
    return Finish(end if end.failed else situation.finalize_overdue)


def _single(situation: Situation) -> Step:
    generate, interruption = situation.generate, situation.interruption
    if isinstance(generate, Outcome):
        if generate.failed:
            return Finish(generate)
        return _with_totals(situation, generate)
    if interruption is not None:
        if generate is State.RUNNING:
            return Stop(RunnerPhase.GENERATE, interruption)
        return Finish(interruption)
    return _create_or_await(RunnerPhase.GENERATE, generate)


def _after_finalize(situation: Situation) -> Step:
    finalize, verdict = situation.finalize, situation.verdict
    if not isinstance(finalize, Outcome):
        if situation.finalize_overdue is None:
            return Await(RunnerPhase.FINALIZE)
        end = verdict if verdict and verdict.failed else situation.finalize_overdue
        return Stop(RunnerPhase.FINALIZE, end) if finalize is State.RUNNING else Finish(end)
    if verdict is not None and verdict.failed:
        # The report is a courtesy here: the job fails with its own reason, with or without it.
        return Finish(verdict) if finalize.failed else _with_totals(situation, verdict)
    if finalize.failed:
        return Finish(finalize)
    return _with_totals(situation, verdict or finalize)


def _with_totals(situation: Situation, end: Outcome) -> Step:
    """Finish once the totals are known, or cannot be had: they never decide how a job ends."""
    if situation.totals_known or isinstance(situation.report, Outcome):
        return Finish(end)
    if situation.report_overdue and situation.report is not State.ABSENT:
        return Finish(end)
    return _create_or_await(RunnerPhase.REPORT, situation.report)


def _create_or_await(phase: RunnerPhase, state: State | Outcome) -> Step:
    return Create(phase) if state is State.ABSENT else Await(phase)
