"""generate: run the pipeline over one shard, from wherever the last attempt left it."""

from __future__ import annotations

import asyncio
import logging

from kubesynth_api.conditions import Reason
from kubesynth_runner import errors, models
from kubesynth_runner.engine.calls import Caller, StageBinding
from kubesynth_runner.engine.scheduler import BoundStage, Scheduler
from kubesynth_runner.io import inputs, ledger, plan_file, run_identity, sampling, source
from kubesynth_runner.io.journal import Journal
from kubesynth_runner.io.shard_output import OutputOptions, RootOutcome, ShardOutput
from kubesynth_runner.phases.context import RunContext
from kubesynth_runner.pipelines import compile as pipelines
from kubesynth_runner.tally import Tally

LOG = logging.getLogger(__name__)

# How often the journal is made durable and the claim looked at: what a dead machine may cost.
HEARTBEAT_SECONDS = 1.0


async def run(context: RunContext, plan: plan_file.PlanFile, shard: int) -> Tally:
    """Finish a shard and return its exact counts; at once if it is finished. Safe to repeat.

    Raises:
        PoisonedShardError: more input records failed than failurePolicy allows.
        RunnerError: anything else that ends this attempt; the journal is complete.
    """
    storage = context.storage
    finished = await asyncio.to_thread(ledger.read_shard_manifest, storage, plan.run_id, shard)
    if finished is not None:
        # The one before us may have died right after it was finished.
        await asyncio.to_thread(ledger.tidy, storage, plan.run_id, shard)
        context.progress.tally = finished.tally
        context.progress.input_records = finished.records
        return finished.tally
    attempt = await _Attempt.open(context, plan, shard)
    attempt.check_failures()
    async with models.connect(
        context.spec.spec,
        attempt.pipeline.roles,
        context.environment,
        models.CapabilityStore(context.storage, plan.run_id),
        context.stop,
    ) as pool:
        context.progress.connections = pool.connections
        return await attempt.work(pool)


class _Attempt:
    """One attempt at a shard."""

    def __init__(
        self,
        context: RunContext,
        plan: plan_file.PlanFile,
        part: plan_file.Partition,
        book: ledger.Ledger,
        journal: Journal,
    ) -> None:
        spec = context.spec.spec
        self._context = context
        self._partition = part
        self._book = book
        self._journal = journal
        self._caller = Caller(journal)
        self._counted = Tally()
        self.pipeline = pipelines.compile_pipeline(
            spec, context.environment.read_prompt, plan.column_types
        )
        options = OutputOptions(
            self.pipeline.columns,
            spec.output.format,
            spec.output.rows_per_part,
            logprobs=any(stage.sampling.logprobs for stage in self.pipeline.stages),
        )
        self._output = ShardOutput(book, journal, options, self._take_process_tally)
        percent = spec.failure_policy.max_failed_records_percent
        # Rounded up: one bad record among few does not fail a shard, unless nothing may fail.
        self._allowed_failures = -(-part.records * percent // 100)
        context.progress.input_records = part.records
        context.progress.tally = self._output.tally

    @staticmethod
    async def open(context: RunContext, plan: plan_file.PlanFile, shard: int) -> _Attempt:
        """Claim the shard and read what earlier attempts have left."""

        def load() -> tuple[plan_file.Partition, ledger.Ledger, Journal]:
            identity = run_identity.require(context.storage, context.spec.uid)
            if identity.run_id != plan.run_id:
                raise errors.FencedError(f"{context.storage.uri} belongs to another run now")
            part = plan_file.load_partition(context.storage, plan, shard)
            book = ledger.Ledger(context.storage, shard, plan.run_id, part.records)
            book.open(context.environment.writer)
            journal = Journal(context.storage, plan.run_id, shard, book.epoch)
            journal.load(book.done)
            return part, book, journal

        part, book, journal = await asyncio.to_thread(load)
        LOG.info(
            "claimed shard",
            extra={"shard": shard, "epoch": book.epoch, "done": book.tally.done},
        )
        return _Attempt(context, plan, part, book, journal)

    async def work(self, pool: models.ModelPool) -> Tally:
        """Process what is not done, commit it and finish the shard."""
        spec = self._context.spec.spec
        rows = source.read_partition(
            self._partition,
            spec.input,
            inputs.open_source(spec.input, self._context.environment.mounts),
            bytes(self._book.done),
            sampling.of(spec.input, spec.seed),
        )
        scheduler = Scheduler(self._bind(pool), self._caller, rows, self._deliver)
        try:
            await self._supervise(scheduler, pool)
            await self._output.flush()
        except errors.PoisonedShardError:
            # What has been found out is worth keeping: errors/ tells why.
            await self._output.flush()
            raise
        finally:
            await self._close()
        manifest = await asyncio.to_thread(self._book.finish)
        LOG.info("finished shard", extra={"shard": manifest.shard, "rows": manifest.tally.accepted})
        return manifest.tally

    def _bind(self, pool: models.ModelPool) -> list[BoundStage]:
        spec = self._context.spec.spec
        return [
            BoundStage(
                item.stage,
                StageBinding(
                    index,
                    item.stage_id,
                    pool.connections[item.role],
                    item.sampling.to_request_fields(),
                    item.sampling.seed if item.sampling.seed is not None else spec.seed,
                    item.reasoning_column,
                ),
            )
            for index, item in enumerate(self.pipeline.stages)
        ]

    async def _supervise(self, scheduler: Scheduler, pool: models.ModelPool) -> None:
        """Run the scheduler beside the heartbeat, the stop signal and our own servers."""
        work = asyncio.create_task(scheduler.run())
        watchers = [
            asyncio.create_task(self._heartbeat()),
            asyncio.create_task(_stop_on(self._context.stop, scheduler)),
            asyncio.create_task(_fail_on(pool)),
        ]
        try:
            pending = {work, *watchers}
            while not work.done():
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            for task in (work, *watchers):
                task.cancel()
            await asyncio.gather(work, *watchers, return_exceptions=True)

    async def _heartbeat(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            self._context.progress.tick(loop.time())
            await asyncio.to_thread(self._journal.sync)
            await asyncio.to_thread(self._book.check_fence)

    async def _deliver(self, outcome: RootOutcome) -> None:
        await self._output.add(outcome)
        self.check_failures()

    def check_failures(self) -> None:
        """Give the shard up if too much of it has failed, in this attempt or before.

        Raises:
            PoisonedShardError: it has.
        """
        failed = self._output.tally.failed_roots
        if failed > self._allowed_failures:
            raise errors.PoisonedShardError(
                Reason.TOO_MANY_FAILED_RECORDS,
                f"shard {self._book.shard}: {failed} of {self._partition.records} input records "
                "failed, more than failurePolicy.maxFailedRecordsPercent allows; see errors/ in "
                "the output",
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


async def _stop_on(stop: asyncio.Event, scheduler: Scheduler) -> None:
    await stop.wait()
    scheduler.stop()


async def _fail_on(pool: models.ModelPool) -> None:
    raise await pool.wait_failed()
