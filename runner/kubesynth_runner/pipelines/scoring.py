"""Scores: what is judged, what comes out, and the ways to get one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from kubesynth_api.v1alpha1.stages.judgement import Criterion
from kubesynth_runner import records
from kubesynth_runner.llm.base import Message
from kubesynth_runner.pipelines import conversation, structured
from kubesynth_runner.pipelines.base import StageLlm
from kubesynth_runner.pipelines.templates import PromptTemplate


@dataclasses.dataclass(frozen=True, slots=True)
class Subject:
    """What is judged: the `answer` to the last message of `asked`; `columns` are the record's."""

    asked: tuple[Message, ...]
    answer: str
    document: str | None
    columns: records.Columns


@dataclasses.dataclass(frozen=True, slots=True)
class Scores:
    """Scores by name, and the overall one: their weighted mean, each scale being 0 to 1."""

    by_name: Mapping[str, float]
    overall: float
    explanation: str | None = None


class Scorer(Protocol):
    """A way to score. One per `method`."""

    async def score(self, subject: Subject, llm: StageLlm) -> Scores:
        """Ask for the scores of one answer.

        Raises:
            StageFailure: the model gave none that can be used.
        """
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class JudgeScorer:
    """Asks a chat model for reasons, then for a score by each criterion."""

    prompt: PromptTemplate
    criteria: tuple[Criterion, ...]

    async def score(self, subject: Subject, llm: StageLlm) -> Scores:
        """Ask the judge."""
        messages = self.prompt.render(
            {
                **subject.columns,
                "conversation": conversation.render(subject.asked),
                "answer": subject.answer,
                "document": subject.document,
                "criteria": [criterion.model_dump() for criterion in self.criteria],
            }
        )
        wanted = schema(self.criteria)
        value = await structured.ask_json(llm, messages, wanted, bounds_are_told=True)
        found = value["scores"]
        by_name = {criterion.name: found[criterion.name] for criterion in self.criteria}
        return Scores(by_name, overall(by_name, self.criteria), value["explanation"].strip())


def schema(criteria: Sequence[Criterion]) -> dict[str, Any]:
    """Return the JSON schema of a judgement. Reasons come first: scores follow from them."""
    scales = {
        criterion.name: {"type": "integer", "minimum": criterion.min, "maximum": criterion.max}
        for criterion in criteria
    }
    scores = {
        "type": "object",
        "properties": scales,
        "required": list(scales),
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"explanation": {"type": "string"}, "scores": scores},
        "required": ["explanation", "scores"],
        "additionalProperties": False,
    }


def overall(by_name: Mapping[str, float], criteria: Sequence[Criterion]) -> float:
    """Return the weighted mean, 0 to 1; where no criterion has a weight, all have the same."""
    weights = {criterion.name: criterion.weight for criterion in criteria}
    if not any(weights.values()):
        weights = dict.fromkeys(weights, 1.0)
    total = sum(weights[c.name] * (by_name[c.name] - c.min) / (c.max - c.min) for c in criteria)
    return total / sum(weights.values())
