"""What several completions per prompt (`sampling.n`) and log probabilities ask of a stage."""

from __future__ import annotations

from collections.abc import Iterator

from kubesynth_api.findings import Finding, invalid
from kubesynth_api.v1alpha1.pipeline import Stage
from kubesynth_api.v1alpha1.sampling import SamplingParameters
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec


def take_choices(stage: Stage) -> bool:
    """Tell whether each completion of a stage's prompt makes a record of its own.

    Not where a completion is a list: there a number of items is asked for, and several lists would
    mostly repeat each other.
    """
    if stage.prompt is not None:
        return stage.prompt.output.type != "List"
    return stage.answer is not None


def check(spec: SyntheticDataJobSpec) -> Iterator[Finding]:
    """Yield a finding for each stage whose sampling, or its model's, it cannot do with."""
    roles = {model.name: model for model in spec.models}
    for index, stage in enumerate(spec.pipeline):
        own = stage.member.sampling
        model = roles.get(stage.member.model or spec.models[0].name)
        inherited = model.sampling if model is not None else None
        sampling = (own or SamplingParameters()).over(inherited)
        path = f"spec.pipeline[{index}].{stage.kind}"
        if (sampling.n or 1) > 1 and not take_choices(stage):
            yield invalid(
                f"{path}.sampling.n",
                f"must be 1 here (it is {sampling.n}"
                + ("" if own is not None and own.n is not None else ", from the model's sampling")
                + "): only answer, and prompt with output Text or JSON, make a record of each "
                "completion; for longer lists ask for more items",
            )
        if sampling.top_logprobs and not sampling.logprobs:
            yield invalid(f"{path}.sampling.topLogprobs", "needs logprobs: true")
