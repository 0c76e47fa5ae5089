"""Problems of single stages: their model, their columns, their templates, their JSON schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kubesynth_api import columns, json_schemas, templates
from kubesynth_api.columns import RESERVED_COLUMNS, Columns
from kubesynth_api.findings import Finding, invalid
from kubesynth_api.meta import PromptText
from kubesynth_api.v1alpha1.pipeline import INPUT_PLACE, OUTPUT_PLACE
from kubesynth_api.v1alpha1.stages.base import LlmStage, PromptSlot, StageSpec
from kubesynth_api.v1alpha1.stages.records import Filter, Prompt
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec

# The data of ConfigMaps by name, as far as the caller has read them.
ConfigMapData = Mapping[str, Mapping[str, str]]


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
        if stage_id in (INPUT_PLACE, OUTPUT_PLACE):
            yield invalid(
                f"{path}.id", f"{stage_id!r} is what errors/ calls what is no stage; use another id"
            )
        if stage.when is not None:
            if stage.member.starts_from_nothing:
                yield invalid(f"{path}.when", "there are no records yet; leave it out")
            else:
                yield from _expression(stage.when, f"{path}.when", available)
        member_path = f"{path}.{stage.kind}"
        yield from _roles(stage.member, member_path, roles)
        yield from _check_stage(stage.member, member_path, available, config_maps)


def _roles(member: StageSpec, path: str, roles: list[str]) -> Iterator[Finding]:
    for field, role in member.roles().items():
        if role is not None and role not in roles:
            yield invalid(
                f"{path}.{field}",
                f"no model has the role {role!r}; spec.models has {', '.join(roles)}",
            )


def _check_stage(
    member: StageSpec, path: str, available: Columns, config_maps: ConfigMapData
) -> Iterator[Finding]:
    for field, column in member.needs().items():
        if available.lacks(column):
            yield invalid(
                f"{path}.{field}",
                f"records have no column {column!r} at this stage, only "
                + _listed(available.known),
            )
    for field, column in member.adds().items():
        yield from _reserved(f"{path}.{field}" if field else path, column)
    if isinstance(member, LlmStage) and member.reasoning_column is not None:
        yield from _reserved(f"{path}.reasoningColumn", member.reasoning_column)
    for slot in member.slots():
        yield from _replaced_prompts(slot, path, available, config_maps)
    if isinstance(member, Prompt):
        yield from _check_prompt(member, path, available, config_maps)
    elif isinstance(member, Filter):
        yield from _expression(member.where, f"{path}.where", available)


def _expression(source: str, path: str, available: Columns) -> Iterator[Finding]:
    try:
        expression = templates.parse_expression(source)
    except templates.TemplateProblem as problem:
        yield invalid(path, f"not a Jinja2 expression: {problem}")
        return
    yield from _unknown(expression, path, available, frozenset())


def _check_prompt(
    prompt: Prompt, path: str, available: Columns, config_maps: ConfigMapData
) -> Iterator[Finding]:
    if prompt.system is not None:
        yield from _template(prompt.system, f"{path}.system", available, config_maps)
    yield from _template(prompt.user, f"{path}.user", available, config_maps)
    output = prompt.output
    schema_path = f"{path}.output.jsonSchema"
    if output.json_schema is None:
        if output.type == "JSON":
            yield invalid(schema_path, "is required with type JSON")
        return
    if output.type != "JSON":
        yield invalid(f"{path}.output.type", "must be JSON for a jsonSchema")
    for problem in json_schemas.problems(output.json_schema):
        yield invalid(schema_path, problem)


def _reserved(path: str, column: str) -> Iterator[Finding]:
    if column in RESERVED_COLUMNS:
        yield invalid(path, f"the column name {column!r} is kubesynth's own; choose another")


def _replaced_prompts(
    slot: PromptSlot, path: str, available: Columns, config_maps: ConfigMapData
) -> Iterator[Finding]:
    """Check prompts that stand in for the stage's own.

    The user prompt has to mention what the stage is about, unless the system prompt does, or is
    replaced by a text that is not known here.
    """
    prompts, path = slot.prompts, f"{path}.{slot.path}"
    if not slot.sees_record:
        available = Columns(frozenset(), closed=True)
    mentioned: set[str] = set()
    all_known = True
    for name, prompt in (("system", prompts.system), ("user", prompts.user)):
        if prompt is None:
            continue
        yield from _template(prompt, f"{path}.{name}", available, config_maps, slot.variables)
        template = _parsed(prompt, config_maps)
        if template is None:
            all_known = False
        else:
            mentioned |= template.mentioned
    is_missing = slot.required is not None and slot.required not in mentioned
    if prompts.user is not None and all_known and is_missing:
        yield invalid(
            f"{path}.user",
            f"the prompt must use {{{{ {slot.required} }}}}, or every record gets the same one",
        )


def _template(
    prompt: PromptText,
    path: str,
    available: Columns,
    config_maps: ConfigMapData,
    variables: frozenset[str] = frozenset(),
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
    yield from _unknown(template, path, available, variables)


def _unknown(
    template: templates.Template, path: str, available: Columns, variables: frozenset[str]
) -> Iterator[Finding]:
    for name in sorted(template.needed - variables):
        if available.lacks(name):
            yield invalid(
                path, f"unknown variable {name!r}; here are " + _listed(available.known | variables)
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
