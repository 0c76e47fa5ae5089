"""Running a job: one phase of it in a pod, or all of it in this process."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
from collections.abc import Callable, Sequence

from kubesynth_api.conditions import Reason
from kubesynth_api.run_spec import RunSpec
from kubesynth_api.runner_contract import (
    LEFT_OUT_CHARACTERS,
    CapShare,
    ExitCode,
    ProgressReport,
    RunnerError,
    RunnerPhase,
    TerminationMessage,
    Totals,
)
from kubesynth_runner import errors
from kubesynth_runner.environment import RunEnvironment
from kubesynth_runner.io import input_files, locations, plan_file
from kubesynth_runner.phases import finalize, generate, plan, spending
from kubesynth_runner.phases.context import RunContext
from kubesynth_runner.progress import Progress
from kubesynth_runner.tally import Tally, told

REPORT_EVERY_SECONDS = 0.25
# Containers more than were freed until the collector looks at the youngest ones (Python's own
# number is 700), and collections of a generation for each of the next. A record makes dozens of
# containers, in no cycles, and each is gone soon.
GARBAGE_THRESHOLDS = (20_000, 20, 50)


def collect_rarely() -> None:
    """Set the garbage collector for a process that lives for one run.

    To be called when everything is imported. A seventh of the processor time of a run goes into
    collections otherwise, nearly all of it into looking at modules and schemas again and again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)


@dataclasses.dataclass(frozen=True, slots=True)
class PhaseRequest:
    """Which part of a run to do: `shard` for generate, `partial` and `outcome` for finalize.

    `outcome` is why the run ends before its input does, if it does so on purpose.
    """

    phase: RunnerPhase
    shard: int = 0
    partial: bool = False
    outcome: Reason | None = None


async def run_phase(context: RunContext, request: PhaseRequest) -> TerminationMessage:
    """Do one phase of a run and return what the operator should know.

    Raises:
        RunnerError: the phase ended early; its reason and exit code say how.
    """
    message = TerminationMessage(phase=request.phase)
    match request.phase:
        case RunnerPhase.PLAN:
            return _with_plan(message, await plan.run(context), context.progress)
        case RunnerPhase.GENERATE:
            planned = await asyncio.to_thread(plan.load, context)
            end = await generate.run(context, planned, request.shard)
            totals = end.tally.to_totals(context.progress.input_records, context.prices)
            failures = told(end.tally.failures()) or None
            return message.model_copy(update={"totals": totals, "failures": failures})
        case RunnerPhase.FINALIZE:
            result = await finalize.run(context, partial=request.partial, ended=request.outcome)
            return _with_result(message, result)
        case RunnerPhase.REPORT:
            result = await asyncio.to_thread(finalize.load_result, context)
            return _with_result(message, result)
        case RunnerPhase.ALL:
            return await _run_all(context, message)


async def _run_all(context: RunContext, message: TerminationMessage) -> TerminationMessage:
    planned = await plan.run(context)
    message = _with_plan(message, planned, context.progress)
    ended: Reason | None = None
    try:
        for shard in range(planned.shards):
            ended = (await generate.run(context, planned, shard)).ended_early
    except errors.PoisonedShardError:
        await finalize.run(context, partial=True)
        raise
    result = await finalize.run(context, partial=ended is not None, ended=ended)
    return _with_result(message, result)


def _with_plan(
    message: TerminationMessage, planned: plan_file.PlanFile, progress: Progress
) -> TerminationMessage:
    """Tell what was planned, and from now on in the progress what is left out."""
    if planned.left_out:
        progress.left_out = input_files.describe_left_out(planned.left_out)
    return message.model_copy(
        update={
            "estimate": plan.to_estimate(planned),
            "input_records": planned.records,
            "left_out": progress.left_out[:LEFT_OUT_CHARACTERS] or None,
        }
    )


def _with_result(message: TerminationMessage, result: finalize.RunResult) -> TerminationMessage:
    return message.model_copy(
        update={
            "totals": result.totals,
            "manifest_uri": result.manifest_uri,
            "report_uri": result.report_uri,
            "ended": result.ended,
            "failures": told(result.failures) or None,
        }
    )


@dataclasses.dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run in this process ended. `totals` are exact when `exit_code` is OK.

    `failures` are kind, count and a message of what failed, the commonest first.
    """

    exit_code: ExitCode
    totals: Totals = dataclasses.field(default_factory=Totals)
    manifest_uri: str | None = None
    report_uri: str | None = None
    error: RunnerError | None = None
    ended: Reason | None = None
    # The models that it waited for when it ended, and why; usually nothing.
    waited_for: str = ""
    failures: Sequence[tuple[str, int, str]] = ()


async def run_local(
    spec: RunSpec,
    environment: RunEnvironment,
    *,
    on_progress: Callable[[ProgressReport], None],
    stop: asyncio.Event,
    note: Callable[[str], None] = lambda _: None,
) -> RunOutcome:
    """Run a whole job in this process, shard after shard, and return how it ended.

    The work is the same as in a cluster, with one pod's parallelism: a model's whole concurrency
    is used by the shard at work. Setting `stop` checkpoints; running again goes on.
    `note` is given sentences that a user should see.
    """
    storage = locations.open_storage(spec.spec.output, environment.mounts)
    budget = spec.spec.budget
    progress = Progress(RunnerPhase.PLAN, prices=budget.prices if budget else {})
    context = RunContext(spec, environment, storage, progress, stop, alone=True)
    view = _WholeRun(progress)
    reporter = asyncio.create_task(_report(view, on_progress))
    try:
        result = await _all_shards(context, view, note)
    except errors.RunnerError as exc:
        error = RunnerError(reason=exc.reason, message=str(exc))
        return RunOutcome(
            exc.exit_code,
            view.report().totals,
            error=error,
            waited_for=progress.waiting.sentence,
            failures=view.tally().failures(),
        )
    finally:
        reporter.cancel()
        await asyncio.gather(reporter, return_exceptions=True)
        on_progress(view.report())
    return RunOutcome(
        ExitCode.OK,
        result.totals,
        result.manifest_uri,
        result.report_uri,
        ended=result.ended,
        failures=result.failures,
    )


class _WholeRun:
    """Progress over all shards of a run that are done one after the other."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._finished = Tally()
        self.input_records = 0

    def finish_shard(self, tally: Tally) -> None:
        """Count a shard that has ended."""
        self._finished.add(tally)
        self._progress.tally = Tally()

    def tally(self) -> Tally:
        """Return the counts of the whole run so far."""
        total = self._finished.copy()
        total.add(self._progress.tally)
        return total

    def report(self) -> ProgressReport:
        """Return the progress of the whole run."""
        total = self.tally()
        report = self._progress.report()
        totals = total.to_totals(self.input_records, self._progress.prices)
        return report.model_copy(update={"totals": totals})


async def _all_shards(
    context: RunContext, view: _WholeRun, note: Callable[[str], None]
) -> finalize.RunResult:
    planned = await plan.run(context)
    if planned.left_out:
        note(f"left out of the input: {input_files.describe_left_out(planned.left_out)}")
    view.input_records = planned.records
    context.progress.phase = RunnerPhase.GENERATE
    poisoned: errors.PoisonedShardError | None = None
    failures = 0
    spent, ended = await asyncio.to_thread(spending.of_plan, context, planned), None
    for shard in range(planned.shards):
        context.progress.shard_index = shard
        try:
            end = await generate.run(context, planned, shard, spent)
            view.finish_shard(end.tally)
            spent, ended = spending.plus(spent, end.spent), end.ended_early
            if ended is not None:
                break
        except errors.PoisonedShardError as exc:
            poisoned, failures = exc, failures + 1
            view.finish_shard(context.progress.tally)
            spent = spending.plus(spent, exc.lease.spent if exc.lease is not None else CapShare())
            if failures > context.spec.spec.failure_policy.max_failed_shards:
                break
    context.progress.phase = RunnerPhase.FINALIZE
    partial = poisoned is not None or ended is not None
    result = await finalize.run(context, partial=partial, ended=ended)
    if poisoned is not None:
        raise poisoned
    return result


async def _report(view: _WholeRun, on_progress: Callable[[ProgressReport], None]) -> None:
    while True:
        on_progress(view.report())
        await asyncio.sleep(REPORT_EVERY_SECONDS)
