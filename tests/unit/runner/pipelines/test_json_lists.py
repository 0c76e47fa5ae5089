"""Which list, and which text of its objects, is meant where JSON has several."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kubesynth_runner.pipelines import lists, structured
from kubesynth_runner.pipelines.structured import ListRequest
from kubesynth_testing.scripted_llm import ScriptedLlm

TWO = ["Write a loop.", "Sort a list."]


@pytest.mark.parametrize(
    ("item_name", "value", "items"),
    [
        pytest.param(
            "problems",
            {"problems": [{"topic": "Loops", "problem": text} for text in TWO]},
            TWO,
            id="topic-beside-problem",
        ),
        pytest.param(
            "problems",
            [{"title": "Evens", "description": text} for text in TWO],
            [f"Evens\n{text}" for text in TWO],
            id="title-and-description",
        ),
        pytest.param(
            "problems",
            [{"title": f"Problem {n}", "statement": text} for n, text in enumerate(TWO)],
            TWO,
            id="title-that-is-a-number",
        ),
        pytest.param(
            "problems",
            [{"difficulty": "easy", "prompt": text} for text in TWO],
            TWO,
            id="difficulty-first",
        ),
        pytest.param(
            "revisions",
            [{"name": "context", "revision": text} for text in TWO],
            TWO,
            id="name-of-a-revision",
        ),
        pytest.param(
            "revisions",
            [{"question": "Loop?", "revision": text} for text in TWO],
            TWO,
            id="question-beside-its-revision",
        ),
        pytest.param(
            "questions",
            [{"question_type": "why", "question_text": text} for text in TWO],
            TWO,
            id="type-of-question",
        ),
        pytest.param(
            "topics",
            {"topics": [{"title": text, "description": "Long."} for text in TWO]},
            TWO,
            id="titles-are-topics",
        ),
        pytest.param(
            "subtopics",
            [{"topic": "Code", "subtopics": TWO}],
            TWO,
            id="subtopics-below-their-topic",
        ),
        pytest.param(
            "topics",
            [{"topic": text, "subtopics": ["a", "b"]} for text in TWO],
            TWO,
            id="topics-above-their-subtopics",
        ),
        pytest.param(
            "tasks", [{"task": t, "subtasks": ["a"]} for t in TWO], TWO, id="tasks-with-subtasks"
        ),
        pytest.param(
            "questions", {"reasoning": ["think", "more"], "questions": TWO}, TWO, id="reasoning"
        ),
        pytest.param(
            "questions", {"analysis": {"theme": "x"}, "questions": TWO}, TWO, id="analysis"
        ),
        pytest.param(
            "questions",
            {"notes": ["x"], "result": {"about": ["y"], "Questions": TWO}},
            TWO,
            id="deeper",
        ),
        pytest.param("problems", {"hints": ["x"], "math_problems": TWO}, TWO, id="longer-name"),
        pytest.param("items", {"thoughts": ["x"], "answers": TWO}, TWO, id="thoughts"),
        pytest.param(
            "problems",
            {f"problem_{n}": {"title": "T", "problem": text} for n, text in enumerate(TWO)},
            TWO,
            id="objects-by-number",
        ),
        pytest.param("items", {"item1": TWO[0], "item2": TWO[1]}, TWO, id="texts-by-number"),
        pytest.param("items", [{"idea": t} for t in TWO], TWO, id="only-text"),
        pytest.param("items", {"notes": TWO}, TWO, id="nothing-but-notes"),
    ],
)
async def test_the_list_and_the_text_that_were_asked_for(
    item_name: str, value: Any, items: list[str]
) -> None:
    text = json.dumps(value)
    for answer in (text, f"Here:\n{text}", f"```json\n{json.dumps(value, indent=2)}\n```"):
        is_titles = item_name in ("topics", "subtopics")
        request = ListRequest(item_name, 2, form="Titles" if is_titles else "Whole")
        assert await structured.ask_list(ScriptedLlm([answer]), (), request) == items


def test_texts_in_quotes_that_are_not_json_are_unescaped() -> None:
    text = '[\n  "Say "hi"\\nto \\\\frac{1}{2}.", // one\n  "Two \\"b\\"" // two\n]'
    assert lists.parse(text) == ['Say "hi"\nto \\frac{1}{2}.', 'Two "b"']
    assert lists.parse(r"['It\'s one', 'Find \frac{1}{2}']") == ["It's one", r"Find \frac{1}{2}"]


@pytest.mark.parametrize("depth", [300, 3000, 100_000])
def test_lists_nested_without_end_are_none(depth: int) -> None:
    assert lists.parse("[" * depth + '"a"' + "]" * depth) in ([], ["a"])
    assert lists.parse('{"a":' * depth + '"a"' + "}" * depth) in ([], ["a"])


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Caf\u00e9", "Cafe\u0301", True),
        ("CAFE\u0301", "caf\u00e9", True),
        ("\uff21\uff22\uff23 1", "abc 1", True),
        ("\uff76\uff9e", "\u30ac", True),
        ("Stra\u00dfe", "STRASSE", True),
        ("10\u00b2", "102", False),
        ("x\u2082", "x2", False),
        ("Cafe", "Caf\u00e9", False),
    ],
)
def test_what_is_the_same_item(one: str, other: str, same: bool) -> None:
    assert (lists.fold(one) == lists.fold(other)) is same


CUT_OFF = [
    pytest.param(
        '{"topic":"bees","tags":["insects","honey"],"questions":["A hive?","A queen?","A dro',
        ["A hive?", "A queen?"],
        id="another-list-before",
    ),
    pytest.param(
        '{"thoughts": ["Think."], "tags": ["insects"], "questions": ["A hive?", "A queen?"',
        ["A hive?", "A queen?"],
        id="an-element-just-whole",
    ),
    pytest.param(
        '{\n "tags": [\n  "insects",\n  "honey"\n ],\n "questions": [\n  "A hive?",\n  "A dro',
        ["A hive?"],
        id="a-line-each",
    ),
    pytest.param(
        '{"reasoning": "see [1]", "questions": ["A hive?", "A dro',
        ["A hive?"],
        id="a-bracket-in-a-text",
    ),
    pytest.param(
        '[{"question":"A hive?","tags":["a","b"]},{"question":"A queen?","tags":["c"',
        ["A hive?"],
        id="a-list-in-an-element",
    ),
    pytest.param(
        '{"questions": ["A hive?", "A queen?"], "notes": ["Ask for m',
        ["A hive?", "A queen?"],
        id="in-a-list-behind-it",
    ),
    pytest.param(
        '{"questions": ["A hive?", "A queen?"], "note": "Ask for m',
        ["A hive?", "A queen?"],
        id="in-a-text-behind-it",
    ),
    pytest.param(
        '{"tags": ["insects"], "Questions": ["A hive?" "A queen?", "A dro',
        ["A hive?", "A queen?"],
        id="a-comma-too-few",
    ),
]


@pytest.mark.parametrize("before", ["", "Here they are:\n\n", "```json\n"])
@pytest.mark.parametrize(("text", "items"), CUT_OFF)
def test_what_is_cut_off_is_read_as_if_it_ended_with_its_last_whole_element(
    before: str, text: str, items: list[str]
) -> None:
    found = lists.parse(before + text, 3, item_name="questions", is_cut_off=True, form="Whole")
    assert found == items


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("before", ["", "Here they are:\n\n"])
def test_an_empty_list_of_the_name_means_that_there_are_none(
    before: str, indent: int | None
) -> None:
    for beside in ({"notes": ["n1", "n2"]}, {"comment": "There are no facts."}):
        text = before + json.dumps({"facts": [], **beside}, indent=indent)
        assert lists.parse(text, item_name="facts", form="Leaves") == []
    listed = before + json.dumps({"facts": [], "statements": ["s1", "s2"]}, indent=indent)
    assert lists.parse(listed, item_name="facts", form="Leaves") == ["s1", "s2"]


def test_lines_of_other_lists_are_no_items() -> None:
    value = {"tags": ["insects", "honey"], "questions": ["A hive?"]}
    text = f"Here they are:\n\n{json.dumps(value, indent=1)}\n\nMore?"
    assert lists.parse(text, item_name="questions", form="Whole") == ["A hive?"]
