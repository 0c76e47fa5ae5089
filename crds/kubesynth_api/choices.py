"""What several completions per prompt (`sampling.choices`) and log probabilities ask of a stage."""

from __future__ import annotations

from collections.abc import Iterator

from kubesynth_api.findings import Finding, invalid
from kubesynth_api.v1alpha1.sampling import SamplingParameters
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec


def check(spec: SyntheticDataJobSpec) -> Iterator[Finding]:
    """Yield a finding for each stage whose sampling, or its model's, it cannot do with."""
    models = {model.name: model for model in spec.models}
    for index, stage in enumerate(spec.pipeline):
        said = stage.member.samplings()
        for place, (field, role) in enumerate(stage.member.roles().items()):
            model = models.get(role or spec.models[0].name)
            own = said.get(field)
            sampling = (own or SamplingParameters()).over(model.sampling if model else None)
            path = f"spec.pipeline[{index}].{stage.kind}.{sampling_field(field)}"
            takes_choices = stage.member.takes_choices() and place == 0
            if (sampling.n or 1) > 1 and not takes_choices:
                is_own = own is not None and own.n is not None
                yield invalid(
                    f"{path}.choices",
                    f"must be 1 here (it is {sampling.n}"
                    + ("" if is_own else ", from the model's sampling")
                    + "): only stages whose first completion is one value make a record of each "
                    "completion; for longer lists ask for more items",
                )
            if sampling.top_logprobs and not sampling.logprobs:
                yield invalid(f"{path}.topLogprobs", "needs logprobs: true")


def sampling_field(role_field: str) -> str:
    """Return the field beside a role's: sampling beside model, judgeSampling beside judgeModel."""
    stem = role_field.removesuffix("Model")
    return "sampling" if stem in ("model", "") else f"{stem}Sampling"
