"""`openQA`: questions on every topic there is, from nothing but a model."""

from __future__ import annotations

from kubesynth_api.v1alpha1.stages.generation import OpenQA
from kubesynth_runner.pipelines import listing, topic_trees
from kubesynth_runner.pipelines.base import Cost, Level, Step, Steps
from kubesynth_runner.pipelines.compiling import CompileContext
from kubesynth_runner.pipelines.listing import PASSAGE_TOKENS, QUESTION_TOKENS, ListStage
from kubesynth_runner.pipelines.structured import ListRequest


def compile_stage(spec: OpenQA, context: CompileContext) -> Steps:
    """Return the levels and steps of an `openQA`.

    Questions that must be distinct over the whole run are made in plan, where all are seen;
    otherwise every shard makes those of its topics.
    """
    prompts = spec.prompts
    levels: list[Level] = [
        *topic_trees.levels(
            spec,
            context.prompt(prompts.macro_topics, "open_qa_macro_topics.v1"),
            context.prompt(prompts.subtopics, "open_qa_subtopics.v1"),
        )
    ]
    ask = ListStage(
        context.prompt(prompts.questions, "open_qa_questions.v1"),
        "question",
        ListRequest("questions", spec.questions, spec.on_short_list),
    )
    steps = [Step(ask, "questions", cost=listing.cost(spec.questions, QUESTION_TOKENS))]
    if spec.distinct:
        topics = topic_trees.topic_count(spec)
        levels.append(
            Level(
                steps.pop(),
                topic_trees.distinct_outputs("question"),
                Cost(topics, topics * spec.questions),
            )
        )
    if spec.revisions:
        revise = ListStage(
            context.prompt(prompts.revisions, "open_qa_revisions.v1"),
            "question",
            ListRequest("revisions", spec.revisions, spec.on_short_list),
            renamed={"original_question": "question"},
            keeps_original=spec.keep_originals,
        )
        cost = listing.cost(spec.revisions, PASSAGE_TOKENS, kept=spec.keep_originals)
        steps.append(Step(revise, "revisions", cost=cost))
    return Steps(tuple(steps), tuple(levels))
