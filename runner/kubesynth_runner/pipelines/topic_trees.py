"""Macro topics and subtopics: what the stages that start from nothing have in common. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from kubesynth_api.v1alpha1.stages.generation import TopicTree
from kubesynth_runner import records
from kubesynth_runner.pipelines import listing, lists
from kubesynth_runner.pipelines.base import Cost, Level, Step
from kubesynth_runner.pipelines.listing import TOPIC_TOKENS, ListStage
from kubesynth_runner.pipelines.structured import ListRequest
from kubesynth_runner.pipelines.templates import PromptTemplate

# Ordinals of what the user adds to what a model made: far beyond the longest list.
_OWN_FROM = 1_000_000
_OWN_TOPICS_FROM = 2_000_000
MACRO_TOPIC = "macro_topic"
TOPIC = "topic"


def levels(
    tree: TopicTree,
    macro_prompt: PromptTemplate,
    subtopic_prompt: PromptTemplate,
    variables: Mapping[str, Any] | None = None,
) -> tuple[Level, Level]:
    """Return the two levels that make topics: macro topics, then the subtopics of each.

    The prompts see `variables`, too.
    """
    keep = distinct if tree.distinct else keep_all
    seen = variables or {}
    macro = ListStage(
        macro_prompt,
        MACRO_TOPIC,
        ListRequest("topics", tree.macro_topics, tree.on_short_list, form="Titles"),
        seen,
    )
    sub = ListStage(
        subtopic_prompt,
        TOPIC,
        ListRequest("subtopics", tree.subtopics, tree.on_short_list, form="Titles"),
        seen,
        is_optional=True,
    )

    def merge_macro(
        inputs: Sequence[records.Record], outputs: Sequence[records.Record]
    ) -> list[records.Record]:
        (origin,) = inputs
        own = _children(origin, MACRO_TOPIC, tree.additional_topics)
        topics = _children(origin, TOPIC, tree.additional_subtopics, macro_topic=None)
        return [*keep([*outputs, *own], MACRO_TOPIC), *topics]

    def merge_topics(
        inputs: Sequence[records.Record], outputs: Sequence[records.Record]
    ) -> list[records.Record]:
        own = [record for record in inputs if TOPIC in record.columns]
        macro_topics = [record for record in inputs if TOPIC not in record.columns]
        combined = [_as_topic(record) for record in macro_topics] if tree.combine_topics else []
        return keep([*outputs, *own, *combined], TOPIC)

    macros = tree.macro_topics + len(tree.additional_topics)
    own = len(tree.additional_subtopics)
    return (
        Level(
            Step(macro, "macro-topics", cost=listing.cost(tree.macro_topics, TOPIC_TOKENS)),
            merge_macro,
            Cost(1 if tree.macro_topics else 0, macros + own),
        ),
        Level(
            Step(sub, "subtopics", cost=listing.cost(tree.subtopics, TOPIC_TOKENS)),
            merge_topics,
            Cost(macros if tree.subtopics else 0, topic_count(tree)),
        ),
    )


def topic_count(tree: TopicTree) -> int:
    """Return how many topics there are if every list is as long as asked and nothing repeats."""
    macros = tree.macro_topics + len(tree.additional_topics)
    combined = macros if tree.combine_topics else 0
    return macros * tree.subtopics + len(tree.additional_subtopics) + combined


def _children(
    parent: records.Record, column: str, values: Iterable[str], **more: str | None
) -> list[records.Record]:
    first = _OWN_TOPICS_FROM if column == TOPIC else _OWN_FROM
    return [
        parent.child(-1, place, {**more, column: value}, ())
        for place, value in enumerate(values, first)
    ]


def _as_topic(macro_topic: records.Record) -> records.Record:
    columns = {TOPIC: macro_topic.columns[MACRO_TOPIC]}
    return macro_topic.child(-1, _OWN_FROM, columns, ())


def distinct(made: Iterable[records.Record], column: str) -> list[records.Record]:
    """Return the records without later ones whose column differs only in case or white space."""
    seen: dict[str, records.Record] = {}
    for record in made:
        seen.setdefault(lists.fold(str(record.columns.get(column))), record)
    return list(seen.values())


def keep_all(made: Iterable[records.Record], column: str) -> list[records.Record]:
    """Return the records as they are."""
    return list(made)


def distinct_outputs(column: str) -> Callable[..., list[records.Record]]:
    """Return the merge that goes on with what came out, without repetitions in a column."""

    def merge(
        inputs: Sequence[records.Record], outputs: Sequence[records.Record]
    ) -> list[records.Record]:
        return distinct(outputs, column)

    return merge
