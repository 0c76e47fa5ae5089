"""What is refused of a job with reward models."""

from __future__ import annotations

from typing import Any

import pytest

from kubesynth_api.rewards import reward_methods
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_api.validation import check


def a_spec(stage: dict[str, Any], reward: dict[str, Any] | None = None) -> SyntheticDataJobSpec:
    url = {"url": "http://llm:8000/v1", "model": "m"}
    wire = {
        "models": [
            {"name": "chat", "external": url},
            {"name": "reward", **(reward or {"external": url})},
        ],
        "input": {"uri": "pvc://in/a.jsonl", "textColumn": "question"},
        "pipeline": [{"answer": {"model": "chat"}}, stage],
        "output": {"uri": "pvc://out/a"},
    }
    return SyntheticDataJobSpec.from_wire(wire)


def score(**fields: Any) -> dict[str, Any]:
    return {"score": {"method": "Attributes", "model": "reward", **fields}}


def pairs(**fields: Any) -> dict[str, Any]:
    return {"preferencePairs": {"method": "Attributes", "judgeModel": "reward", **fields}}


@pytest.mark.parametrize(
    "stage",
    [
        score(attribute="reward", attributes=["reward"]),
        score(useDocument=False),
        pairs(),
        pairs(useDocument=True),  # the model that answers sees it
    ],
)
def test_reward_model_is_accepted(stage: dict[str, Any]) -> None:
    spec = a_spec(stage)
    assert check(spec, "job") == []
    assert reward_methods(spec) == {"reward": "Attributes"}


@pytest.mark.parametrize("method", ["Score", "Pooling", "Classify"])
def test_scores_of_other_apis_are_accepted(method: str) -> None:
    spec = a_spec(score(method=method))
    assert check(spec, "job") == []
    assert reward_methods(spec) == {"reward": method}


def test_one_model_is_asked_in_one_way() -> None:
    wire = a_spec(score()).to_wire()
    wire["pipeline"].append({"score": {"method": "Score", "model": "reward", "scoresColumn": "b"}})
    found = check(SyntheticDataJobSpec.from_wire(wire), "job")
    assert "spec.pipeline[1].score.method" in [finding.path for finding in found]


def test_batches_ask_no_reward_model() -> None:
    spec = SyntheticDataJobSpec.from_wire({**a_spec(score()).to_wire(), "execution": "Batch"})
    assert [finding.path for finding in check(spec, "job")] == ["spec.execution"]


CRITERIA = [{"name": "truth", "description": "Is it true?"}]
PROMPT = {"user": {"inline": "{{ answer }}"}}


@pytest.mark.parametrize(
    ("stage", "field"),
    [
        (score(criteria=CRITERIA), "score.criteria"),
        (score(prompts=PROMPT), "score.prompts"),
        (score(criterionColumns=True), "score.criterionColumns"),
        (score(explanationColumn="why"), "score.explanationColumn"),
        (score(useDocument=True), "score.useDocument"),
        (score(method="Score", useDocument=True), "score.useDocument"),
        (score(sampling={"temperature": 0.5}), "score.sampling"),
        (score(model="chat"), "answer.model"),
        (score(method="Judge", attribute="reward"), "score.attribute"),
        (score(method="Score", attribute="reward"), "score.attribute"),
        (score(method="Pooling", attributes=["reward"]), "score.attributes"),
        (score(method="Classify", criteria=CRITERIA), "score.criteria"),
        (pairs(method="Score", criteria=CRITERIA), "preferencePairs.criteria"),
        ({"preferencePairs": {"method": "Pooling"}}, "preferencePairs.judgeModel"),
        (score(method="Judge", attributes=["reward"]), "score.attributes"),
        (pairs(criteria=CRITERIA), "preferencePairs.criteria"),
        (pairs(prompts={"judge": PROMPT}), "preferencePairs.prompts.judge"),
        (pairs(judgeSampling={"temperature": 0.5}), "preferencePairs.judgeSampling"),
        (pairs(model="reward"), "preferencePairs.model"),
        ({"preferencePairs": {"method": "Attributes"}}, "preferencePairs.judgeModel"),
        (pairs(method="Judge", minMargin=2.0), "preferencePairs.minMargin"),
        (pairs(method="Judge", minChosenScore=-1.0), "preferencePairs.minChosenScore"),
    ],
)
def test_what_does_not_fit_the_method_is_refused(stage: dict[str, Any], field: str) -> None:
    assert any(found.path.endswith(field) for found in check(a_spec(stage), "job"))


@pytest.mark.parametrize(
    "server",
    [
        {"embedded": {}},
        {"external": {"url": "grpc://triton:8001", "model": "m", "protocol": "Triton"}},
    ],
)
def test_only_openai_servers_give_rewards(server: dict[str, Any]) -> None:
    found = check(a_spec(score(), server), "job")
    assert [finding.path for finding in found] == ["spec.pipeline[1].score.model"]
