"""What is asked of models that answer with numbers (reward models)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kubesynth_api.choices import sampling_field
from kubesynth_api.findings import Finding, invalid
from kubesynth_api.v1alpha1.models import ModelSpec
from kubesynth_api.v1alpha1.stages.judgement import RewardMethod, reward_method
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec


def reward_methods(spec: SyntheticDataJobSpec) -> Mapping[str, RewardMethod]:
    """Return the roles of the models that are asked for numbers, and how."""
    return {role: method for _, _, role, method in _uses(spec) if method is not None}


def check(spec: SyntheticDataJobSpec) -> Iterator[Finding]:
    """Yield a finding for each use that a reward model, or what it is taken for, cannot serve."""
    models = {model.name: model for model in spec.models}
    methods = reward_methods(spec)
    for path, field, role, method in _uses(spec):
        known = methods.get(role)
        if method is None and known is not None:
            yield invalid(
                f"{path}.{field}",
                f"the model {role!r} is a reward model elsewhere (method {known}) and writes no "
                "text; name another",
            )
        elif method is not None and method != known:
            yield invalid(
                f"{path}.method",
                f"the model {role!r} is asked with method {known} elsewhere; give it a second name",
            )
        elif method is not None and role in models:
            yield from _check_model(f"{path}.{field}", models[role], method)
    if methods and spec.execution == "Batch":
        yield invalid("spec.execution", "Batch cannot ask reward models; remove it")
    yield from _check_sampling(spec)


def _check_model(path: str, model: ModelSpec, method: RewardMethod) -> Iterator[Finding]:
    if model.embedded is not None:
        yield invalid(path, f"{model.name!r} is embedded, and no reward model")
    if model.external is None:
        return
    if model.external.protocol == "Triton":
        yield invalid(
            path,
            f"{model.name!r} speaks Triton's protocol; method {method} needs protocol OpenAI",
        )
    if model.external.azure is not None and method != "Attributes":
        yield invalid(path, f"{model.name!r} is on Azure OpenAI, which has no such API")


def _check_sampling(spec: SyntheticDataJobSpec) -> Iterator[Finding]:
    for index, stage in enumerate(spec.pipeline):
        member = stage.member
        for field, sampling in member.samplings().items():
            if sampling is not None and reward_method(member, field) is not None:
                yield invalid(
                    f"spec.pipeline[{index}].{stage.kind}.{sampling_field(field)}",
                    "a reward model draws nothing; remove it",
                )


def _uses(spec: SyntheticDataJobSpec) -> Iterator[tuple[str, str, str, RewardMethod | None]]:
    """Yield path of the stage, role field, role, and how it is asked for numbers."""
    for index, stage in enumerate(spec.pipeline):
        for field, role in stage.member.roles().items():
            name = role or spec.models[0].name
            path = f"spec.pipeline[{index}].{stage.kind}"
            yield path, field, name, reward_method(stage.member, field)
