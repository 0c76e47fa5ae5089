"""Replaying the failed records of another run: the plan of it, and what its shards read.

Where a failed record enters is told in `io.failed_records`. The input itself is not looked at
again: its columns and their types are those of the earlier run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from kubesynth_api.conditions import Reason
from kubesynth_api.run_spec import prefix_hashes
from kubesynth_api.v1alpha1.storage import InputSpec, OutputSpec
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_runner import errors
from kubesynth_runner.io import failed_records, locations, partition, plan_file
from kubesynth_runner.io.failed_records import Entrance
from kubesynth_runner.io.mounts import Mounts
from kubesynth_runner.io.plan_file import ColumnType, EarlierRun, StepIdentity
from kubesynth_runner.io.run_identity import RunIdentity
from kubesynth_runner.io.source import RootInput
from kubesynth_runner.io.storage import Storage
from kubesynth_runner.phases import texts
from kubesynth_runner.phases.context import RunContext
from kubesynth_runner.pipelines import compile as pipelines
from kubesynth_runner.pipelines.compiling import ReadPrompt

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


@dataclasses.dataclass(frozen=True, slots=True)
class Replayable:
    """What there is to be replayed, and the pipeline that it enters.

    `carried` are the places, over all files, of failures that cannot be tried again.
    """

    earlier: EarlierRun
    column_types: dict[str, ColumnType]
    pipeline: pipelines.CompiledPipeline
    files: list[partition.ScannedFile]
    carried: list[int]

    @property
    def records(self) -> int:
        """How many are tried again."""
        return sum(scanned.file.records for scanned in self.files) - len(self.carried)

    def estimate(self) -> pipelines.PipelineEstimate:
        """Return what it should take, as if all of it entered at the beginning."""
        size = sum(scanned.content_bytes for scanned in self.files)
        average = size / max(1, self.records + len(self.carried))
        return pipelines.estimate(self.pipeline, self.records, average)


def with_input(context: RunContext, plan: plan_file.PlanFile) -> RunContext:
    """Return the context with the `input` of the run that is replayed, if one is."""
    if plan.replays is None or plan.replays.input is None:
        return context
    spec = _with_input(context.spec.spec, plan.replays)
    return dataclasses.replace(context, spec=context.spec.model_copy(update={"spec": spec}))


def _with_input(spec: SyntheticDataJobSpec, earlier: EarlierRun) -> SyntheticDataJobSpec:
    if earlier.input is None:
        return spec
    return spec.model_copy(update={"input": InputSpec.model_validate(earlier.input)})


def make_plan(context: RunContext, identity: RunIdentity) -> plan_file.PlanFile:
    """Plan a replay. There may be nothing to replay: then its dataset is empty.

    Raises:
        ConfigurationError: there is no finished run, or its errors/ is not what it has written.
    """
    spec = context.spec.spec
    referenced = texts.hashes(spec, context.environment)
    mounts, read_prompt = context.environment.mounts, context.environment.read_prompt
    seen = look_at(spec, mounts, read_prompt, referenced, context.stop.is_set)
    partitions = partition.assign(seen.files, spec.shards.count, None, seen.carried)
    records = sum(part.records for part in partitions)
    estimate = seen.estimate()
    LOG.info("planned", extra={"records": records, "replays": seen.earlier.uri})
    plan = plan_file.PlanFile(
        identity.run_id,
        identity.pipeline_hash,
        plan_file.version_of(partitions),
        spec.shards.count,
        records,
        tuple(scanned.file for scanned in seen.files),
        seen.column_types,
        estimate.calls,
        estimate.tokens,
        estimate.rows,
        replays=seen.earlier,
        texts=referenced,
    )
    return plan_file.save(context.storage, plan, partitions)


def look_at(
    spec: SyntheticDataJobSpec,
    mounts: Mounts,
    read_prompt: ReadPrompt,
    referenced: Mapping[str, str],
    stopped: Callable[[], bool],
) -> Replayable:
    """Return what a job with `retryFailed` has to do. Blocking.

    `referenced` are the hashes of the texts that the spec refers to, by field.

    Raises:
        ConfigurationError: there is no finished run, or its errors/ is not what it has written.
        StoppedError: `stopped` said so.
    """
    retry = spec.retry_failed
    assert retry is not None
    storage = _open_earlier(spec, mounts)
    with _translated():
        found = failed_records.find(storage)
        _check_input(spec.input, found.input)
        earlier = EarlierRun(retry.from_output, found.run_id, found.steps, found.whole, found.input)
        column_types = cast("dict[str, ColumnType]", found.columns)
        spec = _with_input(spec, earlier)
        pipeline = pipelines.compile_pipeline(spec, read_prompt, column_types)
        entrance = Entrance(earlier, *identify(spec, pipeline, referenced))
        files, carried = _scan(storage, found, entrance, stopped)
    return Replayable(earlier, column_types, pipeline, files, carried)


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
    storage: Storage,
    found: failed_records.EarlierManifest,
    entrance: Entrance,
    stopped: Callable[[], bool],
) -> tuple[list[partition.ScannedFile], list[int]]:
    files: list[partition.ScannedFile] = []
    carried: list[int] = []
    count = 0
    for file in found.errors:
        if stopped():
            raise errors.StoppedError
        scanned, places = failed_records.scan(storage, file, entrance)
        files.append(scanned)
        carried += [count + place for place in places]
        count += scanned.file.records
    return files, carried


def _open_earlier(spec: SyntheticDataJobSpec, mounts: Mounts) -> Storage:
    """Return the output of the run that is replayed. Connects to nothing."""
    retry = spec.retry_failed
    assert retry is not None
    with _translated():
        output = OutputSpec(uri=retry.from_output, storage=retry.storage)
        return locations.open_storage(output, mounts)


def read(
    context: RunContext,
    plan: plan_file.PlanFile,
    pipeline: pipelines.CompiledPipeline,
    part: plan_file.Partition,
    done: bytes,
) -> Iterator[RootInput]:
    """Yield the failed records of a partition as the input of the pipeline."""
    spec = context.spec.spec
    storage = _open_earlier(spec, context.environment.mounts)
    assert plan.replays is not None
    entrance = Entrance(plan.replays, *identify(spec, pipeline, plan.texts))
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
