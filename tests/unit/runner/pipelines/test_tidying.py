"""Answers with more around the text than was asked for."""

from __future__ import annotations

import pytest

from kubesynth_runner.pipelines import tidying

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


@pytest.mark.timeout(5)
@pytest.mark.parametrize("piece", ["* ", "**", "1. ", "\n---", "Sure! ", "Here is the text "])
def test_long_repetitions_are_read_quickly(piece: str) -> None:
    tidying.tidy(piece * 20_000)
    tidying.translation(piece * 20_000, "a")
