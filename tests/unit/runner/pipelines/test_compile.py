from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubesynth_api.meta import PromptText
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_runner import errors
from kubesynth_runner.io.plan_file import ColumnType
from kubesynth_runner.pipelines import compile as pipelines
from kubesynth_runner.pipelines import structured
from kubesynth_testing import runs


def spec(tmp_path: Path, **fields: Any) -> SyntheticDataJobSpec:
    return runs.a_run(tmp_path, **fields).spec


def compiled(
    job: SyntheticDataJobSpec, types: dict[str, ColumnType] | None = None
) -> pipelines.CompiledPipeline:
    def read(prompt: PromptText) -> str:
        return prompt.inline or ""

    return pipelines.compile_pipeline(job, read, types or {})


def test_columns_are_text_carried_ones_and_those_of_the_stages(tmp_path: Path) -> None:
    pipeline = compiled(spec(tmp_path), {"lang": "string", "year": "integer"})
    assert list(pipeline.columns) == ["text", "lang", "year", "question", "answer"]


def test_stages_use_their_own_model_and_sampling_over_its_defaults(tmp_path: Path) -> None:
    models = [
        {
            "name": name,
            "external": {"url": "http://h/v1", "model": "m"},
            "sampling": {"temperature": 0.1, "maxTokens": 10},
        }
        for name in ("small", "large")
    ]
    stages = [{"closedQA": {"sampling": {"temperature": 0.9}}}, {"answer": {"model": "large"}}]
    pipeline = compiled(spec(tmp_path, models=models, pipeline=stages))
    first, second = (step.uses["model"] for step in pipeline.steps)
    assert (first.role, second.role) == ("small", "large")
    assert first.sampling.to_request_fields() == {"temperature": 0.9, "max_tokens": 10}
    assert second.sampling.to_request_fields() == {"temperature": 0.1, "max_tokens": 10}
    assert pipeline.roles == {"small", "large"}


@pytest.mark.parametrize("name", ["id", "parent_id", "root_id", "source", "provenance"])
def test_columns_of_our_own_are_taken(tmp_path: Path, name: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=f"{name!r} is kubesynth's own"):
        compiled(spec(tmp_path), {name: "string"})


def test_estimate_follows_the_fan_out(tmp_path: Path) -> None:
    stages = [
        {"closedQA": {"questions": 3}},
        {"answer": {}},
        {"prompt": {"user": {"inline": "x"}, "output": {"type": "List", "count": 4}}},
    ]
    estimate = pipelines.estimate(compiled(spec(tmp_path, pipeline=stages)), 10, 400.0)
    assert estimate.calls == 10 + 30 + 30
    assert estimate.rows == 120
    per_call = pipelines.PROMPT_OVERHEAD_TOKENS + 100 + pipelines.COMPLETION_TOKENS
    assert estimate.tokens == 70 * per_call


def test_estimate_counts_a_call_for_each_segment(tmp_path: Path) -> None:
    def estimated(stage: object, characters: float = 40_000.0) -> pipelines.PipelineEstimate:
        return pipelines.estimate(compiled(spec(tmp_path, pipeline=[stage])), 10, characters)

    facts = estimated({"knowledgeList": {}})
    assert facts.calls >= 100, "a document of 10,000 tokens, 1,000 at a time"
    assert facts.rows == facts.calls * structured.USUAL_ITEMS
    overhead = facts.calls * pipelines.PROMPT_OVERHEAD_TOKENS
    assert sum(step.prompt_tokens for step in facts.steps) == pytest.approx(overhead + 100_000)
    assert sum(step.completion_tokens for step in facts.steps) == facts.calls * 300
    text = estimated({"knowledgeList": {"output": "Text"}})
    assert (text.calls, text.rows) == (facts.calls, 10)
    assert text.tokens == pytest.approx(facts.tokens)
    short = estimated({"knowledgeList": {}}, 400.0)
    assert (short.calls, short.rows) == (10, 10 * structured.USUAL_ITEMS)
    german = {"translate": {"languages": ["German"], "maxSegmentTokens": 500}}
    translated = estimated(german)
    assert translated.calls == 200
    # As much comes out as goes in.
    assert sum(step.completion_tokens for step in translated.steps) == pytest.approx(100_000)
    # Its segments are what the next stage sees.
    cut = [{"segment": {"maxTokens": 1000}}, {"answer": {"questionColumn": "text"}}]
    found = pipelines.estimate(compiled(spec(tmp_path, pipeline=cut)), 10, 40_000.0)
    assert (found.calls, found.rows) == (100, 100)
    per_call = pipelines.PROMPT_OVERHEAD_TOKENS + 1000 + pipelines.COMPLETION_TOKENS
    assert found.tokens == pytest.approx(100 * per_call)


def test_estimate_knows_shorter_completions_and_open_lists(tmp_path: Path) -> None:
    stages = [
        {
            "prompt": {
                "user": {"inline": "x"},
                "output": {"type": "List"},
                "sampling": {"maxTokens": 10},
            }
        }
    ]
    estimate = pipelines.estimate(compiled(spec(tmp_path, pipeline=stages)), 10, 0.0)
    assert estimate.rows == 10 * structured.USUAL_ITEMS
    assert estimate.tokens == 10 * (pipelines.PROMPT_OVERHEAD_TOKENS + 10)
