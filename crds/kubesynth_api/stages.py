"""Problems of single stages: their model, their columns, their templates, their JSON schema."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from kubesynth_api import columns, json_schemas, templates
from kubesynth_api.columns import RESERVED_COLUMNS, Columns
from kubesynth_api.findings import Finding, invalid
from kubesynth_api.meta import PromptText
from kubesynth_api.v1alpha1.pipeline import Prompt, Prompts, Stage
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec

# The data of ConfigMaps by name, as far as the caller has read them.
ConfigMapData = Mapping[str, Mapping[str, str]]


@dataclasses.dataclass(frozen=True, slots=True)
class _Scope:
    """What the templates of a stage may use, and which of it one of them has to."""

    columns: Columns
    variables: frozenset[str] = frozenset()
    required: str | None = None


def check(spec: SyntheticDataJobSpec, config_maps: ConfigMapData) -> Iterator[Finding]:
    """Yield the findings of all stages, in order."""
    roles = [model.name for model in spec.models]
    seen: dict[str, int] = {}
    for index, (stage, available) in enumerate(
        zip(spec.pipeline, columns.at_each_stage(spec), strict=True)
    ):
        path = f"spec.pipeline[{index}]"
        stage_id = stage.effective_id(index)
        if stage_id in seen:
            yield invalid(f"{path}.id", f"{stage_id!r} is already the id of stage {seen[stage_id]}")
        seen.setdefault(stage_id, index)
        role = stage.member.model
        if role is not None and role not in roles:
            yield invalid(
                f"{path}.{stage.kind}.model",
                f"no model has the role {role!r}; spec.models has {', '.join(roles)}",
            )
        yield from _check_stage(stage, f"{path}.{stage.kind}", available, config_maps)
        if stage.member.reasoning_column is not None:
            yield from _reserved(
                f"{path}.{stage.kind}.reasoningColumn", stage.member.reasoning_column
            )


def _check_stage(
    stage: Stage, path: str, available: Columns, config_maps: ConfigMapData
) -> Iterator[Finding]:
    if stage.closed_qa is not None:
        scope = _Scope(available, frozenset({"document", "questions"}), required="document")
        yield from _replaced_prompts(stage.closed_qa.prompts, path, scope, config_maps)
    elif stage.answer is not None:
        answer = stage.answer
        if available.lacks(answer.question_column):
            yield invalid(
                f"{path}.questionColumn",
                f"records have no column {answer.question_column!r} at this stage, only "
                + _listed(available.known),
            )
        scope = _Scope(available, frozenset({"document", "question"}), required="question")
        yield from _replaced_prompts(answer.prompts, path, scope, config_maps)
        yield from _reserved(f"{path}.answerColumn", answer.answer_column)
    elif stage.prompt is not None:
        yield from _check_prompt(stage.prompt, path, available, config_maps)


def _check_prompt(
    prompt: Prompt, path: str, available: Columns, config_maps: ConfigMapData
) -> Iterator[Finding]:
    scope = _Scope(available)
    if prompt.system is not None:
        yield from _template(prompt.system, f"{path}.system", scope, config_maps)
    yield from _template(prompt.user, f"{path}.user", scope, config_maps)
    output = prompt.output
    schema_path = f"{path}.output.jsonSchema"
    if output.json_schema is None:
        if output.type == "JSON":
            yield invalid(schema_path, "is required with type JSON")
        yield from _reserved(f"{path}.output.column", output.column)
        return
    if output.type != "JSON":
        yield invalid(f"{path}.output.type", "must be JSON for a jsonSchema")
    for problem in json_schemas.problems(output.json_schema):
        yield invalid(schema_path, problem)
    properties = output.json_schema.get("properties")
    for name in properties if isinstance(properties, dict) else ():
        yield from _reserved(f"{schema_path}.properties.{name}", name)


def _reserved(path: str, column: str) -> Iterator[Finding]:
    if column in RESERVED_COLUMNS:
        yield invalid(path, f"the column name {column!r} is kubesynth's own; choose another")


def _replaced_prompts(
    prompts: Prompts, path: str, scope: _Scope, config_maps: ConfigMapData
) -> Iterator[Finding]:
    """Check prompts that stand in for the stage's own.

    The user prompt has to mention what the stage is about, unless the system prompt does, or is
    replaced by a text that is not known here.
    """
    mentioned: set[str] = set()
    all_known = True
    for name, prompt in (("system", prompts.system), ("user", prompts.user)):
        if prompt is None:
            continue
        yield from _template(prompt, f"{path}.prompts.{name}", scope, config_maps)
        template = _parsed(prompt, config_maps)
        if template is None:
            all_known = False
        else:
            mentioned |= template.mentioned
    if prompts.user is not None and all_known and scope.required not in mentioned:
        yield invalid(
            f"{path}.prompts.user",
            f"the prompt must use {{{{ {scope.required} }}}}, or every record gets the same one",
        )


def _template(
    prompt: PromptText, path: str, scope: _Scope, config_maps: ConfigMapData
) -> Iterator[Finding]:
    """Check a template as far as its text is known."""
    source = _text(prompt, config_maps)
    if source is None:
        return
    path = f"{path}.{'inline' if prompt.inline is not None else 'configMapKeyRef'}"
    try:
        template = templates.parse(source)
    except templates.TemplateProblem as problem:
        yield invalid(path, f"not a Jinja2 template: {problem}")
        return
    for name in sorted(template.needed - scope.variables):
        if scope.columns.lacks(name):
            yield invalid(
                path,
                f"unknown variable {name!r}; here are "
                + _listed(scope.columns.known | scope.variables),
            )


def _parsed(prompt: PromptText, config_maps: ConfigMapData) -> templates.Template | None:
    source = _text(prompt, config_maps)
    if source is None:
        return None
    try:
        return templates.parse(source)
    except templates.TemplateProblem:
        return None


def _text(prompt: PromptText, config_maps: ConfigMapData) -> str | None:
    reference = prompt.config_map_key_ref
    if reference is not None:
        return config_maps.get(reference.name, {}).get(reference.key)
    return prompt.inline


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))
