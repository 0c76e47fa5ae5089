"""What a person would read as the items of a model's answer, over answers as models give them."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Callable

import pytest

from kubesynth_runner.pipelines import lists

WHO, WHEN, WHERE = "Who built the mill?", "When did it burn down?", "Where does the river rise?"
THREE = [WHO, WHEN, WHERE]
NUMBERED = list(enumerate(THREE, start=1))

THREE_QUESTIONS = {
    "numbered": f"1. {WHO}\n2. {WHEN}\n3. {WHERE}",
    "numbered-crlf": f"1. {WHO}\r\n2. {WHEN}\r\n3. {WHERE}\r\n",
    "numbered-old-mac": f"1. {WHO}\r2. {WHEN}\r3. {WHERE}",
    "parenthesis": f"1) {WHO}\n2) {WHEN}\n3) {WHERE}",
    "both-parentheses": f"(1) {WHO}\n(2) {WHEN}\n(3) {WHERE}",
    "brackets": f"[1] {WHO}\n[2] {WHEN}\n[3] {WHERE}",
    "colon": f"1: {WHO}\n2: {WHEN}\n3: {WHERE}",
    "dash-after-number": f"1 - {WHO}\n2 \u2013 {WHEN}\n3 \u2014 {WHERE}",
    "escaped-dot": f"1\\. {WHO}\n2\\. {WHEN}\n3\\. {WHERE}",
    "no-space": f"1.{WHO}\n2.{WHEN}\n3.{WHERE}",
    "zero-padded": f"01. {WHO}\n02. {WHEN}\n03. {WHERE}",
    "starts-at-seven": f"7. {WHO}\n8. {WHEN}\n9. {WHERE}",
    "all-ones": f"1. {WHO}\n1. {WHEN}\n1. {WHERE}",
    "blank-lines-between": f"1. {WHO}\n\n2. {WHEN}\n\n\n3. {WHERE}\n\n",
    "preamble": f"Sure! Here are three questions:\n\n1. {WHO}\n2. {WHEN}\n3. {WHERE}",
    "preamble-and-closing": (
        f"Here you go:\n1. {WHO}\n2. {WHEN}\n3. {WHERE}\n\nLet me know if you need more!"
    ),
    "heading": f"## Questions\n\n1. {WHO}\n2. {WHEN}\n3. {WHERE}",
    "bold-heading": f"**Questions**\n\n1. {WHO}\n2. {WHEN}\n3. {WHERE}",
    "groups": f"**Easy**\n1. {WHO}\n2. {WHEN}\n\n**Hard**\n3. {WHERE}",
    "quoted-block": f"> 1. {WHO}\n> 2. {WHEN}\n> 3. {WHERE}",
    "bold-items": f"1. **{WHO}**\n2. **{WHEN}**\n3. **{WHERE}**",
    "bold-numbers": f"**1.** {WHO}\n**2.** {WHEN}\n**3.** {WHERE}",
    "bold-lines": f"**1. {WHO}**\n**2. {WHEN}**\n**3. {WHERE}**",
    "underscored": f"1. __{WHO}__\n2. _{WHEN}_\n3. *{WHERE}*".replace(f"_{WHEN}_", WHEN),
    "in-quotes": f'1. "{WHO}"\n2. \u201c{WHEN}\u201d\n3. \u00ab{WHERE}\u00bb',
    "in-backticks": f"1. `{WHO}`\n2. `{WHEN}`\n3. `{WHERE}`",
    "spaces-around": f"  1.   {WHO}  \n  2.\t{WHEN}\t\n  3.  {WHERE} ",
    "indented-but-for-the-first": f"1. {WHO}\n   2. {WHEN}\n   3. {WHERE}",
    "leading-space-after-the-first": f"1. {WHO}\n 2. {WHEN}\n 3. {WHERE}",
    "hyphens": f"- {WHO}\n- {WHEN}\n- {WHERE}",
    "asterisks": f"* {WHO}\n* {WHEN}\n* {WHERE}",
    "pluses": f"+ {WHO}\n+ {WHEN}\n+ {WHERE}",
    "bullets": f"\u2022 {WHO}\n\u2022 {WHEN}\n\u2022 {WHERE}",
    "bullets-without-space": f"\u2022{WHO}\n\u2022{WHEN}\n\u2022{WHERE}",
    "bullets-of-several-kinds": f"- {WHO}\n* {WHEN}\n\u25aa {WHERE}",
    "bold-bullets": f"- **{WHO}**\n- **{WHEN}**\n- **{WHERE}**",
    "question-words": f"Question 1: {WHO}\nQuestion 2: {WHEN}\nQuestion 3: {WHERE}",
    "question-words-bold": "\n".join(f"**Question {n}:** {q}" for n, q in NUMBERED),
    "question-words-bold-colon-outside": "\n".join(f"**Question {n}**: {q}" for n, q in NUMBERED),
    "question-headings": "\n\n".join(f"### Question {n}\n{q}" for n, q in NUMBERED),
    "question-headings-with-gap": "\n\n".join(f"**Question {n}**\n\n{q}" for n, q in NUMBERED),
    "q-numbers": f"Q1: {WHO}\nQ2. {WHEN}\nQ3) {WHERE}",
    "item-hash": f"Item #1 - {WHO}\nItem #2 - {WHEN}\nItem #3 - {WHERE}",
    "letters": f"a) {WHO}\nb) {WHEN}\nc) {WHERE}",
    "capital-letters": f"A. {WHO}\nB. {WHEN}\nC. {WHERE}",
    "with-options": (
        f"1. {WHO}\n   a) Ann\n   b) Ben\n2. {WHEN}\n   a) 1801\n   b) 1802\n3. {WHERE}"
    ),
    "with-options-not-indented": f"1. {WHO}\na) Ann\nb) Ben\n2. {WHEN}\n- 1801\n- 1802\n3. {WHERE}",
    "with-answers": f"1. {WHO}\nAnswer: Ann\n2. {WHEN}\nAnswer: 1801\n3. {WHERE}\nAnswer: here",
    "with-nested-numbers": f"1. {WHO}\n   1. hint\n   2. hint\n2. {WHEN}\n   1. hint\n3. {WHERE}",
    "under-a-bullet": f"- Questions:\n  1. {WHO}\n  2. {WHEN}\n  3. {WHERE}",
    "continued-lines": f"1. Who built\n   the mill?\n2. {WHEN}\n3. Where does\n\tthe river rise?",
    "plain-lines": f"{WHO}\n{WHEN}\n{WHERE}",
    "plain-lines-with-preamble": f"Three questions about the text:\n{WHO}\n{WHEN}\n{WHERE}",
    "plain-lines-with-closing": f"{WHO}\n{WHEN}\n{WHERE}\nI hope that these help.",
    "json-array": f'["{WHO}", "{WHEN}", "{WHERE}"]',
    "json-object": f'{{"questions": ["{WHO}", "{WHEN}", "{WHERE}"]}}',
    "json-pretty": f'{{\n  "questions": [\n    "{WHO}",\n    "{WHEN}",\n    "{WHERE}"\n  ]\n}}',
    "json-deeper": f'{{"result": {{"questions": ["{WHO}", "{WHEN}", "{WHERE}"]}}}}',
    "json-fenced": f'```json\n["{WHO}", "{WHEN}", "{WHERE}"]\n```',
    "json-fenced-crlf": f'```json\r\n["{WHO}", "{WHEN}", "{WHERE}"]\r\n```',
    "json-fenced-with-words": f'Here it is:\n```json\n["{WHO}", "{WHEN}", "{WHERE}"]\n```\nEnjoy!',
    "json-fence-never-closed": f'```json\n["{WHO}", "{WHEN}", "{WHERE}"]',
    "json-after-words": f'Here are the questions\n["{WHO}", "{WHEN}", "{WHERE}"]',
    "json-after-colon": f'Questions: ["{WHO}", "{WHEN}", "{WHERE}"] Enjoy!',
    "json-trailing-comma": f'["{WHO}", "{WHEN}", "{WHERE}",]',
    "json-cut-off": f'["{WHO}", "{WHEN}", "{WHERE}", "Which sto',
    "json-object-cut-off": f'{{"questions": ["{WHO}", "{WHEN}", "{WHERE}", "Which sto',
    "json-objects": json.dumps([{"question": q} for q in THREE]),
    "json-objects-with-more": (
        f'[{{"id": "a", "question": "{WHO}"}}, {{"id": "b", "question": "{WHEN}"}},'
        f' {{"id": "c", "question": "{WHERE}", "answer": "x"}}]'
    ),
    "json-objects-cut-off": (
        f'[{{"question": "{WHO}"}}, {{"question": "{WHEN}"}}, {{"question": "{WHERE}"}}, {{"que'
    ),
    "json-lines": f'{{"question": "{WHO}"}}\n{{"question": "{WHEN}"}}\n{{"question": "{WHERE}"}}',
    "json-numbered-keys": json.dumps({f"question_{n}": q for n, q in NUMBERED}),
    "json-nested-lists": f'[["{WHO}"], ["{WHEN}", "{WHERE}"]]',
    "json-in-single-quotes": f"['{WHO}', '{WHEN}', '{WHERE}']",
    "json-with-line-break-in-string": f'["{WHO}", "{WHEN}\n", "{WHERE}"]',
    "fenced-lines": f"```\n{WHO}\n{WHEN}\n{WHERE}\n```",
    "fenced-numbered": f"```text\n1. {WHO}\n2. {WHEN}\n3. {WHERE}\n```",
    "quoted-lines-with-commas": f'"{WHO}",\n"{WHEN}",\n"{WHERE}"',
}


@pytest.mark.parametrize("text", THREE_QUESTIONS.values(), ids=THREE_QUESTIONS.keys())
def test_three_questions_are_found_however_they_are_written(text: str) -> None:
    assert lists.parse(text, expected=3) == THREE


@pytest.mark.parametrize(
    ("text", "items"),
    [
        pytest.param(
            "1、什么是河\uff1f\n2、谁建了磨坊\uff1f",
            ["什么是河\uff1f", "谁建了磨坊\uff1f"],
            id="chinese",
        ),
        pytest.param(
            "\uff11\uff0e川とは\uff1f\n\uff12\uff0e誰\uff1f",
            ["川とは\uff1f", "誰\uff1f"],
            id="full-width-digits",
        ),
        pytest.param(
            "\u0661. ما النهر؟\n\u0662. من بنى؟", ["ما النهر؟", "من بنى؟"], id="arabic-digits"
        ),
        pytest.param("1. Что это?\n2. Кто?", ["Что это?", "Кто?"], id="cyrillic"),
        pytest.param(
            "什么是河\uff1f\n谁建了磨坊\uff1f\n希望有帮助。",
            ["什么是河\uff1f", "谁建了磨坊\uff1f"],
            id="no-marks",
        ),
        pytest.param("1. 🙂 Why?\n2. 🙃 How?", ["🙂 Why?", "🙃 How?"], id="emoji"),
        pytest.param("- 1.5 litres\n- 2.5 litres", ["1.5 litres", "2.5 litres"], id="decimals"),
        pytest.param("1.5 litres\n2.5 litres", ["1.5 litres", "2.5 litres"], id="plain-decimals"),
        pytest.param(
            "10:30 the train\n11:45 the bus", ["10:30 the train", "11:45 the bus"], id="times"
        ),
        pytest.param("- -5 degrees\n- +5 degrees", ["-5 degrees", "+5 degrees"], id="signs"),
        pytest.param(
            '1. [Hard] What does "mill" mean?\n2. Why?',
            ['[Hard] What does "mill" mean?', "Why?"],
            id="brackets-and-quotes-in-an-item",
        ),
        pytest.param(
            '1. What is the value of: ["a"]?\n2. Why?',
            ['What is the value of: ["a"]?', "Why?"],
            id="json-in-an-item",
        ),
        pytest.param(
            "1. What does this print?\n```python\nprint([1])\n```\n2. Why?",
            ["What does this print?", "Why?"],
            id="code-in-an-item",
        ),
        pytest.param(
            "1. **Mills**: who builds them?\n2. **Rivers**: where do they rise?",
            ["Mills", "Rivers"],
            id="bold-beginnings",
        ),
        pytest.param(
            "**1. Mills**: who?\n**2. Rivers**: where?",
            ["Mills: who?", "Rivers: where?"],
            id="bold-halves",
        ),
        pytest.param('["a\\nb", "  c  "]', ["a\nb", "c"], id="json-keeps-line-breaks"),
        pytest.param('["caf\\u00e9", "\\ud83d\\ude00"]', ["café", "😀"], id="json-escapes"),
        pytest.param('["a\\ud800b", "c"]', ["ab", "c"], id="half-a-surrogate-pair"),
        pytest.param("[1, 2.5, true, null]", [], id="json-without-quotes-is-no-list-of-texts"),
        pytest.param('[["1", 2, true, null]]', ["1", "2"], id="numbers-among-texts"),
        pytest.param("What is a mill?", ["What is a mill?"], id="one-question"),
        pytest.param("1. What is a mill?", ["What is a mill?"], id="one-numbered"),
        pytest.param(
            '{"items": ["1. What is a mill?"]}', ["What is a mill?"], id="json-one-numbered"
        ),
        pytest.param(
            '["9. Symphony", "5. Symphony"]', ["9. Symphony", "5. Symphony"], id="ordinals"
        ),
        pytest.param('{"question": "Why?", "answer": "So."}', ["Why?"], id="one-object"),
        pytest.param("1.\n2.\n3.", [], id="numbers-alone"),
        pytest.param('{"questions": []}', [], id="empty-list"),
        pytest.param('{"questions": [', [], id="cut-off-before-the-first"),
        pytest.param("", [], id="nothing"),
        pytest.param("\n \n", [], id="blank"),
        pytest.param("I am sorry, but I cannot help with that.", [], id="excuse"),
        pytest.param("A. Smith built the mill.", [], id="initial-is-no-marker"),
        pytest.param("[" * 100_000, [], id="brackets-without-end"),
        pytest.param('{"a":' * 50_000, [], id="braces-without-end"),
    ],
)
def test_items_of_odd_answers(text: str, items: list[str]) -> None:
    assert lists.parse(text, expected=3) == items


def test_a_key_on_a_line_of_its_own_is_no_item() -> None:
    text = f'{{\n\n"questions"\n\n:\n\n[\n\n"{WHO}"\n\n,\n\n"{WHEN}"\n\n]\n\n}}'
    assert lists.parse(text, 1) == [WHO, WHEN]


def test_one_line_is_a_list_of_one_if_one_was_asked_for() -> None:
    assert lists.parse("The mill burned down", expected=1) == ["The mill burned down"]


@pytest.mark.parametrize("seed", range(200))
def test_any_text_parses_to_clean_items(seed: int) -> None:
    draw = random.Random(seed)
    alphabet = (
        string.ascii_letters[:6] + "0123.)-*_#>[]{}\"'`\\,:?\n\n  \t" + "\uff11、\u2022\ud800"
    )
    text = "".join(draw.choice(alphabet) for _ in range(draw.randrange(400)))
    for item in lists.parse(text):
        assert item.strip() == item
        assert item


def test_cleaning_is_idempotent_on_nested_marks() -> None:
    assert lists.clean('  "**`What?`**" ') == "What?"
    assert lists.clean("**bold** and **bold**") == "**bold** and **bold**"


def test_distinct_ignores_case_and_white_space() -> None:
    assert lists.distinct(["What  is it?", "what is IT?", "Why?"]) == ["What  is it?", "Why?"]


@pytest.mark.timeout(5)
@pytest.mark.parametrize("piece", ["1. ", "**", "- ", '"', "(", "Question ", "\n1", " \n", "_*"])
def test_long_repetitions_parse_quickly(piece: str) -> None:
    lists.parse(piece * 20_000)


MARKUP = [
    "What does &quot;x&quot; mean?",
    "What is between <think> and </think>?",
    "Where does <br> belong?",
    "What ends a turn: </s> or <|im_end|>?",
    "How is\u00a0this\u200bspelt?",
    "- [ ] a box?",
]


@pytest.mark.parametrize("form", ["{}", "\n{}\n", "```json\n{}\n```"])
@pytest.mark.parametrize("wrap", [lambda found: found, lambda found: {"questions": found}])
@pytest.mark.parametrize("indent", [None, 2])
def test_items_of_json_are_taken_as_they_are(
    form: str, wrap: Callable[[list[str]], object], indent: int | None
) -> None:
    text = form.format(json.dumps(wrap(MARKUP), indent=indent))
    assert lists.parse(text, len(MARKUP)) == MARKUP


@pytest.mark.parametrize(
    ("text", "items"),
    [
        pytest.param("1. A?\n2. B?\n3. What is the ma", ["A?", "B?"], id="numbered"),
        pytest.param("- A?\n- B?\n- **What is", ["A?", "B?"], id="bold"),
        pytest.param("1. A?\n2. Write this:\n   a and", ["A?"], id="goes-on"),
        pytest.param("1. A?\n2. B?\n\nI hope that these are", ["A?", "B?"], id="behind-it"),
        pytest.param("1. A?\n2. B?\n3.", ["A?", "B?"], id="number-alone"),
        pytest.param("First one?\nSecond one?\nThird o", ["First one?", "Second one?"], id="lines"),
        pytest.param('{"q": ["A?", "B?", "What', ["A?", "B?"], id="json"),
        pytest.param('["A?", "B?"', ["A?", "B?"], id="json-but-for-its-end"),
        pytest.param('{"q": ["A?", "B?"]}', ["A?", "B?"], id="whole-json"),
        pytest.param("1. What is", [], id="first"),
    ],
)
def test_item_that_was_cut_off_is_left_out(text: str, items: list[str]) -> None:
    assert lists.parse(text, 3, is_cut_off=True) == items


NO_ITEMS = [
    "Unfortunately, I can't write problems about this.\nPlease choose another topic.",
    "As an AI language model, I can't help with that.\n\nPlease consult a professional.",
    "The text does not contain enough information.\n\nCould you provide a longer text?",
    "There are no further distinct topics.",
    "I can't think of any more topics.",
    "No more topics.",
]


@pytest.mark.parametrize("expected", [1, 3])
@pytest.mark.parametrize("text", NO_ITEMS)
def test_saying_that_there_are_none_is_no_item(text: str, expected: int) -> None:
    assert lists.parse(text, expected) == []


@pytest.mark.parametrize(
    "lines",
    [
        ["I cannot sleep at night. What can I do?", "How long is a day?"],
        ["There are no snakes in Ireland.", "Iceland has no army."],
        ["No more than two of them fit. Which?"],
    ],
)
def test_an_item_may_say_no(lines: list[str]) -> None:
    assert lists.parse("\n".join(lines), len(lines)) == lines


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        pytest.param(
            "- **Architecture**:\n  - A. Gaud\u00ed designed it.\n  - It was begun in 1882.\n"
            "- **Status**:\n  - It was consecrated in 2010.",
            ["A. Gaud\u00ed designed it.", "It was begun in 1882.", "It was consecrated in 2010."],
            id="headings-with-colons",
        ),
        pytest.param(
            "1. **Energy**\n   - It is kept.\n   - It is in joules.",
            ["It is kept.", "It is in joules."],
            id="bold-heading",
        ),
        pytest.param(
            "1. Energy\n- It is kept.\n2. Mass\n- It is not.",
            ["It is kept.", "It is not."],
            id="below-numbers-at-the-margin",
        ),
        pytest.param(
            "- It is kept.\n  - It is in joules.\n\n    - Of heat, too.",
            ["It is kept.", "It is in joules.", "Of heat, too."],
            id="below-a-fact",
        ),
        pytest.param(
            "1. **It is kept.**\n   - It is in joules.",
            ["It is kept.", "It is in joules."],
            id="below-a-bold-fact",
        ),
        pytest.param(
            "1. **Energy**: it is kept.\n   1.1 It is in joules.\n"
            "   1.2. It flows\n      from A to B.",
            ["**Energy**: it is kept.", "It is in joules.", "It flows from A to B."],
            id="part-numbers",
        ),
        pytest.param(
            "1. A is b.\n   2. C is d.\n   3. E is f.",
            ["A is b.", "C is d.", "E is f."],
            id="first-not-indented",
        ),
        pytest.param(
            "## Mass\n- A is b.\n\n## Rest\n- C is d.\n\nThat is all.",
            ["A is b.", "C is d."],
            id="sections",
        ),
        pytest.param("- Energy:\n- Mass:", ["Energy:", "Mass:"], id="nothing-below"),
    ],
)
def test_facts_are_read_at_every_depth(text: str, facts: list[str]) -> None:
    assert lists.parse(text, form="Leaves") == facts
