"""Problems, tasks and revisions keep all that belongs to them, and nothing else."""

from __future__ import annotations

import pytest

from kubesynth_runner.pipelines import lists

LOOP = "```python\nfor i in range(5):\n    print(i)\n```"
DEEP = "   ```python\n   for i in range(5):\n       print(i)\n   ```"
TABLE = "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |"

TWO = {
    "title-and-body": (
        f"1. **Sum**\nWrite a function.\n\n2. **Find it**\nThis should print:\n\n{LOOP}",
        ["Sum\nWrite a function.", f"Find it\nThis should print:\n\n{LOOP}"],
    ),
    "code-below-a-question": (
        f"1. What is printed?\n\n{LOOP}\n\n2. Why?",
        [f"What is printed?\n\n{LOOP}", "Why?"],
    ),
    "indented-code": (f"1. What?\n{DEEP}\n2. Why?", [f"What?\n{LOOP}", "Why?"]),
    "code-below-a-bullet": (
        f"- What?\n{LOOP}\n- Why?\n\nLet me know!",
        [f"What?\n{LOOP}", "Why?"],
    ),
    "code-with-marks": (
        "1. Mend it.\n```\n1. one\n- two\nQuestion 1: x = ['a']\n```\n2. Why?",
        ["Mend it.\n```\n1. one\n- two\nQuestion 1: x = ['a']\n```", "Why?"],
    ),
    "code-alone-below-the-number": (f"1.\n{LOOP}\nWhy?\n2. How?", [f"{LOOP}\nWhy?", "How?"]),
    "lines": (
        "1. I go to Peru in May.\nI have little money.\nWhat should I pack?\n2. And you?",
        ["I go to Peru in May.\nI have little money.\nWhat should I pack?", "And you?"],
    ),
    "paragraphs-without-marks": (
        "Sure!\n\nI go to Peru.\nWhat should I pack?\n\nMy boss asks.\nWhat now?"
        "\n\nI hope it helps.",
        ["I go to Peru.\nWhat should I pack?", "My boss asks.\nWhat now?"],
    ),
    "code-without-marks": (
        f"What is printed?\n\n{LOOP}\n\nWhat is wrong?\n\n{LOOP}",
        [f"What is printed?\n{LOOP}", f"What is wrong?\n{LOOP}"],
    ),
    "formula": (
        "1. Solve for x:\n$$x^2-4=0$$\n2. Find y.",
        ["Solve for x:\n$$x^2-4=0$$", "Find y."],
    ),
    "table": (
        f"1. Look.\n\n{TABLE}\n\nWhat is the sum?\n2. Find y.",
        [f"Look.\n\n{TABLE}\n\nWhat is the sum?", "Find y."],
    ),
    "headings-over-numbers": (
        "### Problem 1: Two\n\nWrite f:\n1. Be fast.\n2. Be short.\n\n---\n\n"
        "### Problem 2: Three\nWrite g.\n- a",
        ["Two\n\nWrite f:\n1. Be fast.\n2. Be short.", "Three\nWrite g.\n- a"],
    ),
    "bold-numbers-over-numbers": (
        "**1. Two**\n1. Be fast.\n2. Be short.\n\n**2. Three**\nWrite g.",
        ["Two\n1. Be fast.\n2. Be short.", "Three\nWrite g."],
    ),
    "headings-without-numbers": (
        "## Sum\nWrite a sum.\n\n## Product\nWrite a product.",
        ["Sum\nWrite a sum.", "Product\nWrite a product."],
    ),
    "labels": (
        "Question: Who?\nI mean the first one.\n\nQuestion: When?",
        ["Who?\nI mean the first one.", "When?"],
    ),
    "options": (
        "1. Which is prime?\n   a) 4\n   b) 5\n2. Which?\nA) 6\nB) 7",
        ["Which is prime?\na) 4\nb) 5", "Which?\nA) 6\nB) 7"],
    ),
    "answers": (
        f"1. Which is prime?\n   Odpov\u011b\u010f: 5\n2. Write f.\n\n**Solution:**\n{LOOP}\nDone.",
        ["Which is prime?", "Write f."],
    ),
    "hint": (
        "1. **f**\nDifficulty: easy\nWrite f.\n2. **g**\nWrite g.\n",
        ["f\nWrite f.", "g\nWrite g."],
    ),
    "wrapped": (
        "1. Write a text\n   about owls.\n2. Why?\n\nNatumai yatakusaidia!",
        ["Write a text about owls.", "Why?"],
    ),
    "question-apart": (
        "1. I bake bread. Which flour?\n\n2. I have guests.\n\nCan I bake tonight?",
        ["I bake bread. Which flour?", "I have guests.\n\nCan I bake tonight?"],
    ),
    "groups": (
        "**Easy**\n1. Write f.\n\n**Hard**\n\n2. Write g.\nIt is long.",
        ["Write f.", "Write g.\nIt is long."],
    ),
    "fenced-list": (f"```markdown\n1. What?\n{LOOP}\n2. Why?\n```", [f"What?\n{LOOP}", "Why?"]),
    "crlf": (
        "1. What?\r\n```py\r\nx = 1\r\n```\r\n2. Why?",
        ["What?\n```py\nx = 1\n```", "Why?"],
    ),
}


@pytest.mark.parametrize(("text", "items"), TWO.values(), ids=TWO.keys())
def test_items_are_whole(text: str, items: list[str]) -> None:
    assert lists.parse(text, 2, form="Whole") == items


@pytest.mark.parametrize(
    "text", [f"What is printed?\n{LOOP}", "Mend it:\n```\nx = ['a']\n```", "I go.\nWhat now?"]
)
def test_one_item_may_have_many_lines(text: str) -> None:
    assert lists.parse(text, 1, form="Whole") == [text]


@pytest.mark.parametrize("rest", ["```py\nx = ['a", "```py\nx = ['a']\n```\nWhat is"])
def test_an_item_that_is_cut_off_in_or_below_its_code_is_left_out(rest: str) -> None:
    text = f"1. What?\n2. Mend it.\n{rest}"
    assert lists.parse(text, 2, form="Whole", is_cut_off=True) == ["What?"]


def test_a_title_has_no_body() -> None:
    assert lists.parse("1. **Owls**\nThey hoot.\n2. **Bees**\nThey hum.") == ["Owls", "Bees"]


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    "piece", ["1. ", "**", "```", "```\n", "~~~a\n", "\n1. a\nb", "- a\n\n", "a\n\n"]
)
def test_long_repetitions_are_read_quickly(piece: str) -> None:
    lists.parse(piece * 3_000, 3, form="Whole")
    lists.parse(piece * 3_000, 3, form="Leaves")
