"""The scorer of each `method`, and what its calls are drawn with and cost."""

from __future__ import annotations

from typing import assert_never

from kubesynth_api.v1alpha1.sampling import SamplingParameters
from kubesynth_api.v1alpha1.stages.base import Prompts
from kubesynth_api.v1alpha1.stages.judgement import Method, PreferencePairs, Score
from kubesynth_runner.pipelines.base import Cost
from kubesynth_runner.pipelines.compiling import CompileContext
from kubesynth_runner.pipelines.rewards import AttributeScorer
from kubesynth_runner.pipelines.scoring import JudgeScorer, Scorer


def scorer(spec: Score | PreferencePairs, prompts: Prompts, context: CompileContext) -> Scorer:
    """Return the scorer that a stage asks for."""
    match spec.method:
        case "Judge":
            return JudgeScorer(context.prompt(prompts, "score.v1"), spec.rubric)
        case "Attributes" | "Score" | "Pooling" | "Classify":
            required = spec.attributes if isinstance(spec, Score) else ()
            return AttributeScorer(spec.attribute, required)
        case unreachable:
            assert_never(unreachable)


def sampling(method: Method) -> SamplingParameters:
    """Return how scores are drawn: a judge's likeliest, a reward model's not at all."""
    return SamplingParameters(temperature=0.0) if method == "Judge" else SamplingParameters()


def cost(method: Method, calls: int = 1) -> Cost:
    """Return what `calls` scores of one record take."""
    if method == "Judge":
        # The rubric and the answer are in the prompt; reasons and numbers come back.
        return Cost(calls=calls, completion_tokens=120, history_tokens=400)
    return Cost(calls=calls, completion_tokens=1, history_tokens=200)
