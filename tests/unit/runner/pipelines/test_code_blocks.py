"""The places of code in a list: nobody but us marks them, whatever an answer has in it."""

from __future__ import annotations

import json

import pytest

from kubesynth_api.v1alpha1.stages.records import ItemForm
from kubesynth_runner.pipelines import code_blocks, lists

MARKS = ("\\ue0000\\ue001", "\\uE0000\\uE001", "\\ue0005\\ue001", "\ue0000\ue001")
CODE = "```python\nx = 1\n```"


@pytest.mark.parametrize("form", ["Titles", "Whole", "Leaves"])
@pytest.mark.parametrize("mark", MARKS)
def test_nobody_but_us_marks_the_place_of_code(form: ItemForm, mark: str) -> None:
    text = f'Here they are:\n["a {mark} b", "c"]'
    first, second = lists.parse(text, form=form)
    assert "\ue000" not in first
    assert (first[0], second) == ("a", "c")
    assert CODE not in lists.parse(f'Here they are:\n["a {mark} b", "c"]\n\n{CODE}', form=form)[0]


def test_a_backslash_that_is_meant_is_no_part_of_an_escape() -> None:
    items = ["see \\ue000", "c"]
    assert lists.parse(f"Here they are:\n{json.dumps(items)}", form="Whole") == items


def test_a_mark_without_a_block_stays_as_it_is() -> None:
    marked = f"a \ue0001\ue001 b \ue000{'9' * 5000}\ue001"
    assert code_blocks.restore(marked, [CODE]) == marked
