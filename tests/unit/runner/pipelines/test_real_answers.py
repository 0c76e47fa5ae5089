"""The answers of a real model to the real prompts, read as a person reads them.

`tests/data/real_answers.jsonl` holds what the embedded model (SmolLM2-135M-Instruct, Q4_1, on
llama.cpp) answered to the first request of stages that ask for lists, for questions with answers
and for a user's next message, with `temperature` and `seed`, at most `max_tokens` tokens, and the
documents of `examples/data`. Not one answer is left out. `read` was written down before the parser
had seen them: the items in it, none where a person finds no list, null where nobody could say. Such
a small model often does not do what it is asked for: that must not become rows.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from kubesynth_api.v1alpha1.stages.rewriting import DiverseQA
from kubesynth_runner.llm.base import Completion, TokenUsage
from kubesynth_runner.pipelines import base, conversation, lists, readings, tokens

DATA = Path(__file__).parents[3] / "data" / "real_answers.jsonl"
CASES: list[dict[str, Any]] = [
    json.loads(line) for line in DATA.read_text(encoding="utf-8").split("\n") if line
]
# Read in another way than a person does, and why that is left so.
LEFT = {
    "openQA-macro-topics-3": "a sentence with commas: a list only with as many parts as wanted",
    "openQA-subtopics-4": "a sentence with items between quotes within it",
    "openQA-questions-2": "two sentences: nothing but their sense tells that they are no requests",
    "openQA-revisions-3": "two paragraphs where two were wanted: only their sense tells",
    "math-problems-1": "a remark with the answer in it, which no label announces",
    "math-problems-3": "the same",
    "coding-problems-4": "paragraphs of thoughts: only their sense tells that they are no problems",
    "knowledgeList-4": "a paragraph of facts: one fact, for its sentences may lean on each other",
}


def read(case: dict[str, Any]) -> object:
    """Return what the stage reads in an answer."""
    completion = Completion(case["text"], case["finish_reason"], TokenUsage(), case["model"])
    match case["kind"]:
        case "list":
            return lists.parse(
                case["text"],
                case["expected"],
                item_name=case["items"],
                is_cut_off=base.is_cut_off(completion),
                form=case["form"],
            )
        case "facts":
            facts = readings.FactsReading(markdown=False)
            return [fact for (fact,) in facts.results(completion, "", random.Random(0))]
        case "pairs":
            pairs = readings.PairsReading(DiverseQA(keep="All", pairs=20), tokens.count)
            return [list(pair) for pair in pairs.results(completion, "", random.Random(0))]
    return conversation.user_message(case["text"])


def test_there_are_many_answers_of_every_kind() -> None:
    assert len({case["id"] for case in CASES}) == len(CASES) >= 60
    assert {case["kind"] for case in CASES} == {"list", "facts", "pairs", "message"}
    assert LEFT.keys() <= {case["id"] for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_it_is_read_as_a_person_reads_it(case: dict[str, Any]) -> None:
    if case["read"] is None:
        read(case)  # whatever it is, it is no crash
    else:
        assert (read(case) == case["read"]) == (case["id"] not in LEFT)
