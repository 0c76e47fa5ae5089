"""Questions with their answers out of what models write."""

from __future__ import annotations

import pytest

from kubesynth_runner.pipelines import pairs

PAIRS = [("Who built the mill?", "Ann Ames."), ("When did it burn?", "In 1801.")]
(Q1, A1), (Q2, A2) = PAIRS
WRITTEN = {
    "two-lines": f"Question: {Q1}\nAnswer: {A1}\n\nQuestion: {Q2}\nAnswer: {A2}",
    "one-line": f"Question: {Q1} Answer: {A1}\nQuestion: {Q2} Answer: {A2}",
    "bullets": f"- Question: {Q1} Answer: {A1}\n- Question: {Q2} Answer: {A2}",
    "preamble": (
        f"Here are the pairs:\n\nQuestion: {Q1}\nAnswer: {A1}\n\nQuestion: {Q2}\nAnswer: {A2}"
    ),
    "closing": f"Question: {Q1}\nAnswer: {A1}\nQuestion: {Q2}\nAnswer: {A2}\n\nI hope this helps!",
    "numbered": f"1. Question: {Q1}\n   Answer: {A1}\n\n2. Question: {Q2}\n   Answer: {A2}",
    "numbers-inside": f"Question 1: {Q1}\nAnswer 1: {A1}\nQuestion 2: {Q2}\nAnswer 2: {A2}",
    "short": f"Q: {Q1}\nA: {A1}\n\nQ: {Q2}\nA: {A2}",
    "short-numbered": f"Q1: {Q1}\nA1: {A1}\n\nQ2: {Q2}\nA2: {A2}",
    "bold": f"**Question:** {Q1}\n**Answer:** {A1}\n\n**Question:** {Q2}\n**Answer:** {A2}",
    "bold-outside": (
        f"**Question 1**: {Q1}\n**Answer**: {A1}\n**Question 2**: {Q2}\n**Answer**: {A2}"
    ),
    "all-bold": f"**Question: {Q1}**\nAnswer: {A1}\n\n**Question: {Q2}**\nAnswer: {A2}",
    "headings": f"### Question 1: {Q1}\nAnswer: {A1}\n\n### Question 2: {Q2}\nAnswer: {A2}",
    "rules": f"Question: {Q1}\nAnswer: {A1}\n---\nQuestion: {Q2}\nAnswer: {A2}",
    "crlf": f"Question: {Q1}\r\nAnswer: {A1}\r\n\r\nQuestion: {Q2}\r\nAnswer: {A2}\r\n",
    "json": f'[{{"question": "{Q1}", "answer": "{A1}"}}, {{"question": "{Q2}", "answer": "{A2}"}}]',
    "json-object": (
        f'{{"pairs": [{{"Question": "{Q1}", "Answer": "{A1}"}},'
        f' {{"Question": "{Q2}", "Answer": "{A2}"}}]}}'
    ),
    "json-lines": (
        f'{{"question": "{Q1}", "answer": "{A1}"}}\n{{"question": "{Q2}", "answer": "{A2}"}}'
    ),
    "json-cut-off": (
        f'[{{"question": "{Q1}", "answer": "{A1}"}}, {{"question": "{Q2}", "answer": "{A2}"}},'
        ' {"question": "Wh'
    ),
    "fenced": (
        f'```json\n[{{"question": "{Q1}", "answer": "{A1}"}},\n'
        f'{{"question": "{Q2}", "answer": "{A2}"}}]\n```'
    ),
    "unanswered": f"Question: {Q1}\nAnswer: {A1}\nQuestion: {Q2}\nAnswer: {A2}\nQuestion: And why?",
    "twice": (
        f"Question: {Q1}\nAnswer: {A1}\nQuestion: {Q2}\nAnswer: {A2}\nQuestion: {Q2}\nAnswer: x"
    ),
}


@pytest.mark.parametrize("answer", WRITTEN.values(), ids=WRITTEN.keys())
def test_pairs_are_found_however_they_are_written(answer: str) -> None:
    assert pairs.parse(answer) == PAIRS


def test_options_and_long_answers_stay_whole() -> None:
    text = "Question: Which? A) Ann B) Ben\nAnswer: B) Ben,\nwho was the smith.\n"
    assert pairs.parse(text) == [("Which? A) Ann B) Ben", "B) Ben,\nwho was the smith.")]


FRENCH = [("Qui a con\u00e7u l'\u00e9glise ?", "Antoni Gaud\u00ed."), ("Quand ?", "En 1882.")]
GERMAN = [("Wer hat die M\u00fchle gebaut?", "Ann Ames."), ("Nenne das Jahr.", "1801.")]
SPANISH = [("\u00bfQui\u00e9n la construy\u00f3?", "Ann Ames."), ("\u00bfCu\u00e1ndo?", "En 1801.")]
CHINESE = [
    ("\u8c01\u5efa\u9020\u4e86\u5b83\uff1f", "\u9ad8\u8fea\u3002"),
    ("\u4f55\u65f6\uff1f", "1882\u5e74\u3002"),
]
HINDI = [
    ("\u0915\u093f\u0938\u0928\u0947 \u092c\u0928\u093e\u092f\u093e?", "\u0906\u0928\u0964"),
    ("\u0915\u092c?", "1801\u0964"),
]
ARABIC = [
    ("\u0645\u0646 \u0628\u0646\u0627\u0647\u0627\u061f", "\u0622\u0646."),
    ("\u0645\u062a\u0649\u061f", "1801."),
]


def written(question: str, answer: str, pairs_: list[pairs.Pair], between: str = "\n\n") -> str:
    return between.join(
        f"{question.format(n)}{asked}\n{answer.format(n)}{told}"
        for n, (asked, told) in enumerate(pairs_, 1)
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(written("Question : ", "R\u00e9ponse : ", FRENCH), FRENCH, id="fr"),
        pytest.param(written("Question {} : ", "R\u00e9ponse {} : ", FRENCH), FRENCH, id="fr-n"),
        pytest.param(
            "Voici les questions :\n\n" + written("**Q :** ", "**R :** ", FRENCH),
            FRENCH,
            id="fr-short",
        ),
        pytest.param(
            written("Question : ", "R\u00e9ponse : ", FRENCH[:1]), FRENCH[:1], id="fr-one"
        ),
        pytest.param(written("Frage: ", "Antwort: ", GERMAN), GERMAN, id="de"),
        pytest.param(written("- **Frage:** ", "  **Antwort:** ", GERMAN), GERMAN, id="de-bold"),
        pytest.param(written("{}. Frage: ", "   Antwort: ", GERMAN), GERMAN, id="de-numbered"),
        pytest.param(written("F: ", "A: ", GERMAN, "\n"), GERMAN, id="de-short"),
        pytest.param(written("## Frage {}\n", "## Antwort\n", GERMAN), GERMAN, id="de-headings"),
        pytest.param(
            "Hier sind die Paare:\n\n" + written("Frage: ", "Antwort: ", GERMAN[:1]),
            GERMAN[:1],
            id="de-lead-in-one",
        ),
        pytest.param(written("Pregunta: ", "Respuesta: ", SPANISH), SPANISH, id="es"),
        pytest.param(written("{}. ", "   Respuesta: ", SPANISH), SPANISH, id="es-answers-alone"),
        pytest.param(
            written("\u95ee\u9898{}\uff1a", "\u7b54\u6848{}\uff1a", CHINESE), CHINESE, id="zh"
        ),
        pytest.param(
            written(
                "\u092a\u094d\u0930\u0936\u094d\u0928: ", "\u0909\u0924\u094d\u0924\u0930: ", HINDI
            ),
            HINDI,
            id="hi",
        ),
        pytest.param(
            written(
                "\u0627\u0644\u0633\u0624\u0627\u0644 {}: ",
                "\u0627\u0644\u062c\u0648\u0627\u0628: ",
                ARABIC,
            ),
            ARABIC,
            id="ar",
        ),
        pytest.param(written("Q{}. ", "A{}. ", PAIRS), PAIRS, id="numbered-labels"),
        pytest.param(written("{}. ", "   Answer: ", PAIRS), PAIRS, id="answers-alone"),
        pytest.param(written("", "Answer: ", PAIRS), PAIRS, id="answers-below-paragraphs"),
        pytest.param(written("Question {}\n", "Answer\n", PAIRS), PAIRS, id="lines"),
        pytest.param(
            f"| Question | Answer |\n|---|:---|\n| {Q1} | {A1} |\n| {Q2} | {A2} |\n\nDone.",
            PAIRS,
            id="table",
        ),
        pytest.param(
            f"# | Q | A\n--|--|--\n1 | {Q1} | {A1}\n2 | {Q2} | {A2}", PAIRS, id="numbered-table"
        ),
    ],
)
def test_pairs_are_found_in_any_language_and_form(text: str, expected: list[pairs.Pair]) -> None:
    assert pairs.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Question: Which?\nA: one\nB: two\nC: three\nAnswer: B: two",
        "Q: Which?\nA: one\nB: two\nC: three\nA: B: two",
        "Frage: Which?\nA: one\nB: two\nC: three\nAntwort: B: two",
        "1. Which?\n   A: one\n   B: two\n   C: three\n   Answer: B: two",
    ],
)
def test_options_are_no_answers(text: str) -> None:
    ((question, answer),) = pairs.parse(text)
    assert "".join(question.split()) == "Which?A:oneB:twoC:three"
    assert answer == "B: two"


@pytest.mark.parametrize(
    "question", ["Is the answer: yes or no?", "What is 1 + 1", "Which? A) 1 B) 2"]
)
@pytest.mark.parametrize("gap", [" ", "\n"])
def test_only_a_label_ends_a_question(question: str, gap: str) -> None:
    assert pairs.parse(f"Question: {question}{gap}Answer: Yes.") == [(question, "Yes.")]


@pytest.mark.parametrize(
    "text",
    [
        "Note: I cannot.\nReason: It is too short.",
        "I cannot do this.\nAnswer: none",
        "Fecha: 1801\nLugar: Bath",
        "| a | b |\n|---|---|\n| 1 | 2 |",
    ],
)
def test_labels_of_something_else_are_no_pairs(text: str) -> None:
    assert pairs.parse(text) == []


@pytest.mark.parametrize(
    "text", ["", "No questions here.", "Question: Why?", "Answer: So.", "{", "[[["]
)
def test_no_pairs(text: str) -> None:
    assert pairs.parse(text) == []


def test_half_a_pair_that_was_there_before_takes_nothing_with_it() -> None:
    text = "Question: Who?\nAnswer: Ann.\n\n" * 3 + "Question: Who?\nAnswer: An"
    assert pairs.parse(text, is_cut_off=True) == [("Who?", "Ann.")]
    assert pairs.parse("Question: Who?\nAnswer: An", is_cut_off=True) == []


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    "piece",
    [
        "Question: ",
        "Answer: a\n",
        "A: a\n",
        "A: a\nB: b\n",
        "Frage: w\nAntwort: a\n",
        "* ",
        "[",
        "{",
        "**",
        "1. ",
        "\n---",
        "|",
        "|---|---|\n",
        "a?\nAnswer: b\n",
        "a b ",
    ],
)
def test_long_repetitions_are_read_quickly(piece: str) -> None:
    pairs.parse(piece * 5_000)
