"""`math` and `coding`: problems on the topics of a field, from nothing but a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubesynth_api.v1alpha1.stages.generation import Coding, Math, ProblemTree
from kubesynth_runner.pipelines import listing, topic_trees
from kubesynth_runner.pipelines.base import Cost, Level, Step, Steps
from kubesynth_runner.pipelines.compiling import CompileContext
from kubesynth_runner.pipelines.listing import PASSAGE_TOKENS, ListStage
from kubesynth_runner.pipelines.structured import ListRequest

_PROBLEMS = {"math": "math_problems.v1", "coding": "coding_problems.v2"}


def compile_math(spec: Math, context: CompileContext) -> Steps:
    """Return the levels and steps of a `math`."""
    return _compile(spec, context, "math", {"school_level": spec.school_level, "level": spec.level})


def compile_coding(spec: Coding, context: CompileContext) -> Steps:
    """Return the levels and steps of a `coding`."""
    return _compile(spec, context, "coding", {"language": spec.language, "level": spec.level})


def _compile(
    spec: ProblemTree, context: CompileContext, name: str, variables: Mapping[str, Any]
) -> Steps:
    prompts = spec.prompts
    levels: list[Level] = [
        *topic_trees.levels(
            spec,
            context.prompt(prompts.macro_topics, f"{name}_macro_topics.v1"),
            context.prompt(prompts.subtopics, f"{name}_subtopics.v1"),
            variables,
        )
    ]
    ask = ListStage(
        context.prompt(prompts.problems, _PROBLEMS[name]),
        "question",
        ListRequest("problems", spec.problems, spec.on_short_list),
        variables,
    )
    step = Step(ask, "problems", cost=listing.cost(spec.problems, PASSAGE_TOKENS))
    if not spec.distinct:
        return Steps((step,), tuple(levels))
    topics = topic_trees.topic_count(spec)
    cost = Cost(topics, topics * spec.problems)
    levels.append(Level(step, topic_trees.distinct_outputs("question"), cost))
    return Steps((), tuple(levels))
