"""Generated input: the records that a pipeline without an input starts from, made once, in plan.

Level by level: all records of a level go through its step, then the level's `merge` makes the next
one of what came out, in the order of the tree. What plan asks models for is journalled, counted and
committed like the work of a shard, under a number that no shard has.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

from kubesynth_api.conditions import Reason
from kubesynth_runner import errors, models, records
from kubesynth_runner.engine.calls import Caller
from kubesynth_runner.engine.scheduler import Scheduler
from kubesynth_runner.io import layout, ledger
from kubesynth_runner.io.journal import Journal
from kubesynth_runner.io.plan_file import Seed
from kubesynth_runner.io.shard_output import OutputOptions, RootOutcome, ShardOutput
from kubesynth_runner.io.source import RootInput
from kubesynth_runner.phases import spending
from kubesynth_runner.phases.context import RunContext
from kubesynth_runner.phases.supervision import bind, supervise
from kubesynth_runner.pipelines.compile import CompiledLevel, CompiledPipeline
from kubesynth_runner.tally import Tally

LOG = logging.getLogger(__name__)


def is_finished(context: RunContext, run_id: str) -> bool:
    """Tell whether the run's input has been generated, and counted. Blocking."""
    return ledger.read_shard_manifest(context.storage, run_id, layout.PLAN_SHARD) is not None


class Generation:
    """One attempt at generating a run's input: `open`, `run`, store the plan, `finish`, `close`."""

    def __init__(self, context: RunContext, run_id: str, pipeline: CompiledPipeline) -> None:
        self._context = context
        self._run_id = run_id
        self._pipeline = pipeline
        self._book = ledger.Ledger(context.storage, layout.PLAN_SHARD, run_id, 1)
        self._use(Journal(context.storage, run_id, layout.PLAN_SHARD, 0))
        self._failed: list[records.FailedRecord] = []
        self._tally = Tally()

    async def open(self) -> bool:
        """Claim the work; return whether its counts are committed, so that `finish` is all."""

        def load() -> Journal:
            context, book = self._context, self._book
            book.open(context.environment.writer)
            journal = Journal(context.storage, self._run_id, layout.PLAN_SHARD, book.epoch)
            journal.load(book.done)
            return journal

        self._use(await asyncio.to_thread(load))
        return bool(self._book.tally.done)

    def _use(self, journal: Journal) -> None:
        """Ask models with a journal, and with what it says has been paid already."""
        self._journal = journal
        self._purse = spending.purse(self._context, self._book, journal)
        self._purse.change(spending.of_whole_job(self._context))
        self._caller = Caller(journal, self._purse)
        self._caller.outages.waiting = self._context.progress.waiting

    async def run(self) -> list[Seed]:
        """Return the generated records, at least one.

        Raises:
            RunnerError: a model is not there, this process is to stop, nothing could be made, the
                budget is spent.
        """
        context, pipeline = self._context, self._pipeline
        context.progress.tally = self._tally
        spec = context.spec.spec
        kind = spec.pipeline[0].kind
        origin = records.root_id(kind, 0)
        level = [records.Record(origin, None, origin, (), {}, records.Source(kind, 0))]
        # No shard is at work yet: the limits of the whole job are ours.
        alone = spec.model_copy(
            update={"shards": spec.shards.model_copy(update={"parallelism": 1})}
        )
        store = models.CapabilityStore(context.storage, self._run_id)
        patience = models.Patience(context.stop, context.progress.waiting)
        async with models.connect(
            alone, pipeline.level_roles, context.environment, store, patience
        ) as pool:
            context.progress.connections = pool.connections
            for number, compiled in enumerate(pipeline.levels):
                level = await self._run_level(number, compiled, level, pool)
                if not level:
                    break
        context.progress.connections = {}
        if not level:
            raise errors.ConfigurationError(
                Reason.INPUT_UNREADABLE, f"pipeline[0].{kind}: no record came of it{self._why()}"
            )
        return [Seed(record.record_id, record.columns, record.provenance) for record in level]

    @property
    def spent(self) -> Tally:
        """Calls and tokens that the records took, those of earlier attempts included."""
        return self._tally

    async def _run_level(
        self,
        number: int,
        level: CompiledLevel,
        inputs: list[records.Record],
        pool: models.ModelPool,
    ) -> list[records.Record]:
        # Negative, so that the places of the pipeline's own steps do not depend on the levels.
        stages = bind(
            [level.step], pool.connections, self._context.spec.spec.seed, first_index=-1 - number
        )
        outputs: list[records.Record] = []

        async def take(outcome: RootOutcome) -> None:
            outputs.extend(outcome.rows)
            self._failed += outcome.failed
            self._tally.add(outcome.tally)

        # All frames of the journal belong to the one record that the plan is.
        source: Iterator[RootInput] = (RootInput(0, record) for record in inputs)
        purse = self._purse
        scheduler = Scheduler(stages, self._caller, source, take, purse)
        why = await supervise(
            *(self._context, scheduler, pool, self._book, self._journal),
            waits_for=lambda work: spending.waits_for(purse, work),
        )
        if why is not None:
            raise errors.ConfigurationError(
                why,
                f"spec.budget: spent while the input was generated, at {level.step.stage_id}: "
                f"{purse.tokens:,} tokens and {purse.usd:,.4g} USD. What was paid for is kept: "
                "run the job again with a higher budget",
            )
        outputs.sort(key=lambda record: record.path)
        merged = level.merge(inputs, outputs)
        LOG.info(
            "generated input",
            extra={"step": level.step.stage_id, "records": len(merged), "made": len(outputs)},
        )
        return merged

    def _why(self) -> str:
        if not self._failed:
            return ""
        first = self._failed[0]
        return f": {len(self._failed)} failed, the first at {first.stage} ({first.message:.200})"

    async def close(self) -> None:
        """Make the journal durable, whatever has happened. Safe to repeat."""
        await asyncio.to_thread(self._journal.close)

    async def finish(self) -> None:
        """Commit the counts and what failed, after the plan has been stored."""
        caller = self._caller
        if not self._book.tally.done:
            spec = self._context.spec.spec
            options = OutputOptions(
                self._pipeline.columns, spec.output.format, spec.output.rows_per_part
            )
            output = ShardOutput(self._book, self._journal, options, lambda: caller.process_tally)
            await output.add(RootOutcome(0, [], self._failed, 0, self._tally.copy()))
            await output.flush()
        await self.close()
        await asyncio.to_thread(self._book.finish)
