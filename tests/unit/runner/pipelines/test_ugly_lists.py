"""The bar for lists: hundreds of answers as models write them, read as a person would.

`tests/data/ugly_lists*.jsonl` have one answer a line: `text`, how many items were `expected`, and
the `items` that a person reads in it. Forms, languages and scripts are mixed; an answer that cannot
be read is no reason to take it out. Those held out, and those of a second hand, were made before
the parser was tried on them. Where it makes a difference whether the titles of the items, `whole`
items or the `leaves` of a list are wanted, each has a key; null where nobody would want them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kubesynth_runner.pipelines import lists

DATA = Path(__file__).parents[3] / "data"
SETS = {"ugly_lists": 300, "ugly_lists_held_out": 300, "ugly_lists_second_hand": 100}
FORMS: dict[lists.Form, str] = {"Titles": "items", "Whole": "whole", "Leaves": "leaves"}
BAR = 0.99


def cases(name: str) -> list[dict[str, Any]]:
    text = (DATA / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


def wanted(case: dict[str, Any], form: lists.Form) -> list[str] | None:
    found: list[str] | None = case.get(FORMS[form], case["items"])
    return found


@pytest.mark.parametrize("name", SETS)
def test_there_are_many_answers_each_another(name: str) -> None:
    assert len({case["text"] for case in cases(name)}) >= SETS[name]
    assert len({case["id"] for case in cases(name)}) == len(cases(name))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SETS)
def test_at_least_99_percent_are_read_exactly_as_a_person_would(
    name: str, form: lists.Form
) -> None:
    judged = {case["id"]: case for case in cases(name) if wanted(case, form) is not None}
    wrong = {
        case_id: found
        for case_id, case in judged.items()
        if (found := lists.parse(case["text"], case["expected"], form=form)) != wanted(case, form)
    }
    assert len(wrong) <= (1 - BAR) * len(judged), wrong
