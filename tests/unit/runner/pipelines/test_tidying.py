"""Answers with more around the text than was asked for."""

from __future__ import annotations

import pytest

from kubesynth_runner.pipelines import pairs, tidying

TEXT = "The mill was built in 1801. It burned down."

WRAPPED = {
    "alone": TEXT,
    "lead-in": f"Here is the rewritten text:\n\n{TEXT}",
    "sure": f"Sure! Here's a paraphrased version of the text:\n{TEXT}",
    "sure-alone": f"Certainly!\n\n{TEXT}",
    "same-line": f"Here is a condensed version: {TEXT}",
    "label": f"Paraphrased Text: {TEXT}",
    "bold-label": f"**Rewritten Text:**\n\n{TEXT}",
    "fenced": f"```text\n{TEXT}\n```",
    "quoted": f'"{TEXT}"',
    "curly": f"\u201c{TEXT}\u201d",
    "passage": f"Passage 1:\n{TEXT}",
    "bold-passage": f"**Passage:**\n{TEXT}",
    "closing": f"{TEXT}\n\nLet me know if you need anything else!",
    "closing-note": f"{TEXT}\n\nNote that this rewritten text leaves out the names.",
    "closing-hope": f"{TEXT}\n\nI hope this helps!",
    "sure-help": f"Sure, I can help with that.\n{TEXT}",
    "label-alone": f"Answer:\n{TEXT}",
    "bold-underscores": "__The mill__ was built in 1801. __It__ burned __down.__",
    "bold": "The **mill** was built in __1801__. It *burned* down.",
    "heading": f"# {TEXT}",
    "link": "The [mill](https://example.com/a_b) was built in 1801. It burned down.",
    "crlf": f"Here is the text:\r\n\r\n{TEXT}\r\n",
    "rule": f"---\n{TEXT}\n---",
}


@pytest.mark.parametrize("answer", WRAPPED.values(), ids=WRAPPED.keys())
def test_the_text_alone_remains(answer: str) -> None:
    assert tidying.tidy(answer) == TEXT


@pytest.mark.parametrize(
    "text",
    [
        "Let snake_case_name and _private stay, and 2 * 3 * 4 = 24.",
        "f(x)*g(x)*h(x) and a_1 + a_2",
        'He said "yes" and she said "no"',
        '"Yes," he said. "No," she said.',
        "It is here: the mill.",
        "`**code**` is kept",
        "The following year, it burned down: nobody knows why.\nNobody.",
        "- one\n- two",
        "an array [i](j) and a call",
        "The __init__ method calls super().__init__() in __main__.py.",
        "Cells live.\nNote that this reaction is exothermic: the equilibrium shifts with heat.",
        "Dear Bob,\nI arrive on Monday.\nLet me know if that suits you.",
        "They wrote to the king.\nI hope this finds you well.",
        "This is the knowledge that Plato spoke of: a true belief that is justified.",
        "I have the text of the treaty before me: it has nine articles.",
        "Result: 3-0 for Real.",
        "Knowledge: a true belief that is justified.",
        "Okay is a town in Oklahoma.\nIt lies on a lake.",
        "Sure Shot was a magazine.\nIt was printed in Bath.",
    ],
)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert tidying.tidy(text) == text


# A text, what a model answers, and what of it is the translation.
TRANSLATED = {
    "letter": (
        "Hallo Bob,\nich komme am Montag.\nSag Bescheid, ob es passt.",
        "Dear Bob,\nI arrive on Monday.\nLet me know if that suits you.",
        None,
    ),
    "sure-is-said": (
        "Klar!\nIch komme morgen.",
        "Sure!\nI will come tomorrow.",
        None,
    ),
    "result": ("Resultado: 3-0 para el Real.", "Result: 3-0 for Real.", None),
    "answer": ("Respuesta: S\u00ed", "Answer: Yes", None),
    "a-list": (
        "Hier ist die Liste meiner Eink\u00e4ufe:\n- Milch",
        "Here is the list of what I bought:\n- milk",
        None,
    ),
    "of-a-translation": (
        "Voici la traduction\u00a0: le moulin.",
        "Here is the translation: the mill.",
        None,
    ),
    "note": ("Nota bene.\nEs eilt.", "Note well.\nNote that this is urgent.", None),
    "lead-in": ("Die M\u00fchle.", "Here is the translation:\n\nThe mill.", "The mill."),
    "lead-in-same-line": ("Die M\u00fchle.", "Here is the translation: The mill.", "The mill."),
    "label": ("Die M\u00fchle.", "**English translation:**\nThe mill.", "The mill."),
    "label-same-line": ("Die M\u00fchle.", "Translation: The mill.", "The mill."),
    "sure": ("Die M\u00fchle.", "Sure!\nThe mill.", "The mill."),
    "sure-lead-in": (
        "Die M\u00fchle.",
        "Sure! Here is the text in English:\n\nThe mill.",
        "The mill.",
    ),
    "closing": (
        "Die M\u00fchle.",
        "The mill.\n\nLet me know if you need anything else!",
        "The mill.",
    ),
    "all": (
        "Schreib mir.\nSag Bescheid, ob du noch Fragen hast.",
        "Here's the translated text:\n\nWrite to me.\nLet me know if you have any questions.",
        "Write to me.\nLet me know if you have any questions.",
    ),
    "fence": ("Die M\u00fchle.", "```\nThe mill.\n```", "The mill."),
    "own-fence": ("```\nM\u00fchle\n```", "```\nmill\n```", None),
}


@pytest.mark.parametrize(("text", "answer", "rest"), TRANSLATED.values(), ids=list(TRANSLATED))
def test_translation_loses_only_what_the_text_has_no_counterpart_of(
    text: str, answer: str, rest: str | None
) -> None:
    assert tidying.translation(answer, text) == (answer if rest is None else rest)


def test_markdown_stays_if_wanted() -> None:
    assert tidying.tidy("**a** b", markdown=False) == "**a** b"


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


@pytest.mark.parametrize(
    "text", ["", "No questions here.", "Question: Why?", "Answer: So.", "{", "[[["]
)
def test_no_pairs(text: str) -> None:
    assert pairs.parse(text) == []


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    "piece", ["Question: ", "Answer: a\n", "* ", "[", "{", "**", "1. ", "\n---"]
)
def test_long_repetitions_are_read_quickly(piece: str) -> None:
    pairs.parse(piece * 20_000)
    tidying.tidy(piece * 20_000)
