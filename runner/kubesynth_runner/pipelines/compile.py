"""A pipeline as a whole: its stages, its columns, and what it should cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from kubesynth_api.conditions import Reason
from kubesynth_api.v1alpha1 import pipeline as api
from kubesynth_api.v1alpha1.sampling import SamplingParameters
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_runner import errors
from kubesynth_runner.io.plan_file import ColumnType
from kubesynth_runner.io.schema import RESERVED_COLUMNS
from kubesynth_runner.pipelines import registry
from kubesynth_runner.pipelines.base import Stage

# Where nothing else is known: a prompt around the document, a completion, a list's length.
PROMPT_OVERHEAD_TOKENS = 120
COMPLETION_TOKENS = 200
LIST_ITEMS = 5
CHARACTERS_PER_TOKEN = 4


@dataclasses.dataclass(frozen=True, slots=True)
class CompiledStage:
    """A stage, its name, and how it speaks to its model."""

    stage: Stage
    stage_id: str
    role: str
    sampling: SamplingParameters
    reasoning_column: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class CompiledPipeline:
    """Stages in order, and the columns of the rows that come out."""

    stages: tuple[CompiledStage, ...]
    columns: Mapping[str, ColumnType]

    @property
    def roles(self) -> frozenset[str]:
        """The models that the stages use."""
        return frozenset(stage.role for stage in self.stages)


def compile_pipeline(
    spec: SyntheticDataJobSpec,
    read: registry.ReadPrompt,
    input_types: Mapping[str, ColumnType],
) -> CompiledPipeline:
    """Return the pipeline of a job.

    Raises:
        ConfigurationError: a template is none, or a column's name is taken.
    """
    stages = []
    columns: dict[str, ColumnType] = {spec.input.text_column: "string", **input_types}
    for index, item in enumerate(spec.pipeline):
        stage = registry.compile_stage(item, spec.input, read)
        model = spec.model(item.member.model)
        sampling = (item.member.sampling or SamplingParameters()).over(model.sampling)
        reasoning = item.member.reasoning_column
        name = registry.stage_id(item, index)
        stages.append(CompiledStage(stage, name, model.name, sampling, reasoning))
        columns |= stage.columns
        if reasoning is not None:
            columns[reasoning] = "string"
    taken = sorted(RESERVED_COLUMNS & columns.keys())
    if taken:
        raise errors.ConfigurationError(
            Reason.INVALID_SPEC,
            f"the column name {taken[0]!r} is kubesynth's own; rename it (input.columns, "
            "or the stage's column)",
        )
    return CompiledPipeline(tuple(stages), columns)


@dataclasses.dataclass(frozen=True, slots=True)
class PipelineEstimate:
    """What a number of input records should take."""

    calls: int
    tokens: int
    rows: int


def estimate(
    spec: SyntheticDataJobSpec, input_records: int, average_characters: float
) -> PipelineEstimate:
    """Return expected calls, tokens and rows if lists are as long as asked and nothing fails."""
    calls = tokens = 0
    rows = input_records
    for item in spec.pipeline:
        model = spec.model(item.member.model)
        sampling = (item.member.sampling or SamplingParameters()).over(model.sampling)
        choices = sampling.n or 1
        completion = choices * min(sampling.max_tokens or COMPLETION_TOKENS, COMPLETION_TOKENS)
        prompt = PROMPT_OVERHEAD_TOKENS + average_characters / CHARACTERS_PER_TOKEN
        calls += rows
        tokens += round(rows * (prompt + completion))
        rows *= choices * _fan_out(item)
    return PipelineEstimate(calls, tokens, rows)


def _fan_out(item: api.Stage) -> int:
    if item.closed_qa is not None:
        return item.closed_qa.questions
    if item.prompt is not None and item.prompt.output.type == "List":
        return item.prompt.output.count or LIST_ITEMS
    return 1
