"""generate: run the pipeline over one shard, from wherever the last attempt left it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

from kubesynth_api.conditions import Reason
from kubesynth_api.runner_contract import CapShare
from kubesynth_runner import errors, models, tokenizer
from kubesynth_runner.engine.batching import BatchCaller, BatchSettings
from kubesynth_runner.engine.calls import Caller
from kubesynth_runner.engine.purse import Caps
from kubesynth_runner.engine.scheduler import Scheduler
from kubesynth_runner.io import inputs, ledger, plan_file, run_identity, sampling, source
from kubesynth_runner.io.batch_book import BatchBook
from kubesynth_runner.io.journal import Journal
from kubesynth_runner.io.shard_output import OutputOptions, RootOutcome, ShardOutput
from kubesynth_runner.phases import replay, spending
from kubesynth_runner.phases.context import RunContext
from kubesynth_runner.phases.rounds import BatchRounds
from kubesynth_runner.phases.supervision import Runnable, bind, supervise
from kubesynth_runner.pipelines import compile as pipelines
from kubesynth_runner.pipelines import tokens
from kubesynth_runner.shard_lease import LeaseStore, ShardLease, to_caps
from kubesynth_runner.tally import Tally

LOG = logging.getLogger(__name__)


async def run(
    context: RunContext, plan: plan_file.PlanFile, shard: int, outside: CapShare | None = None
) -> spending.ShardEnd:
    """Finish a shard and return its exact counts; at once if it is finished. Safe to repeat.

    `outside` is what has been spent of the job's caps before: by plan, and, in a process that runs
    the whole job, by other shards.

    Raises:
        PoisonedShardError: more input records failed than failurePolicy allows. Its lease tells
            what the shard has spent.
        RunnerError: anything else that ends this attempt; the journal is complete.
    """
    storage = context.storage
    finished = await asyncio.to_thread(ledger.read_shard_manifest, storage, plan.run_id, shard)
    if finished is not None:
        # The one before us may have died right after it was finished.
        await asyncio.to_thread(ledger.tidy, storage, plan.run_id, shard)
        context.progress.tally = finished.tally
        context.progress.input_records = finished.records
        return spending.ShardEnd(finished.tally, spending.spent_by(finished.tally, context.prices))
    context = replay.with_input(context, plan)
    if outside is None:
        outside = await asyncio.to_thread(spending.of_plan, context, plan)
    attempt = await _Attempt.open(context, plan, shard, outside)
    try:
        attempt.check_failures()
        async with models.connect(
            context.spec.spec,
            attempt.pipeline.roles,
            context.environment,
            models.CapabilityStore(context.storage, plan.run_id),
            models.Patience(context.stop, context.progress.waiting),
            attempt.lease.lease.models,
        ) as pool:
            context.progress.connections = pool.connections
            return await attempt.work(pool)
    except errors.PoisonedShardError as exc:
        exc.lease = attempt.lease.report()
        raise


class _Attempt:
    """One attempt at a shard."""

    def __init__(
        self,
        context: RunContext,
        plan: plan_file.PlanFile,
        state: spending.ShardState,
        outside: CapShare,
        count: tokens.Count,
    ) -> None:
        spec, book, journal = context.spec.spec, state.book, state.journal
        self._context = context
        self._plan = plan
        self._partition = part = state.partition
        self._book = book
        self._journal = journal
        self._purse = spending.purse(context, book, journal)
        self.lease = ShardLease(
            state.store, spending.lease(context, state, outside), self._purse, outside
        )
        self._purse.change(to_caps(self.lease.lease.caps))
        self._caller: Caller = Caller(journal, self._purse)
        self._caller.outages.waiting = context.progress.waiting
        self._counted = Tally()
        self.pipeline = pipelines.compile_pipeline(
            spec, context.environment.read_prompt, plan.column_types, count
        )
        options = OutputOptions(
            self.pipeline.columns,
            spec.output.format,
            spec.output.rows_per_part,
            logprobs=self.pipeline.keeps_logprobs,
        )
        self._output = ShardOutput(book, journal, options, self._take_process_tally)
        percent = spec.failure_policy.max_failed_records_percent
        # Rounded up: one bad record among few does not fail a shard, unless nothing may fail.
        # What a replay carries over as failed already is neither here nor there.
        carried = len(part.duplicates) if plan.replays is not None else 0
        self._allowed_failures = carried - (-(part.records - carried) * percent // 100)
        context.progress.input_records = part.records
        context.progress.tally = self._output.tally
        context.progress.lease = self.lease

    @staticmethod
    async def open(
        context: RunContext, plan: plan_file.PlanFile, shard: int, outside: CapShare
    ) -> _Attempt:
        """Claim the shard and read what earlier attempts have left."""

        def load() -> spending.ShardState:
            identity = run_identity.require(context.storage, context.spec.uid)
            if identity.run_id != plan.run_id:
                raise errors.FencedError(f"{context.storage.uri} belongs to another run now")
            part = plan_file.load_partition(context.storage, plan, shard)
            book = ledger.Ledger(context.storage, shard, plan.run_id, part.records)
            book.open(context.environment.writer)
            journal = Journal(context.storage, plan.run_id, shard, book.epoch)
            journal.load(book.done)
            store = LeaseStore(context.storage, plan.run_id, shard, context.spec.uid)
            return spending.ShardState(part, book, journal, store, store.load())

        spec, mounts = context.spec.spec, context.environment.mounts
        count = await asyncio.to_thread(tokenizer.load, spec, mounts)
        state = await asyncio.to_thread(load)
        LOG.info(
            "claimed shard",
            extra={"shard": shard, "epoch": state.book.epoch, "done": state.book.tally.done},
        )
        return _Attempt(context, plan, state, outside, count)

    async def work(self, pool: models.ModelPool) -> spending.ShardEnd:
        """Process what is not done, commit it and finish the shard."""
        work: Runnable
        if self._context.spec.spec.execution == "Batch":
            work = self._batch_rounds(pool)
        else:
            work = self._scheduler(pool)
        self.lease.attach(pool.connections, work.on_limits, lambda: self._waits_for(work))
        waits_for = self._waits_for if self._context.ends_itself else None
        why: Reason | None = None
        try:
            why = await supervise(self._context, work, pool, self._book, self._journal, waits_for)
            await self._output.flush()
        except errors.RunnerError as exc:
            await self._keep_finished(exc)
            raise
        finally:
            await self._close()
        if why is not None:
            LOG.info("ended early", extra={"shard": self._book.shard, "reason": why})
            return spending.ShardEnd(self._output.tally, self.lease.report().spent, why)
        manifest = await asyncio.to_thread(self._book.finish)
        LOG.info("finished shard", extra={"shard": manifest.shard, "rows": manifest.tally.accepted})
        return spending.ShardEnd(manifest.tally, self.lease.report().spent)

    async def _keep_finished(self, why: errors.RunnerError) -> None:
        """Commit what is finished, as this attempt may be the last: errors/ may tell why."""
        stopped = isinstance(why, errors.StoppedError)
        # When the budget is spent or the target reached, the operator stops the shards for good.
        goes_on = stopped and self._purse.caps == Caps()
        if goes_on or isinstance(why, errors.FencedError):
            return
        try:
            await self._output.flush()
        except errors.FencedError:
            raise
        except errors.RunnerError as exc:
            if stopped or isinstance(why, errors.PoisonedShardError):
                raise
            LOG.warning("finished records were not committed", extra={"reason": str(exc)})

    def _waits_for(self, work: Runnable) -> str:
        return spending.waits_for(self._purse, work)

    def _read(self, done: bytes) -> Iterator[source.RootInput]:
        spec = self._context.spec.spec
        if self._plan.replays is not None:
            return replay.read(self._context, self._plan, self.pipeline, self._partition, done)
        if spec.input is None:
            return source.read_seeds(self._partition, spec.pipeline[0].kind, done)
        files = inputs.open_source(spec.input, self._context.environment.mounts)
        sample = sampling.of(spec.input, spec.seed)
        return source.read_partition(self._partition, spec.input, files, done, sample)

    def _scheduler(self, pool: models.ModelPool) -> Scheduler:
        """Return what takes all unfinished records through the pipeline."""
        return Scheduler(
            bind(self.pipeline.steps, pool.connections, self._context.spec.spec.seed),
            self._caller,
            self._read(bytes(self._book.done)),
            self._deliver,
            self._purse,
        )

    def _batch_rounds(self, pool: models.ModelPool) -> BatchRounds:
        book = self._book
        batches = BatchBook(self._context.storage, book.run_id, book.shard, book.epoch)

        def report(message: str) -> None:
            self._context.progress.message = message

        settings = BatchSettings(book.check_fence, report)
        caller = BatchCaller(self._journal, batches, pool.connections, settings)
        caller.outages.waiting = self._context.progress.waiting
        self._caller = caller
        return BatchRounds(
            caller, self._journal, book, lambda: self._scheduler(pool), self._output.flush
        )

    async def _deliver(self, outcome: RootOutcome) -> None:
        await self._output.add(outcome)
        self._purse.accepted, self._purse.done = (
            self._output.tally.accepted,
            self._output.tally.done,
        )
        self.check_failures()

    def check_failures(self) -> None:
        """Give the shard up if too much of it has failed, in this attempt or before.

        Raises:
            PoisonedShardError: it has.
        """
        tally = self._output.tally
        if (failed := tally.failed_roots) > self._allowed_failures:
            raise errors.PoisonedShardError(
                Reason.TOO_MANY_FAILED_RECORDS,
                f"shard {self._book.shard}: {failed} of {self._partition.records} input records "
                "failed, more than failurePolicy.maxFailedRecordsPercent allows; "
                f"{_most_often(tally)}see errors/ in the output",
            )

    def _take_process_tally(self) -> Tally:
        now = self._caller.process_tally.copy()
        delta = now.minus(self._counted)
        self._counted = now
        return delta

    async def _close(self) -> None:
        """Leave everything durable, whatever ended the attempt."""
        try:
            await self._output.abandon()
        except errors.RunnerError as exc:
            LOG.warning("a part was not committed", extra={"reason": str(exc)})
        finally:
            await asyncio.to_thread(self._journal.close)


def _most_often(tally: Tally) -> str:
    """Quote the commonest kind of failure."""
    for kind, count, message in tally.failures():
        return f"most often {kind} ({count:,}): {message}; "
    return ""  # all of it by a version that did not count kinds
