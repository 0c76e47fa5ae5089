"""How the answers of the document stages become results: texts, facts, questions with answers."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence
from typing import Protocol

from kubesynth_api.v1alpha1.stages.rewriting import DiverseQA, DocumentTask, KnowledgeList
from kubesynth_runner.llm.base import Completion
from kubesynth_runner.pipelines import base, conversation, lists, pairs, tidying, tokens
from kubesynth_runner.pipelines.base import accept_text

_TOKENS_PER_DRAW = 150


class Reading(Protocol):
    """How an answer becomes results, and results rows or one text.

    An answer of which nothing can be read is asked for again with the prompt `repair`, if there is
    one.
    """

    @property
    def repair(self) -> str | None:
        """The name of the prompt."""
        ...

    @property
    def wanted(self) -> str:
        """What an answer is to have, in words."""
        ...

    def variables(self) -> Mapping[str, object]:
        """Return what the prompt sees beside the record and the document."""
        ...

    def results(
        self, completion: Completion, segment: str, draw: random.Random
    ) -> list[tuple[str, ...]]:
        """Return the results in an answer; each has one value for each column.

        Raises:
            StageFailure: the model refused or said nothing.
        """
        ...

    def text(self, results: Sequence[tuple[str, ...]]) -> str:
        """Return all results as one text."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class TextReading:
    """The answer is the text."""

    markdown: bool
    repair: str | None = None
    wanted: str = "text"

    def variables(self) -> Mapping[str, object]:
        """Return nothing."""
        return {}

    def results(
        self, completion: Completion, segment: str, draw: random.Random
    ) -> list[tuple[str, ...]]:
        """Return the tidied answer; none if it is cut off."""
        text = tidying.tidy(accept_text(completion), markdown=self.markdown)
        return [] if base.is_cut_off(completion) or not text else [(text,)]

    def text(self, results: Sequence[tuple[str, ...]]) -> str:
        """Return the texts below each other."""
        return "\n".join(text for (text,) in results)


@dataclasses.dataclass(frozen=True, slots=True)
class FactsReading:
    """The answer is a list of facts."""

    markdown: bool
    repair: str | None = "list_repair.v1.user"
    wanted: str = "facts"

    def variables(self) -> Mapping[str, object]:
        """Return nothing."""
        return {}

    def results(
        self, completion: Completion, segment: str, draw: random.Random
    ) -> list[tuple[str, ...]]:
        """Return the facts; the last one of an answer that is cut off is not whole."""
        text = accept_text(completion)
        facts = lists.parse(text, item_name=self.wanted, form="Leaves")
        if not facts and not conversation.is_refusal(text):
            facts = lists.parse(text, 1)  # one sentence alone is a fact
        if base.is_cut_off(completion):
            facts = facts[:-1]
        if self.markdown:
            facts = [tidying.without_markdown(fact).strip() for fact in facts]
        return [(fact,) for fact in lists.distinct(facts) if fact]

    def text(self, results: Sequence[tuple[str, ...]]) -> str:
        """Return the facts, each once, one a line."""
        return "\n".join(lists.distinct(fact for (fact,) in results))


@dataclasses.dataclass(frozen=True, slots=True)
class PairsReading:
    """The answer is a list of questions with answers."""

    spec: DiverseQA
    count: tokens.Count
    repair: str | None = "pairs_repair.v1.user"
    wanted: str = "questions with answers"

    def variables(self) -> Mapping[str, object]:
        """Return how many pairs are wanted."""
        return {"pairs": self.spec.pairs}

    def results(
        self, completion: Completion, segment: str, draw: random.Random
    ) -> list[tuple[str, ...]]:
        """Return the pairs to keep; the last one of an answer that is cut off is not whole."""
        found = pairs.parse(accept_text(completion), is_cut_off=base.is_cut_off(completion))
        if self.spec.clean_markdown:
            clean = tidying.without_markdown
            found = [(clean(question), clean(answer)) for question, answer in found]
        if self.spec.keep == "All":
            return list(found[: self.spec.pairs])
        most = self.spec.max_pairs * self.count(segment) // _TOKENS_PER_DRAW
        draw.shuffle(found)
        return list(found[: draw.randint(1, max(1, most))])

    def text(self, results: Sequence[tuple[str, ...]]) -> str:
        """Return the pairs with labels, a blank line between them."""
        return "\n\n".join(
            f"Question: {question}\nAnswer: {answer}" for question, answer in results
        )


def of(spec: DocumentTask, count: tokens.Count) -> Reading:
    """Return how a stage's answers are read; `count` counts tokens."""
    match spec:
        case DiverseQA():
            return PairsReading(spec, count)
        case KnowledgeList():
            return FactsReading(spec.clean_markdown)
    return TextReading(spec.clean_markdown)
