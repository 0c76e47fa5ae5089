"""The bar for lists: hundreds of answers as models write them, read as a person would.

`tests/data/ugly_lists.jsonl` has one answer a line, made by hand: `text`, how many items were
`expected`, and the `items` that a person reads in it. Forms, languages and scripts are mixed; an
answer that cannot be read is no reason to take it out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kubesynth_runner.pipelines import lists

DATA = Path(__file__).parents[3] / "data" / "ugly_lists.jsonl"
BAR = 0.99


def cases() -> list[dict[str, Any]]:
    return [json.loads(line) for line in DATA.read_text(encoding="utf-8").split("\n") if line]


def test_there_are_at_least_300_answers_each_another() -> None:
    assert len({case["text"] for case in cases()}) >= 300
    assert len({case["id"] for case in cases()}) == len(cases())


def test_at_least_99_percent_are_read_exactly_as_a_person_would() -> None:
    wrong = {
        case["id"]: found
        for case in cases()
        if (found := lists.parse(case["text"], case["expected"])) != case["items"]
    }
    assert len(wrong) <= (1 - BAR) * len(cases()), wrong
