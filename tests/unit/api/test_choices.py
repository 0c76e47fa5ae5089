"""Sampling that a stage can do nothing with is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from kubesynth_api import validation
from kubesynth_api.conditions import Reason
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_testing.manifests import SMALL, edited

_QA = "spec.pipeline[0].closedQA"
_ANSWER = "spec.pipeline[1].answer"


@pytest.mark.parametrize(
    ("edits", "path", "text"),
    [
        pytest.param(
            {f"{_QA}.sampling": {"choices": 2}},
            f"{_QA}.sampling.choices",
            "must be 1 here (it is 2): only stages",
            id="list",
        ),
        pytest.param(
            {"spec.models[0].sampling": {"choices": 3}},
            f"{_QA}.sampling.choices",
            "it is 3, from the model's sampling",
            id="list-by-the-model",
        ),
        pytest.param(
            {
                "spec.pipeline[0]": {
                    "prompt": {
                        "user": {"inline": "hi"},
                        "sampling": {"choices": 2},
                        "output": {"type": "List"},
                    }
                },
                "spec.pipeline[1].answer.questionColumn": "output",
            },
            "spec.pipeline[0].prompt.sampling.choices",
            "ask for more items",
            id="list-of-a-prompt",
        ),
        pytest.param(
            {f"{_ANSWER}.sampling": {"topLogprobs": 1}},
            f"{_ANSWER}.sampling.topLogprobs",
            "needs logprobs",
            id="top-logprobs-alone",
        ),
        pytest.param(
            {f"{_ANSWER}.reasoningColumn": "source"},
            f"{_ANSWER}.reasoningColumn",
            "kubesynth's own",
            id="reserved-reasoning-column",
        ),
    ],
)
def test_sampling_without_meaning_is_refused(edits: dict[str, Any], path: str, text: str) -> None:
    spec = SyntheticDataJobSpec.model_validate(edited(SMALL, edits)["spec"])
    (finding,) = validation.check(spec, "job")
    assert (finding.path, finding.reason) == (path, Reason.INVALID_SPEC)
    assert text in finding.message


@pytest.mark.parametrize(
    "edits",
    [
        {f"{_ANSWER}.sampling": {"choices": 4, "logprobs": True, "topLogprobs": 5}},
        {"spec.models[0].sampling": {"choices": 4}, f"{_QA}.sampling": {"choices": 1}},
        {"spec.models[0].sampling": {"logprobs": True}, f"{_QA}.sampling": {"topLogprobs": 2}},
        {f"{_ANSWER}.reasoningColumn": "thoughts"},
    ],
)
def test_sampling_with_a_meaning_is_accepted(edits: dict[str, Any]) -> None:
    spec = SyntheticDataJobSpec.model_validate(edited(SMALL, edits)["spec"])
    assert validation.check(spec, "job") == []
