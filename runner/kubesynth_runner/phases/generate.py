"""generate: run the pipeline over one shard, from wherever the last attempt left it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

from kubesynth_api.conditions import Reason
from kubesynth_runner import errors, models
from kubesynth_runner.engine.calls import Caller
from kubesynth_runner.engine.scheduler import Scheduler
from kubesynth_runner.io import inputs, ledger, plan_file, run_identity, sampling, source
from kubesynth_runner.io.journal import Journal
from kubesynth_runner.io.shard_output import OutputOptions, RootOutcome, ShardOutput
from kubesynth_runner.phases import replay
from kubesynth_runner.phases.context import RunContext
from kubesynth_runner.phases.supervision import bind, supervise
from kubesynth_runner.pipelines import compile as pipelines
from kubesynth_runner.tally import Tally

LOG = logging.getLogger(__name__)


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
    context = replay.with_input(context, plan)
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
        self._plan = plan
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
        scheduler = Scheduler(
            bind(self.pipeline.steps, pool.connections, self._context.spec.spec.seed),
            self._caller,
            self._read(bytes(self._book.done)),
            self._deliver,
        )
        try:
            await supervise(self._context, scheduler, pool, self._book, self._journal)
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

    def _read(self, done: bytes) -> Iterator[source.RootInput]:
        spec = self._context.spec.spec
        if self._plan.replays is not None:
            earlier = self._plan.replays
            return replay.read(self._context, earlier, self.pipeline, self._partition, done)
        if spec.input is None:
            return source.read_seeds(self._partition, spec.pipeline[0].kind, done)
        files = inputs.open_source(spec.input, self._context.environment.mounts)
        sample = sampling.of(spec.input, spec.seed)
        return source.read_partition(self._partition, spec.input, files, done, sample)

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
