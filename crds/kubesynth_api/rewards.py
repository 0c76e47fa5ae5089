"""What is asked of models that answer with numbers (`method: Attributes`)."""

from __future__ import annotations

from collections.abc import Iterator

from kubesynth_api.choices import sampling_field
from kubesynth_api.findings import Finding, invalid
from kubesynth_api.v1alpha1.stages.judgement import is_reward_model
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec


def reward_roles(spec: SyntheticDataJobSpec) -> frozenset[str]:
    """Return the models that are asked for numbers."""
    return frozenset(role for _, _, role, is_reward in _uses(spec) if is_reward)


def check(spec: SyntheticDataJobSpec) -> Iterator[Finding]:
    """Yield a finding for each use that a reward model, or what it is taken for, cannot serve."""
    models = {model.name: model for model in spec.models}
    rewards = reward_roles(spec)
    for path, field, role, is_reward in _uses(spec):
        if not is_reward:
            if role in rewards:
                yield invalid(
                    f"{path}.{field}",
                    f"the model {role!r} is a reward model elsewhere (method Attributes) and "
                    "writes no text; name another",
                )
            continue
        model = models.get(role)
        if model is None:
            continue
        if model.embedded is not None:
            yield invalid(f"{path}.{field}", f"{role!r} is embedded, and no reward model")
        if model.external is not None and model.external.protocol == "Triton":
            yield invalid(
                f"{path}.{field}",
                f"{role!r} speaks Triton's protocol; method Attributes needs protocol OpenAI",
            )
    for index, stage in enumerate(spec.pipeline):
        member = stage.member
        for field, sampling in member.samplings().items():
            if sampling is not None and is_reward_model(member, field):
                yield invalid(
                    f"spec.pipeline[{index}].{stage.kind}.{sampling_field(field)}",
                    "a reward model draws nothing; remove it",
                )


def _uses(spec: SyntheticDataJobSpec) -> Iterator[tuple[str, str, str, bool]]:
    """Yield path of the stage, role field, role, and whether numbers are asked for."""
    for index, stage in enumerate(spec.pipeline):
        for field, role in stage.member.roles().items():
            name = role or spec.models[0].name
            path = f"spec.pipeline[{index}].{stage.kind}"
            yield path, field, name, is_reward_model(stage.member, field)
