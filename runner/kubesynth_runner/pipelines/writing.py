"""`writing`: writing tasks for pairs of a topic and a kind of text, and harder versions of them."""

from __future__ import annotations

from kubesynth_api.v1alpha1.stages.generation import Writing
from kubesynth_runner.pipelines import drawing, listing, lists, topic_trees
from kubesynth_runner.pipelines.base import Cost, Level, Step, Steps
from kubesynth_runner.pipelines.compiling import CompileContext
from kubesynth_runner.pipelines.listing import PASSAGE_TOKENS, QUESTION_TOKENS, ListStage
from kubesynth_runner.pipelines.structured import ListRequest


def compile_stage(spec: Writing, context: CompileContext) -> Steps:
    """Return the levels and steps of a `writing`; the pairs are made without a model."""
    pairs = [
        {"topic": topic, "material": material}
        for topic in lists.distinct(spec.topics)
        for material in lists.distinct(spec.materials)
    ]
    levels = [drawing.level("pairs", {"topic": "string", "material": "string"}, pairs)]
    ask = ListStage(
        context.prompt(spec.prompts.tasks, "writing_tasks.v1"),
        "question",
        ListRequest("tasks", spec.tasks, spec.on_short_list),
    )
    steps = [Step(ask, "tasks", cost=listing.cost(spec.tasks, QUESTION_TOKENS))]
    if spec.distinct:
        cost = Cost(len(pairs), len(pairs) * spec.tasks)
        levels.append(Level(steps.pop(), topic_trees.distinct_outputs("question"), cost))
    if spec.revisions:
        revise = ListStage(
            context.prompt(spec.prompts.revisions, "writing_revisions.v1"),
            "question",
            ListRequest("revisions", spec.revisions, spec.on_short_list),
            renamed={"original_question": "question"},
            keeps_original=spec.keep_originals,
        )
        harder = listing.cost(spec.revisions, PASSAGE_TOKENS, kept=spec.keep_originals)
        steps.append(Step(revise, "revisions", cost=harder))
    return Steps(tuple(steps), tuple(levels))
