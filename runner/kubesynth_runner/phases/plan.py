"""plan: make the output ours, find the input's records and divide them.

Needs no model, unless the records that the pipeline starts from are themselves generated.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable

from kubesynth_api import validation
from kubesynth_api.conditions import Reason
from kubesynth_api.runner_contract import Estimate
from kubesynth_api.v1alpha1.storage import InputSpec
from kubesynth_runner import errors, tokenizer
from kubesynth_runner.io import (
    input_files,
    inputs,
    layout,
    ledger,
    partition,
    plan_file,
    run_identity,
    sampling,
    survey,
)
from kubesynth_runner.io.mounts import Mounts
from kubesynth_runner.io.run_identity import RunIdentity
from kubesynth_runner.phases import levels, replay, texts
from kubesynth_runner.phases.context import RunContext
from kubesynth_runner.pipelines import compile as pipelines
from kubesynth_runner.tally import Tally

LOG = logging.getLogger(__name__)


async def run(context: RunContext) -> plan_file.PlanFile:
    """Plan the run, or return the plan that it already has. Safe to repeat.

    Raises:
        ConfigurationError: the spec, the input or the output is not usable.
        StoppedError: asked to stop.
    """
    _refuse_findings(context)
    # A file that is none is to be found out before anything is paid for.
    await asyncio.to_thread(tokenizer.load, context.spec.spec, context.environment.mounts)
    identity = await asyncio.to_thread(_acquire, context)
    existing = await asyncio.to_thread(plan_file.load, context.storage, identity.run_id)
    if context.spec.spec.retry_failed is not None:
        if existing is None:
            return await asyncio.to_thread(replay.make_plan, context, identity)
        return await _accept(context, existing)
    if context.spec.spec.input is None:
        return await _generate(context, identity, existing)
    if existing is not None:
        return await _accept(context, existing)
    plan = await asyncio.to_thread(_make, context, context.spec.spec.input, identity)
    LOG.info("planned", extra={"records": plan.records, "files": len(plan.files)})
    if plan.left_out:
        said = input_files.describe_left_out(plan.left_out)
        LOG.info("files of the input are left out", extra={"left_out": said})
    return plan


async def _generate(
    context: RunContext, identity: RunIdentity, existing: plan_file.PlanFile | None
) -> plan_file.PlanFile:
    """Plan a run whose input its first stage makes, asking models for it."""
    spec, run_id = context.spec.spec, identity.run_id
    if existing is not None:
        await _accept(context, existing)
    if existing is not None and await asyncio.to_thread(levels.is_finished, context, run_id):
        # Somebody slower may have left files since, and was refused.
        await asyncio.to_thread(ledger.tidy, context.storage, run_id, layout.PLAN_SHARD)
        return existing
    pipeline = pipelines.compile_pipeline(spec, context.environment.read_prompt, {})
    generation = levels.Generation(context, run_id, pipeline)
    try:
        if not await generation.open() or existing is None:
            # All of it again, out of the journal, where the one before us died on the way.
            seeds = await generation.run()
            existing = await asyncio.to_thread(
                _save_generated, context, identity, Generated(pipeline, seeds, generation.spent)
            )
        await generation.finish()
    finally:
        await generation.close()
    return existing


@dataclasses.dataclass(frozen=True, slots=True)
class Generated:
    """The records that a run starts from, and what it took to make them."""

    pipeline: pipelines.CompiledPipeline
    seeds: list[plan_file.Seed]
    spent: Tally


def _save_generated(
    context: RunContext, identity: RunIdentity, made: Generated
) -> plan_file.PlanFile:
    shards, seeds, spent = context.spec.spec.shards.count, made.seeds, made.spent
    partitions = partition.assign_seeds(seeds, shards)
    # What plan has spent is known; what is to come is not.
    estimate = pipelines.estimate(made.pipeline, len(seeds), 0.0)
    plan = plan_file.PlanFile(
        identity.run_id,
        identity.pipeline_hash,
        plan_file.version_of(partitions),
        shards,
        len(seeds),
        (),
        {},
        spent.requests_ok + estimate.calls,
        spent.prompt_tokens + spent.completion_tokens + estimate.tokens,
        estimate.rows,
        generated=True,
        texts=texts.hashes(context.spec.spec, context.environment),
        estimated_cost_usd=estimate.cost_usd(context.prices),
    )
    LOG.info("planned", extra={"records": plan.records, "generated": True})
    return plan_file.save(context.storage, plan, partitions)


async def _accept(context: RunContext, plan: plan_file.PlanFile) -> plan_file.PlanFile:
    """Return an earlier plan, if it was made with the texts of today."""
    await asyncio.to_thread(texts.check, plan, context.spec.spec, context.environment)
    return plan


def load(context: RunContext, *, counting: bool = False) -> plan_file.PlanFile:
    """Return the plan that this job has stored.

    With `counting` no more rows are made by it, and the texts may be other ones by now.

    Raises:
        RetryLaterError: there is none yet.
        ConfigurationError: OutputConflict, the output belongs to another job by now;
            ReferenceChanged, a prompt or another text is not the one that it was made with.
    """
    storage = context.storage
    identity = run_identity.require(storage, context.spec.uid)
    planned = plan_file.load(storage, identity.run_id)
    if planned is None:
        raise errors.RetryLaterError(
            Reason.RUNNER_FAILED, f"{storage.uri} holds no plan yet; plan runs first"
        )
    if not counting:
        texts.check(planned, context.spec.spec, context.environment)
    return planned


def to_estimate(plan: plan_file.PlanFile) -> Estimate:
    """Return the estimate as the job's status shows it."""
    return Estimate(
        calls=plan.estimated_calls,
        tokens=plan.estimated_tokens,
        rows=plan.estimated_rows,
        cost_usd=plan.estimated_cost_usd,
    )


def _refuse_findings(context: RunContext) -> None:
    findings = validation.check(context.spec.spec, context.spec.name)
    if findings:
        first = findings[0]
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        raise errors.ConfigurationError(first.reason, f"{first.path}: {first.message}{more}")


def _acquire(context: RunContext) -> RunIdentity:
    spec = context.spec
    if spec.spec.output.if_exists == "Resume":
        _check_resumed(context)
    pipeline_hash = _pipeline_hash(context)
    return run_identity.acquire(
        context.storage,
        uid=spec.uid,
        job=f"{spec.namespace}/{spec.name}" if spec.namespace else spec.name,
        pipeline_hash=pipeline_hash,
        if_exists=spec.spec.output.if_exists,
        content=spec.content_hashes() if pipeline_hash == spec.pipeline_hash() else None,
    )


def _pipeline_hash(context: RunContext) -> str:
    """Return the hash of the job: the one of older versions, where one has begun this very run."""
    former = context.spec.former_pipeline_hash()
    if context.spec.spec.output.if_exists != "Overwrite":
        found = run_identity.load(context.storage)
        if found is not None and not found.content and found.pipeline_hash == former:
            return former
    return context.spec.pipeline_hash()


def _check_resumed(context: RunContext) -> None:
    """Refuse a run of other texts while it is not ours yet: it may still be overwritten."""
    found = run_identity.load(context.storage)
    if found is None or found.clearing or found.pipeline_hash != _pipeline_hash(context):
        return
    planned = plan_file.load(context.storage, found.run_id)
    if planned is not None:
        texts.check(planned, context.spec.spec, context.environment)


def _make(context: RunContext, given: InputSpec, identity: RunIdentity) -> plan_file.PlanFile:
    spec = context.spec.spec
    source = inputs.open_source(given, context.environment.mounts)
    found = inputs.find(source, given)
    sample = sampling.of(given, spec.seed)
    seen = survey.survey(source, found, given, sample, context.stop.is_set)
    column_types = seen.column_types
    # Templates and column names may be wrong: to be found out before anything is paid for.
    pipeline = pipelines.compile_pipeline(spec, context.environment.read_prompt, column_types)
    partitions = partition.assign(seen.files, spec.shards.count, given.limit, seen.duplicates)
    records = sum(part.records for part in partitions)
    if records == 0:
        raise errors.ConfigurationError(
            Reason.INPUT_UNREADABLE, f"input.uri: {given.uri} holds no record"
        )
    estimate = pipelines.estimate(pipeline, records, average_characters(seen))
    plan = plan_file.PlanFile(
        identity.run_id,
        identity.pipeline_hash,
        plan_file.version_of(partitions),
        spec.shards.count,
        records,
        tuple(scan.file for scan in seen.files),
        column_types,
        estimate.calls,
        estimate.tokens,
        estimate.rows,
        estimated_cost_usd=estimate.cost_usd(context.prices),
        texts=texts.hashes(spec, context.environment),
        left_out=seen.left_out,
    )
    return plan_file.save(context.storage, plan, partitions)


def look_at(
    given: InputSpec, seed: int | None, mounts: Mounts, stopped: Callable[[], bool]
) -> survey.Survey:
    """Return what is in an input's files. Blocking.

    Raises:
        ConfigurationError: it cannot be read.
        StoppedError: `stopped` said so.
    """
    source = inputs.open_source(given, mounts)
    sample = sampling.of(given, seed)
    return survey.survey(source, inputs.find(source, given), given, sample, stopped)


def average_characters(seen: survey.Survey) -> float:
    """Return the size of an average record."""
    size = sum(scan.content_bytes for scan in seen.files)
    return size / max(1, sum(scan.file.records for scan in seen.files))
