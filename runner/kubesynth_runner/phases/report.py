"""report.md: what a person wants to know about a finished run. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesynth_api.run_spec import RunSpec

if TYPE_CHECKING:
    from kubesynth_runner.phases.finalize import RunManifest


def render(manifest: RunManifest, run: RunSpec) -> str:
    """Return the report as Markdown; equal runs give equal reports."""
    tally = manifest.tally
    state = "complete" if manifest.complete else "PARTIAL: shards are missing"
    stages = " -> ".join(stage.id or stage.kind for stage in run.spec.pipeline)
    lines = [
        f"# {run.name}",
        "",
        f"Made by kubesynth {manifest.version}; {state}.",
        "",
        f"- pipeline: {stages}",
        *(f"- model {model.name}: {_model(model)}" for model in run.spec.models),
        f"- input: {run.spec.input.uri} ({_count(len(manifest.input_files), 'file')})",
        "",
        "| | |",
        "|---|---:|",
        f"| input records | {manifest.records:,} |",
        f"| input records done | {tally.done:,} |",
        f"| rows | {tally.accepted:,} |",
        f"| filtered | {tally.filtered:,} |",
        f"| failed | {tally.failed:,} |",
        f"| prompt tokens | {tally.prompt_tokens:,} |",
        f"| completion tokens | {tally.completion_tokens:,} |",
        f"| requests answered | {tally.requests_ok:,} |",
        f"| requests retried | {tally.requests_retried:,} |",
        f"| shards finished | {manifest.finished_shards} of {manifest.shards} |",
        "",
        "## Columns",
        "",
        "| column | type |",
        "|---|---|",
        *(f"| {name} | {kind} |" for name, kind in manifest.columns.items()),
        "",
        "Every row also has `id`, `parent_id`, `root_id` (its lineage), `source` (file and position"
        " of its input record) and `provenance` (the completions that it is made of).",
        "",
        "## Files",
        "",
        *(f"- {file.path}: {_count(file.rows, 'row')}" for file in manifest.data),
        *(f"- {file.path}: {_count(file.rows, 'failed record')}" for file in manifest.errors),
        "",
    ]
    return "\n".join(lines)


def _model(model: object) -> str:
    external = getattr(model, "external", None)
    return f"{external.model} at {external.url}" if external else "embedded"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
