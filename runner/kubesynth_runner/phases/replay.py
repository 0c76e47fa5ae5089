"""Replaying the failed records of another run: the plan of it, and what its shards read.

Where a failed record enters is told in `io.failed_records`. The input itself is not looked at
again: its columns and their types are those of the earlier run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Mapping
from typing import Any, cast

import msgspec

from kubesynth_api.conditions import Reason
from kubesynth_api.run_spec import prefix_hashes
from kubesynth_api.v1alpha1.storage import InputSpec, OutputSpec
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_runner import errors
from kubesynth_runner.io import failed_records, locations, partition, plan_file
from kubesynth_runner.io.failed_records import Entrance
from kubesynth_runner.io.plan_file import ColumnType, EarlierRun, StepIdentity
from kubesynth_runner.io.run_identity import RunIdentity
from kubesynth_runner.io.source import RootInput
from kubesynth_runner.io.storage import Storage
from kubesynth_runner.phases import texts
from kubesynth_runner.phases.context import RunContext
from kubesynth_runner.pipelines import compile as pipelines

LOG = logging.getLogger(__name__)


def identify(
    spec: SyntheticDataJobSpec,
    pipeline: pipelines.CompiledPipeline,
    referenced: Mapping[str, str] | None,
) -> tuple[tuple[StepIdentity, ...], str]:
    """Return the identities of a pipeline's steps, and the hash of all of it.

    `referenced` are the `texts` of the plan: with another prompt behind the same reference a stage
    is another one.
    """
    before = prefix_hashes(spec.pipeline, referenced or {})
    steps = []
    for index, item in enumerate(spec.pipeline):
        name = item.effective_id(index)
        own = [
            step.stage_id
            for step in pipeline.steps
            if step.stage_id == name or step.stage_id.startswith(f"{name}/")
        ]
        # What comes before a later step of a stage is the beginning of that very stage.
        steps += [
            StepIdentity(step, before[index + (number > 0)]) for number, step in enumerate(own)
        ]
    return tuple(steps), before[-1]


def with_input(context: RunContext, plan: plan_file.PlanFile) -> RunContext:
    """Return the context with the `input` of the run that is replayed, if one is."""
    if plan.replays is None or plan.replays.input is None:
        return context
    given = InputSpec.model_validate(plan.replays.input)
    spec = context.spec.spec.model_copy(update={"input": given})
    return dataclasses.replace(context, spec=context.spec.model_copy(update={"spec": spec}))


def make_plan(context: RunContext, identity: RunIdentity) -> plan_file.PlanFile:
    """Plan a replay. There may be nothing to replay: then its dataset is empty.

    Raises:
        ConfigurationError: there is no finished run, or its errors/ is not what it has written.
    """
    retry = context.spec.spec.retry_failed
    assert retry is not None
    storage = open_earlier(context)
    with _translated():
        found = failed_records.find(storage)
        _check_input(context.spec.spec.input, found.input)
        earlier = EarlierRun(retry.from_output, found.run_id, found.steps, found.whole, found.input)
        draft = plan_file.PlanFile(
            identity.run_id,
            identity.pipeline_hash,
            partitions="",
            shards=context.spec.spec.shards.count,
            records=0,
            files=(),
            column_types=cast("dict[str, ColumnType]", found.columns),
            estimated_calls=0,
            estimated_tokens=0,
            estimated_rows=0,
            replays=earlier,
            texts=texts.hashes(context.spec.spec, context.environment),
        )
        context = with_input(context, draft)
        pipeline = pipelines.compile_pipeline(
            context.spec.spec, context.environment.read_prompt, draft.column_types
        )
        files, carried = _scan(context, storage, found, _entrance(context, draft, pipeline))
    partitions = partition.assign(files, draft.shards, None, carried)
    records = sum(part.records for part in partitions)
    size = sum(file.content_bytes for file in files)
    estimate = pipelines.estimate(pipeline, records - len(carried), size / max(1, records))
    LOG.info("planned", extra={"records": records, "replays": retry.from_output})
    plan = msgspec.structs.replace(
        draft,
        partitions=plan_file.version_of(partitions),
        records=records,
        files=tuple(file.file for file in files),
        estimated_calls=estimate.calls,
        estimated_tokens=estimate.tokens,
        estimated_rows=estimate.rows,
    )
    return plan_file.save(context.storage, plan, partitions)


def _entrance(
    context: RunContext, plan: plan_file.PlanFile, pipeline: pipelines.CompiledPipeline
) -> Entrance:
    assert plan.replays is not None
    return Entrance(plan.replays, *identify(context.spec.spec, pipeline, plan.texts))


def _check_input(given: InputSpec | None, earlier: dict[str, Any] | None) -> None:
    """Refuse an input that is another one: it would not be read."""
    if given is None:
        return
    wire = {name: value for name, value in given.to_wire().items() if name != "storage"}
    before = {name: value for name, value in (earlier or {}).items() if name != "storage"}
    for name in sorted({*wire, *before}):
        if wire.get(name) != before.get(name):
            raise errors.ConfigurationError(
                Reason.INVALID_SPEC,
                f"input.{name}: the run that is replayed has another one; with retryFailed the "
                "input is not read: remove it, or give that of the earlier run",
            )


def _scan(
    context: RunContext,
    storage: Storage,
    found: failed_records.EarlierManifest,
    entrance: Entrance,
) -> tuple[list[partition.ScannedFile], list[int]]:
    files: list[partition.ScannedFile] = []
    carried: list[int] = []
    count = 0
    for file in found.errors:
        if context.stop.is_set():
            raise errors.StoppedError
        scanned, places = failed_records.scan(storage, file, entrance)
        files.append(scanned)
        carried += [count + place for place in places]
        count += scanned.file.records
    return files, carried


def open_earlier(context: RunContext) -> Storage:
    """Return the output of the run that is replayed. Connects to nothing."""
    retry = context.spec.spec.retry_failed
    assert retry is not None
    with _translated():
        output = OutputSpec(uri=retry.from_output, storage=retry.storage)
        return locations.open_storage(output, context.environment.mounts)


def read(
    context: RunContext,
    plan: plan_file.PlanFile,
    pipeline: pipelines.CompiledPipeline,
    part: plan_file.Partition,
    done: bytes,
) -> Iterator[RootInput]:
    """Yield the failed records of a partition as the input of the pipeline."""
    storage = open_earlier(context)
    entrance = _entrance(context, plan, pipeline)
    with _translated():
        yield from failed_records.read_partition(storage, part, entrance, done)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Name the field of ours in errors of a storage, which takes itself for an output."""
    try:
        yield
    except errors.ConfigurationError as exc:
        if exc.reason is not Reason.OUTPUT_UNWRITABLE:
            raise
        text = str(exc).replace("output.uri", "retryFailed.fromOutput")
        text = text.replace("output.storage", "retryFailed.storage")
        raise errors.ConfigurationError(Reason.INPUT_UNREADABLE, text) from exc
