"""LaTeX in JSON, as models write it, against the escapes of JSON itself."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from kubesynth_runner.pipelines import json_text, labels, lists, pairs, structured
from kubesynth_testing.scripted_llm import ScriptedLlm


def read(string: str) -> Any:
    """Return what the inside of a JSON string is read as."""
    return json.loads(json_text.mend(f'["{string}"]'), strict=False)[0]


@pytest.mark.parametrize(
    "text",
    [
        r"Compute $\frac{3}{4} \times \beta$.",
        r"Find $\tan\theta$ and $\nu$.",
        r"Solve \(x^2 \ne 4\) and \[y \neq \sqrt{2}\].",
        r"Let \underline{x} \cdot \nabla f \to 0",
        r"\lim_{x \to 0} \text{sinc}(x) = 1",
        r"An angle of 30^\circ, \rho and \{1, 2\}, \,50\%, \$5",
        r"$\forall n \in \mathbb{N}: n \notin \emptyset$",
        r"\left\{ \begin{array}{l} x \\ y \\\hline 1\\-2 \end{array} \right.",
        r"$$\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}$$",
        r"The pattern \bword\b, the folder C:\foo\data",
        r"\nabla \cdot E = \frac{\rho}{\epsilon_0}",
    ],
)
def test_latex_with_single_backslashes_stays_what_it_is(text: str) -> None:
    assert read(text) == text
    doubled = text.replace("\\", "\\\\")
    assert read(doubled) == text


@pytest.mark.parametrize(
    "text",
    [
        "One\nTwo\tThree\r\nFour",
        "caf\u00e9 \u2192 \U0001f600",
        'She said "no".',
        "a\\b/c",
        "One\nNext\nnext\nneither\nunder\nnothing",
        "if x:\n\treturn y\n\ttotal = 1\n\ttext2 = 2\n\ttry: pass\n\tthat = 1\n\textra = 1",
        "a\nu = 3\ne = 4\ni = 5\nto the end\nparallel lines\nexists",
        "on\tan\noben\tto",
        "It costs $5.\nu and $6.\ne",
        "$\\frac{1}{2}$\nu is next, $x\nu$",
        "\\frac{1}{2}\nWhat is \\nu?\nTell \\theta.",
        "Page 1\fPage 2",
        "[1, 2, ], {a, }",
        "\\\\ \\",
        "\\begin{cases} 1 \\\\ 2 \\end{cases}",
    ],
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_what_was_escaped_as_json_wants_it_stays_what_it_is(text: str, ascii_only: bool) -> None:
    assert json.loads(json_text.mend(json.dumps([text], ensure_ascii=ascii_only))) == [text]


def test_texts_of_all_kinds_come_back() -> None:
    chance = random.Random(1)
    words = [
        "mill",
        "\u00e9t\u00e9",
        "\u6c34",
        "x",
        "$5",
        '"a"',
        "it's",
        "{1,}",
        "[2, ]",
        "un",
        "\\\\",
    ]
    for _ in range(500):
        marks = [" ", "\n", "\t", "\r\n", ", "]
        text = "".join(chance.choice(words) + chance.choice(marks) for _ in range(12))
        for ascii_only in (True, False):
            source = json.dumps({"a": [text]}, ensure_ascii=ascii_only)
            assert json.loads(json_text.mend(source)) == {"a": [text]}
        if "\\" not in text:
            assert json.loads(json_text.mend(json.dumps(text))) == text


def test_apostrophes_that_need_no_escape() -> None:
    assert read(r"What\'s that?") == "What's that?"


def test_commas_too_many_are_none() -> None:
    source = '{"a": [1, 2, ], "b": ",}", "c": {"d": 1,\n},\n}'
    assert json.loads(json_text.mend(source)) == {"a": [1, 2], "b": ",}", "c": {"d": 1}}


@pytest.mark.parametrize(
    "text",
    [
        "\\" * 100_001,
        '"\\"' * 50_000,
        "$x" * 50_000,
        "\\(" * 50_000,
        "\\begin{a}" * 20_000,
        "," * 100_000,
        ", " * 50_000 + '"',
        "_{" * 50_000,
    ],
)
def test_hostile_texts_take_no_time(text: str) -> None:
    json_text.mend(text)


PROBLEMS = (
    r'{"problems": ["Compute $\frac{3}{4} \times \beta$.", "Find \(\sqrt{2}\) at 30^\circ."]}'
)


@pytest.mark.parametrize("form", ["{}", "```json\n{}\n```", "Here you go:\n{}\nEnjoy!"])
def test_lists_keep_their_latex(form: str) -> None:
    found = lists.parse(form.replace("{}", PROBLEMS), 2)
    assert found == [r"Compute $\frac{3}{4} \times \beta$.", r"Find \(\sqrt{2}\) at 30^\circ."]


def test_a_list_that_was_cut_off_keeps_its_latex() -> None:
    found = lists.parse(PROBLEMS[:-12], 2, is_cut_off=True)
    assert found == [r"Compute $\frac{3}{4} \times \beta$."]


async def test_objects_keep_their_latex() -> None:
    answer = r'{"explanation": "Since $\frac{1}{2} < \sqrt{2}$, fine.", "score": 3,}'
    schema = {"type": "object", "required": ["explanation", "score"]}
    llm = ScriptedLlm([answer])
    value = await structured.ask_json(llm, (), schema)
    assert value == {"explanation": r"Since $\frac{1}{2} < \sqrt{2}$, fine.", "score": 3}
    assert len(llm.asked) == 1


def test_pairs_keep_their_latex() -> None:
    text = r'[{"question": "What is \(\beta\)?", "answer": "It is $\frac{1}{2}$.",}]'
    assert pairs.parse(text) == [(r"What is \(\beta\)?", r"It is $\frac{1}{2}$.")]


async def test_labels_beside_latex_are_read() -> None:
    llm = ScriptedLlm([r'{"reason": "Art or math: \(x\).", "label": "math"}'])
    label, _ = await labels.ask_label(llm, (), ["math", "art"])
    assert (label, len(llm.asked)) == ("math", 1)
