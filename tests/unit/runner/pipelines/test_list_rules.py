"""What rules for lists must leave alone: each of them takes something off that may be meant."""

from __future__ import annotations

import pytest

from kubesynth_runner.pipelines import lists

ANSWERED = (
    "1. Which river? (Answer: the Tigris)\n2. Which sea? (in metres)\n3. Why (answer briefly)?"
)
ASIDES = "1. Find x.\n   *(Take g = 9.8.)*\n2. Find y."


@pytest.mark.parametrize(
    ("text", "expected", "form", "items"),
    [
        pytest.param(
            "1. What is the **main** cause - wind?\n2. **Why** not both?",
            2,
            "Titles",
            ["What is the **main** cause - wind?", "**Why** not both?"],
            id="bold-words-are-no-titles",
        ),
        pytest.param(
            "- **snake_case** names: how?\n- **Optics** of lenses: how?",
            2,
            "Titles",
            ["**snake_case** names: how?", "**Optics** of lenses: how?"],
            id="bold-beginnings-are-no-titles",
        ),
        pytest.param(
            "1. Solve: 2x = 4\n2. Solve: 3x = 9",
            2,
            "Whole",
            ["Solve: 2x = 4", "Solve: 3x = 9"],
            id="instructions-are-no-labels",
        ),
        pytest.param(
            "1. Question: why?\n2. Task: do it.",
            2,
            "Whole",
            ["Question: why?", "Task: do it."],
            id="labels-that-differ-say-something",
        ),
        pytest.param(
            "- int a;\n- int b;\n- return a;",
            3,
            "Whole",
            ["int a;", "int b;", "return a;"],
            id="semicolons-of-code",
        ),
        pytest.param(
            "1. Γιατί;\n2. Πότε;\n3. Ποιος.",
            3,
            "Whole",
            ["Γιατί;", "Πότε;", "Ποιος."],
            id="greek-question-marks",
        ),
        pytest.param(
            ANSWERED,
            3,
            "Whole",
            ["Which river?", "Which sea? (in metres)", "Why (answer briefly)?"],
            id="brackets-without-an-answer",
        ),
        pytest.param(
            ASIDES, 2, "Whole", ["Find x.\n*(Take g = 9.8.)*", "Find y."], id="one-aside-is-meant"
        ),
        pytest.param(
            "1. **Converter**\n   - Ask.\n   - Print.\n2. **Calculator**\n   - Ask.",
            3,
            "Whole",
            ["Converter\n- Ask.\n- Print.", "Calculator\n- Ask."],
            id="requirements-are-no-items",
        ),
        pytest.param(
            "1. Optics\n   - Lenses\n2. Acoustics\n   - Sound\n   - Noise",
            2,
            "Titles",
            ["Optics", "Acoustics"],
            id="groups-that-were-asked-for",
        ),
        pytest.param(
            "1. Write to Ann.\n\n   Thank her!\n2. Write to Bob.\n\n   Blame him!",
            2,
            "Whole",
            ["Write to Ann.\n\nThank her!", "Write to Bob.\n\nBlame him!"],
            id="exclamations-of-all-items",
        ),
        pytest.param(
            "1. Write to Ann.\n\nThank her!",
            1,
            "Whole",
            ["Write to Ann.\n\nThank her!"],
            id="exclamation-of-the-only-item",
        ),
        pytest.param(
            "1. Write to Ann.\n2. Write to Bob.\n\n   Be firm!",
            2,
            "Whole",
            ["Write to Ann.", "Write to Bob.\n\nBe firm!"],
            id="exclamation-within-an-item",
        ),
        pytest.param(
            "What is printed?\n>>> 1 + 1\n\nAnd here?\n>>> 2 + 2",
            2,
            "Whole",
            ["What is printed?\n>>> 1 + 1", "And here?\n>>> 2 + 2"],
            id="prompts-of-python",
        ),
        pytest.param(
            "1. Water\n1.5 litres of it weigh 1.5 kg.\n2. Oil\n0.5 litres of it weigh less.",
            2,
            "Titles",
            ["Water", "Oil"],
            id="decimal-numbers",
        ),
        pytest.param(
            "1. Is 3 > 2?\n> 2 is 3 < 4?",
            2,
            "Titles",
            ["Is 3 > 2?"],
            id="quotes-below-an-item",
        ),
        pytest.param(
            "Here are the final questions:\n1. Why?\n2. How?\n3. Who?",
            3,
            "Whole",
            ["Why?", "How?", "Who?"],
            id="final-without-a-draft",
        ),
    ],
)
def test_what_is_meant_stays(text: str, expected: int, form: lists.Form, items: list[str]) -> None:
    assert lists.parse(text, expected, form=form) == items


FACTS = [
    '{"History": ["One.", "Two."], "People": ["Three."]}',
    '{"facts": {"History": ["One.", "Two."], "People": ["Three."]}, "questions": ["Why?"]}',
    '{"facts": [{"about": "History", "facts": ["One.", "Two."]}, {"fact": "Three."}]}',
]


@pytest.mark.parametrize("text", FACTS)
def test_facts_are_found_wherever_they_are(text: str) -> None:
    found = lists.parse(text, item_name="facts", form="Leaves")
    assert found == ["One.", "Two.", "Three."]


def test_answers_in_a_list_of_their_own_are_no_questions() -> None:
    text = '{"q": ["Why?", "How?"], "a": ["So.", "Thus."]}'
    assert lists.parse(text, item_name="questions", form="Whole") == ["Why?", "How?"]


def test_titles_that_are_wrapped_stay_whole() -> None:
    text = (
        "1. The influence of the medieval guilds on the layout of the northern\n"
        "   European cities\n2. Trade in\n   salt"
    )
    first = "The influence of the medieval guilds on the layout of the northern European cities"
    assert lists.parse(text, 2) == [first, "Trade in salt"]


INLINE = "1. It was founded in 19. 2. It has 12. 3. It is old."


@pytest.mark.parametrize(
    ("text", "form", "items"),
    [
        pytest.param(
            "Here they are: 1. One\n2. Two\n3. Three\n4. Four",
            "Whole",
            ["One", "Two", "Three", "Four"],
            id="first",
        ),
        pytest.param(
            "Do both: 1. a\n\nOr none.", "Titles", ["Do both: 1. a", "Or none."], id="no-second"
        ),
        pytest.param(
            "1. Compute: 1. a\n2. Sort: 1. b", "Whole", ["Compute: 1. a", "Sort: 1. b"], id="parts"
        ),
        pytest.param(
            INLINE,
            "Titles",
            ["It was founded in 19.", "It has 12.", "It is old."],
            id="sentences-that-end-with-numbers",
        ),
        pytest.param("1. 1.\n\nOne.\n2. 2.\n\nTwo.", "Whole", ["One.", "Two."], id="twice"),
        pytest.param("1. 2.\n2. 3.", "Whole", ["2.", "3."], id="numbers"),
        pytest.param(
            "Question: 1. Who?\nQuestion: 2. Why?", "Whole", ["Who?", "Why?"], id="label-and-number"
        ),
        pytest.param(
            "Topic: 1984: a novel\nTopic: 2001: a film",
            "Titles",
            ["1984: a novel", "2001: a film"],
            id="label-and-year",
        ),
        pytest.param(
            "1. Who?\nThe answer is Ann.\n2. Why?\nThe correct answer is: so.",
            "Whole",
            ["Who?", "Why?"],
            id="answers-in-sentences",
        ),
        pytest.param(
            "1. Guess.\n   The answer is even.\n2. Add.",
            "Whole",
            ["Guess.\nThe answer is even.", "Add."],
            id="a-task-that-speaks-of-its-answer",
        ),
        pytest.param(
            "1. Add.\n\nA:\n\nprint(1)\n\n2. Sort.",
            "Whole",
            ["Add.", "Sort."],
            id="code-below-an-a",
        ),
        pytest.param(
            "1. Choose.\n   A:\n   x\n   B:\n   y\n2. Sort.",
            "Whole",
            ["Choose.\nA:\nx\nB:\ny", "Sort."],
            id="options",
        ),
    ],
)
def test_forms_of_small_models_are_read(text: str, form: lists.Form, items: list[str]) -> None:
    assert lists.parse(text, len(items), form=form) == items


def test_sentences_are_no_topics_unless_there_are_as_many() -> None:
    text = "The topic is the sky.\n\n" + "It is about the colours that one sees in it " * 2 + "."
    assert lists.parse(text, 5) == []
    assert len(lists.parse(text, 2)) == 2


@pytest.mark.parametrize("form", ["Titles", "Whole", "Leaves"])
@pytest.mark.parametrize(
    "piece",
    [
        "**a**: b\n",
        "### 1. a\nb\n\n",
        "1. a (answer: ",
        "1.1 a\n",
        "> a\n",
        "---\n",
        "a: ",
        "*(a)*\n",
    ],
)
def test_time_grows_with_the_length_alone(form: lists.Form, piece: str) -> None:
    lists.parse(piece * 1_500, 3, form=form)
