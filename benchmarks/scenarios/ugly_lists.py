"""How many ugly lists are read exactly as a person would read them. No process, no endpoint."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from benchmarks.scenarios import Bench
from kubesynth_runner.pipelines import lists

DATA = Path(__file__).parents[2] / "tests" / "data"
# The second was drawn from combinations, by somebody who had not seen the parser, and read by it
# once before anything was mended; by titles alone. The third is of a second hand: 69 answers, of
# which 31 were read right in every form, and after they were mended 44 more, of which 42 were.
SETS = ("ugly_lists", "ugly_lists_held_out", "ugly_lists_second_hand")
RIGHT_AT_FIRST = {"ugly_lists_held_out": 341, "ugly_lists_second_hand": 31 + 42}
FORMS: dict[lists.Form, str] = {"Titles": "items", "Whole": "whole", "Leaves": "leaves"}


@dataclasses.dataclass(frozen=True, slots=True)
class UglyLists:
    """Answers, and those that are read exactly right in every form; at first, where it is known."""

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
    right = [all(_is_right(case, form) for form in FORMS) for case in cases]
    return UglyLists(name, len(cases), sum(right), RIGHT_AT_FIRST.get(name))


def _is_right(case: dict[str, Any], form: lists.Form) -> bool:
    wanted = case.get(FORMS[form], case["items"])
    return wanted is None or lists.parse(case["text"], case["expected"], form=form) == wanted
