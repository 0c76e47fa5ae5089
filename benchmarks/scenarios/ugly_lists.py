"""How many ugly lists are read exactly as a person would read them. No process, no endpoint."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from benchmarks.scenarios import Bench
from kubesynth_runner.pipelines import lists

DATA = Path(__file__).parents[2] / "tests" / "data" / "ugly_lists.jsonl"


@dataclasses.dataclass(frozen=True, slots=True)
class UglyLists:
    """Answers, and those that were read exactly right."""

    answers: int
    right: int


def measure(bench: Bench) -> UglyLists:
    """Return the figures."""
    del bench
    cases = [json.loads(line) for line in DATA.read_text(encoding="utf-8").split("\n") if line]
    right = [lists.parse(case["text"], case["expected"]) == case["items"] for case in cases]
    return UglyLists(len(cases), sum(right))
