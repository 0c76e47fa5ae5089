"""Scores of reward models, in the forms in which servers send them."""

from __future__ import annotations

import pytest

from kubesynth_runner.llm.base import Completion, Message, TokenLogprobs, TokenUsage
from kubesynth_runner.pipelines.base import StageFailure
from kubesynth_runner.pipelines.rewards import AttributeScorer, read
from kubesynth_runner.pipelines.scoring import Subject
from kubesynth_testing.scripted_llm import ScriptedLlm

FIVE = "helpfulness:1.6171875,correctness:1.6484375,coherence:3.3125,complexity:0.5,verbosity:0.5"
SUBJECT = Subject((Message("user", "Why?"),), "It rains.", None, {})


def answer(text: str, logprobs: dict[str, float] | None = None) -> Completion:
    tokens = TokenLogprobs(list(logprobs), list(logprobs.values())) if logprobs else None
    return Completion(text, "length", TokenUsage(), "fake", logprobs=tokens)


@pytest.mark.parametrize(
    ("completion", "scores"),
    [
        (answer("reward:-3.28125"), {"reward": -3.28125}),
        (
            answer(" helpfulness: 1.5 , correctness:-2e-1\n"),
            {"helpfulness": 1.5, "correctness": -0.2},
        ),
        (
            answer("", {"helpfulness": 1.6, "verbosity": 0.5}),
            {"helpfulness": 1.6, "verbosity": 0.5},
        ),
        (answer("reward:1.23456789", {"reward": 1.2346}), {"reward": 1.23456789}),
    ],
)
def test_both_forms_are_read(completion: Completion, scores: dict[str, float]) -> None:
    assert read(completion) == scores


@pytest.mark.parametrize(
    ("completion", "message"),
    [
        (answer("It is good."), "is it a reward model"),
        (answer("It is", {"It": -0.1, " is": -0.2}), "is it a reward model"),
        (answer("reward:high"), "is it a reward model"),
        (answer("reward:nan"), "the score reward is nan"),
        (answer("", {"reward": float("inf")}), "the score reward is inf"),
        (answer("reward:1,reward:2"), "two scores reward"),
        (answer("reward:"), "is it a reward model"),
    ],
)
def test_what_is_no_score_is_an_error(completion: Completion, message: str) -> None:
    with pytest.raises(StageFailure, match=message) as caught:
        read(completion)
    assert caught.value.kind == "UnusableScore"


@pytest.mark.parametrize(
    ("attribute", "text", "overall"),
    [(None, FIVE, 1.6171875), ("coherence", FIVE, 3.3125), (None, "reward:-3.2", -3.2)],
)
async def test_one_attribute_counts(attribute: str | None, text: str, overall: float) -> None:
    llm = ScriptedLlm([text])
    assert (await AttributeScorer(attribute).score(SUBJECT, llm)).overall == overall
    assert llm.asked == [(Message("user", "Why?"), Message("assistant", "It rains."))]
    assert llm.formats == [None]


@pytest.mark.parametrize(
    ("scorer", "text", "message"),
    [
        (AttributeScorer("truth"), FIVE, "no score truth; the reward model gives helpfulness, "),
        (AttributeScorer(None, ("verbosity",)), "reward:1", "no score verbosity"),
        (AttributeScorer(None), "quality:1,toxicity:0", "set attribute"),
    ],
)
async def test_missing_attributes_are_named(
    scorer: AttributeScorer, text: str, message: str
) -> None:
    with pytest.raises(StageFailure, match=message):
        await scorer.score(SUBJECT, ScriptedLlm([text]))
