"""`kubesynth estimate`: what a job should take, stage by stage, before anything is paid for."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from kubesynth_api.conditions import Reason
from kubesynth_api.meta import PromptText
from kubesynth_api.v1alpha1.storage import InputSpec
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_runner import errors
from kubesynth_runner.cli import manifests, mappings
from kubesynth_runner.cli.errors import CommandError
from kubesynth_runner.environment import RunEnvironment
from kubesynth_runner.io import input_files, partition
from kubesynth_runner.io.mounts import Mounts
from kubesynth_runner.phases import plan, replay
from kubesynth_runner.pipelines import compile as pipelines
from kubesynth_runner.pipelines.compile import StepEstimate
from kubesynth_runner.pipelines.compiling import ReadPrompt

# A document of a page, where nobody says how long they are.
USUAL_CHARACTERS = 2000


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """The command's flags. `prices` as given: ROLE=PROMPT,COMPLETION in dollars per million."""

    records: int | None = None
    characters: int | None = None
    prices: Sequence[str] = ()
    as_json: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens."""

    prompt: float
    completion: float


@dataclasses.dataclass(frozen=True, slots=True)
class JobEstimate:
    """What a job should take. `input_records` are generated where `generation` is not empty.

    `left_out` says how many files of the input's folder are not read, by their ending.
    """

    input_records: int
    generation: tuple[StepEstimate, ...]
    steps: tuple[StepEstimate, ...]
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def all_steps(self) -> tuple[StepEstimate, ...]:
        """Those of plan, then those of the shards."""
        return (*self.generation, *self.steps)

    @property
    def rows(self) -> float:
        """Rows of the dataset."""
        return self.steps[-1].rows if self.steps else float(self.input_records)


def estimate(source: str, flags: mappings.Flags, options: Options) -> int:
    """Print what the one job of a manifest should take; return 0.

    Raises:
        CommandError: the manifest or a flag is wrong, or the input cannot be read.
    """
    if options.characters is not None and options.records is None:
        raise CommandError("--characters is the length of --records N: say how many there are")
    manifest = manifests.read(source)
    document = manifests.the_job(manifest)
    with tempfile.TemporaryDirectory(prefix="kubesynth-") as scratch:
        mapped = mappings.map_objects(manifest, flags, Path(scratch))
        problems = document.problems
        if document.job is not None:
            texts = mappings.prompt_texts(document.job.spec, mapped)
            problems = manifests.problems_of(document.job, texts)
            problems = problems or mappings.missing_code(document.job.spec, mapped)
        if document.job is None or problems:
            lines = [manifest.describe(document.document, problem) for problem in problems]
            raise CommandError("\n".join(lines))
        spec = document.job.spec
        for note in manifests.notes(spec):
            print(manifest.describe(document.document, note), file=sys.stderr)
        mounts = Mounts(mapped.claims, mapped.config_maps, mapped.secrets, manifest.folder)
        try:
            found = of_job(spec, mounts, options)
        except errors.RunnerError as exc:
            raise CommandError(f"{source}: {exc}") from exc
    prices = _prices(spec, options.prices)
    if options.as_json:
        print(json.dumps(to_json(found, prices), indent=2))
    else:
        _print(found, prices)
    return 0


def of_job(spec: SyntheticDataJobSpec, mounts: Mounts, options: Options) -> JobEstimate:
    """Return what a job should take.

    Raises:
        ConfigurationError: the input or a text cannot be read, or a template is none.
        CommandError: the input is not at hand, and nobody says how long it is.
    """
    at_hand = RunEnvironment(mounts)

    def read(prompt: PromptText) -> str:
        """Return a prompt; of one that is not at hand the length alone would matter."""
        reference = prompt.config_map_key_ref
        if reference is None or reference.name not in mounts.config_maps:
            return prompt.inline or "-"
        return at_hand.read_prompt(prompt)

    if spec.input is None and spec.retry_failed is None:
        pipeline = pipelines.compile_pipeline(spec, read, {})
        generation = pipelines.estimate_generation(pipeline)
        records = generation.rows if options.records is None else options.records
        rest = pipelines.estimate(pipeline, records, 0.0)
        return JobEstimate(records, generation.steps, rest.steps)
    if options.records is not None:
        pipeline = pipelines.compile_pipeline(spec, read, {})
        characters = USUAL_CHARACTERS if options.characters is None else options.characters
        rest = pipelines.estimate(pipeline, options.records, characters)
        return JobEstimate(options.records, (), rest.steps)
    if spec.retry_failed is not None or spec.input is None:
        return _of_failed(spec, mounts, read)
    return _of_input(spec, spec.input, mounts, read)


def _of_failed(spec: SyntheticDataJobSpec, mounts: Mounts, read: ReadPrompt) -> JobEstimate:
    try:
        # Of texts elsewhere nothing is known, and where records enter is not looked at.
        seen = replay.look_at(spec, mounts, read, {}, lambda: False)
    except errors.RunnerError as exc:
        if exc.reason is Reason.INVALID_SPEC:
            raise CommandError(str(exc)) from exc
        raise CommandError(
            f"{exc}\nIs the output of that run somewhere else? Map it as for `kubesynth run`, or "
            "say how many of its records failed with --records N"
        ) from exc
    return JobEstimate(seen.records, (), seen.estimate().steps)


def _of_input(
    spec: SyntheticDataJobSpec, given: InputSpec, mounts: Mounts, read: ReadPrompt
) -> JobEstimate:
    try:
        seen = plan.look_at(given, spec.seed, mounts, lambda: False)
    except errors.RunnerError as exc:
        if exc.reason is Reason.INVALID_SPEC:  # it is here, and wrong
            raise CommandError(str(exc)) from exc
        raise CommandError(
            f"{exc}\nIs the input somewhere else? Map it as for `kubesynth run`, or say how many "
            "records it has with --records N"
        ) from exc
    pipeline = pipelines.compile_pipeline(spec, read, seen.column_types)
    parts = partition.assign(seen.files, spec.shards.count, given.limit, seen.duplicates)
    records = sum(part.records for part in parts)
    rest = pipelines.estimate(pipeline, records, plan.average_characters(seen))
    return JobEstimate(records, (), rest.steps, seen.left_out)


def _prices(spec: SyntheticDataJobSpec, given: Sequence[str]) -> dict[str, Price]:
    """Return the prices of the job's budget, and those given, which win."""
    roles = [model.name for model in spec.models]
    budget = spec.budget.prices if spec.budget is not None else {}
    prices = {
        role: Price(price.prompt_per_million, price.completion_per_million)
        for role, price in budget.items()
    }
    for text in given:
        role, _, numbers = text.partition("=")
        try:
            prompt, completion = (float(number) for number in numbers.split(","))
        except ValueError as exc:
            raise CommandError(
                f"--price {text}: expected --price ROLE=PROMPT,COMPLETION, in dollars per million"
            ) from exc
        if not all(math.isfinite(number) and number >= 0 for number in (prompt, completion)):
            raise CommandError(f"--price {text}: a price is a number of dollars, 0 or more")
        if role not in roles:
            raise CommandError(f"--price {text}: no model has the role {role!r}, only {roles}")
        prices[role] = Price(prompt, completion)
    return prices


def usd(step: StepEstimate, prices: Mapping[str, Price]) -> float | None:
    """Return the cost of a step, or None if a price that it needs is not known."""
    if not step.roles:
        return 0.0
    if any(role not in prices for role in step.roles):
        return None
    million = 1e6 * len(step.roles)
    return sum(
        step.prompt_tokens / million * prices[role].prompt
        + step.completion_tokens / million * prices[role].completion
        for role in step.roles
    )


def to_json(found: JobEstimate, prices: Mapping[str, Price]) -> dict[str, Any]:
    """Return the estimate with the names of status.estimate; costUSD only where it is known."""

    def line(step: StepEstimate) -> dict[str, Any]:
        cost = usd(step, prices) if prices else None
        fields = {
            "stage": step.stage_id,
            "models": list(step.roles),
            "calls": round(step.calls),
            "promptTokens": round(step.prompt_tokens),
            "completionTokens": round(step.completion_tokens),
            "rows": round(step.rows),
        }
        return fields if cost is None else {**fields, "costUSD": round(cost, 6)}

    steps = found.all_steps
    costs = [usd(step, prices) if prices else None for step in steps]
    known = [cost for cost in costs if cost is not None]
    total: dict[str, Any] = {
        "calls": round(sum(step.calls for step in steps)),
        "tokens": round(sum(step.prompt_tokens + step.completion_tokens for step in steps)),
        "rows": round(found.rows),
    }
    if len(known) == len(costs):
        total["costUSD"] = round(sum(known), 6)
    left_out = {"filesLeftOut": dict(found.left_out)} if found.left_out else {}
    return {
        "inputRecords": found.input_records,
        **left_out,
        "plan": [line(step) for step in found.generation],
        "stages": [line(step) for step in found.steps],
        "total": total,
    }


def _print(found: JobEstimate, prices: Mapping[str, Price]) -> None:
    shown = to_json(found, prices)
    table = Table(title=f"{shown['inputRecords']:,} input records", title_justify="left")
    table.add_column("stage", no_wrap=True)
    table.add_column("model", no_wrap=True)
    counted = ("calls", "prompt tokens", "answer tokens", "rows")
    for name in (*counted, "US$") if prices else counted:
        table.add_column(name, justify="right")
    for line in (*shown["plan"], *shown["stages"]):
        counts = (line["calls"], line["promptTokens"], line["completionTokens"], line["rows"])
        cost = f"{line['costUSD']:,.2f}" if "costUSD" in line else "?"
        models = ", ".join(line["models"]) or "-"
        costs = (cost,) if prices else ()
        table.add_row(line["stage"], models, *(f"{count:,}" for count in counts), *costs)
    table.add_section()
    steps, total = found.all_steps, shown["total"]
    table.add_row(
        "in all",
        "",
        f"{total['calls']:,}",
        f"{round(sum(step.prompt_tokens for step in steps)):,}",
        f"{round(sum(step.completion_tokens for step in steps)):,}",
        f"{total['rows']:,}",
        *((f"{total['costUSD']:,.2f}" if "costUSD" in total else "?",) if prices else ()),
    )
    Console().print(table)
    if found.left_out:
        print(f"Left out of the input: {input_files.describe_left_out(found.left_out)}")
    print("If lists are as long as asked and nothing is filtered, repeated or fails.")
    if "costUSD" not in total:
        print("For the cost: --price ROLE=PROMPT,COMPLETION, in dollars per million tokens.")
