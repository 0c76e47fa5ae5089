"""A pipeline as a whole: its stages, its columns, and what it should cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import jinja2

from kubesynth_api.conditions import Reason
from kubesynth_api.v1alpha1.pipeline import Stage
from kubesynth_api.v1alpha1.sampling import SamplingParameters
from kubesynth_api.v1alpha1.spending import Price
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_runner import errors
from kubesynth_runner.io.plan_file import ColumnType
from kubesynth_runner.io.schema import RESERVED_COLUMNS
from kubesynth_runner.pipelines import base, registry, tokens
from kubesynth_runner.pipelines.compiling import CompileContext, ReadPrompt
from kubesynth_runner.pipelines.templates import Condition
from kubesynth_runner.tally import cost_usd

# Where nothing else is known: a prompt around the document, and a completion.
PROMPT_OVERHEAD_TOKENS = 120
COMPLETION_TOKENS = 200
CHARACTERS_PER_TOKEN = 4


@dataclasses.dataclass(frozen=True, slots=True)
class RoleUse:
    """A model as a step uses it."""

    role: str
    sampling: SamplingParameters
    reasoning_column: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class CompiledStep:
    """A step, its name, and how it speaks to its models, by the stage's role fields.

    Where `condition` does not hold, a record passes this and the next steps of the stage, `skips`
    in all.
    """

    step: base.Step
    stage_id: str
    uses: Mapping[str, RoleUse]
    condition: Condition | None = None
    skips: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class CompiledLevel:
    """A level of generated records: a step that plan carries out."""

    step: CompiledStep
    merge: base.Merge
    expected: base.Cost


@dataclasses.dataclass(frozen=True, slots=True)
class CompiledPipeline:
    """Steps in order, and the columns of the rows that come out."""

    steps: tuple[CompiledStep, ...]
    columns: Mapping[str, ColumnType]
    levels: tuple[CompiledLevel, ...] = ()

    @property
    def roles(self) -> frozenset[str]:
        """The models that the steps use."""
        return _roles(self.steps)

    @property
    def keeps_logprobs(self) -> bool:
        """Whether any step asks for log probabilities."""
        return any(use.sampling.logprobs for step in self.steps for use in step.uses.values())

    @property
    def level_roles(self) -> frozenset[str]:
        """The models that plan uses."""
        return _roles(level.step for level in self.levels)


def _roles(steps: Iterable[CompiledStep]) -> frozenset[str]:
    return frozenset(use.role for step in steps for use in step.uses.values())


def compile_pipeline(
    spec: SyntheticDataJobSpec,
    read: ReadPrompt,
    input_types: Mapping[str, ColumnType],
    count: tokens.Count = tokens.count,
) -> CompiledPipeline:
    """Return the pipeline of a job. `count` is for those who run it.

    Raises:
        ConfigurationError: a template is none, or a column's name is taken.
    """
    steps: list[CompiledStep] = []
    levels: list[CompiledLevel] = []
    columns: dict[str, ColumnType] = {}
    if spec.input is not None:
        columns[spec.text_column] = "string"
    columns |= input_types
    for index, item in enumerate(spec.pipeline):
        around = CompileContext(spec.text_column, read, columns, spec.seed or 0, count)
        compiled = registry.compile_stage(item, around)
        condition = _condition(item)
        for level in compiled.levels:
            bound_step = _bind(spec, item, index, level.step)
            levels.append(CompiledLevel(bound_step, level.merge, level.expected))
            columns |= level.step.stage.columns
        bound = [_bind(spec, item, index, step) for step in compiled.steps]
        if condition is not None:
            bound[0] = dataclasses.replace(bound[0], condition=condition, skips=len(bound))
        steps += bound
        for step in compiled.steps:
            columns |= step.stage.columns
        reasoning = getattr(item.member, "reasoning_column", None)
        if reasoning is not None:
            columns[reasoning] = "string"
    taken = sorted(RESERVED_COLUMNS & columns.keys())
    if taken:
        raise errors.ConfigurationError(
            Reason.INVALID_SPEC,
            f"the column name {taken[0]!r} is kubesynth's own; rename it (input.columns, "
            "or the stage's column)",
        )
    return CompiledPipeline(tuple(steps), columns, tuple(levels))


def _condition(item: Stage) -> Condition | None:
    if item.when is None:
        return None
    try:
        return Condition.compile(item.when)
    except jinja2.TemplateSyntaxError as exc:
        raise errors.ConfigurationError(
            Reason.INVALID_SPEC, f"stage {item.kind}: when: {exc}"
        ) from exc


def _bind(spec: SyntheticDataJobSpec, item: Stage, index: int, step: base.Step) -> CompiledStep:
    named, said = item.member.roles(), item.member.samplings()
    uses = {}
    for field in step.fields:
        model = spec.model(named[field])
        defaults = step.sampling if model.sampling is None else model.sampling.over(step.sampling)
        own = said.get(field) or SamplingParameters()
        reasoning = getattr(item.member, "reasoning_column", None) if field == "model" else None
        uses[field] = RoleUse(model.name, own.over(defaults), reasoning)
    stage_id = item.effective_id(index)
    return CompiledStep(step, f"{stage_id}/{step.name}" if step.name else stage_id, uses)


@dataclasses.dataclass(frozen=True, slots=True)
class StepEstimate:
    """What one step should take for the whole run; `rows` come out of it.

    Tokens of a step that asks several models are divided evenly among `roles`.
    """

    stage_id: str
    roles: tuple[str, ...]
    calls: float
    prompt_tokens: float
    completion_tokens: float
    rows: float


@dataclasses.dataclass(frozen=True, slots=True)
class PipelineEstimate:
    """What a run should take, step by step; `rows` come out at the end."""

    steps: tuple[StepEstimate, ...]
    rows: int

    @property
    def calls(self) -> int:
        """Requests to models."""
        return round(sum(step.calls for step in self.steps))

    @property
    def tokens(self) -> int:
        """Tokens, prompts and completions."""
        return round(sum(step.prompt_tokens + step.completion_tokens for step in self.steps))

    def cost_usd(self, prices: Mapping[str, Price]) -> float | None:
        """Return what the tokens should cost; None without prices."""
        if not prices:
            return None
        costs = [
            cost_usd(prices.get(role), step.prompt_tokens, step.completion_tokens) / len(step.roles)
            for step in self.steps
            for role in step.roles
        ]
        return round(sum(costs), 6)


def estimate(
    pipeline: CompiledPipeline, input_records: int, average_characters: float
) -> PipelineEstimate:
    """Return what steps should take if lists are as long as asked and nothing fails."""
    rows = float(input_records)
    document = average_characters / CHARACTERS_PER_TOKEN
    steps = []
    for compiled in pipeline.steps:
        cost, choices = compiled.step.cost, _choices(compiled)
        segments = cost.segments(document)
        calls = cost.calls + cost.segment_calls * segments
        # The calls for all segments see the document once between them.
        seen = document * (cost.calls + cost.segment_calls) / calls if calls else 0.0
        made = choices * cost.rows * (segments if cost.splits else 1)
        prompt = PROMPT_OVERHEAD_TOKENS + seen
        step = _of_step(compiled, rows * calls, prompt, rows * made, seen if cost.echoes else None)
        if cost.splits:
            document /= segments
        rows = step.rows
        steps.append(step)
    return PipelineEstimate(tuple(steps), round(rows))


def estimate_generation(pipeline: CompiledPipeline) -> PipelineEstimate:
    """Return what the levels should take that plan carries out; their rows are the run's input."""
    steps = [
        _of_step(level.step, level.expected.calls, PROMPT_OVERHEAD_TOKENS, level.expected.rows)
        for level in pipeline.levels
    ]
    return PipelineEstimate(tuple(steps), round(steps[-1].rows) if steps else 0)


def _of_step(
    compiled: CompiledStep, calls: float, prompt: float, rows: float, echo: float | None = None
) -> StepEstimate:
    roles = tuple(dict.fromkeys(use.role for use in compiled.uses.values()))
    each = _choices(compiled) * _completion_tokens(compiled, echo)
    earlier = compiled.step.cost.history_tokens
    return StepEstimate(
        compiled.stage_id, roles, calls, calls * (prompt + earlier), calls * each, rows
    )


def _choices(compiled: CompiledStep) -> int:
    main = next(iter(compiled.uses.values()), None)
    return main.sampling.n or 1 if main is not None else 1


def _completion_tokens(compiled: CompiledStep, echo: float | None) -> float:
    usual = compiled.step.cost.completion_tokens or COMPLETION_TOKENS
    expected = usual if echo is None else echo
    limits = [use.sampling.max_tokens for use in compiled.uses.values()]
    return min([expected, *(limit for limit in limits if limit is not None)])
