"""How many ugly lists are read exactly as a person would read them. No process, no endpoint."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from benchmarks.scenarios import Bench
from kubesynth_runner.pipelines import lists

DATA = Path(__file__).parents[2] / "tests" / "data"
# The second was drawn from combinations, by somebody who had not seen the parser, and read by it
# once before anything was mended.
SETS = ("ugly_lists", "ugly_lists_held_out")
RIGHT_AT_FIRST = {"ugly_lists_held_out": 341}


@dataclasses.dataclass(frozen=True, slots=True)
class UglyLists:
    """Answers, and those that are read exactly right; at first, where that is known."""

    name: str
    answers: int
    right: int
    right_at_first: int | None = None


def measure(bench: Bench) -> list[UglyLists]:
    """Return the figures of each set."""
    del bench
    return [_measure(name) for name in SETS]


def _measure(name: str) -> UglyLists:
    text = (DATA / f"{name}.jsonl").read_text(encoding="utf-8")
    cases = [json.loads(line) for line in text.split("\n") if line]
    right = [lists.parse(case["text"], case["expected"]) == case["items"] for case in cases]
    return UglyLists(name, len(cases), sum(right), RIGHT_AT_FIRST.get(name))
