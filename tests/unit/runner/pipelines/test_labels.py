"""Labels and translations out of answers as models give them."""

from __future__ import annotations

import random
from typing import Any

import pytest

from kubesynth_api import validation
from kubesynth_api.meta import PromptText
from kubesynth_api.v1alpha1.pipeline import Stage as StageSpec
from kubesynth_runner import records
from kubesynth_runner.llm.base import Completion, TokenUsage
from kubesynth_runner.pipelines import labels, registry, translate
from kubesynth_runner.pipelines.base import StageFailure
from kubesynth_runner.pipelines.compiling import CompileContext
from kubesynth_testing.runs import a_run
from kubesynth_testing.scripted_llm import ScriptedLlm

KNOWN = ("math", "not math", "Python 3")

ANSWERS = {
    "math": "math",
    "Math.": "math",
    "**Math**": "math",
    " `not math` ": "not math",
    "Not math, because it is a fruit.": "not math",
    "Label: math": "math",
    "The answer is: Python 3": "Python 3",
    "math\n\nIt is taught at school.": "math",
    '{"label": "math"}': "math",
    '```json\n{"Label": "Not Math"}\n```': "not math",
    "I think that it belongs to Python 3.": "Python 3",
    "python 3": "Python 3",
    "It could be math or Python 3.": None,
    '{"label": "physics"}': None,
    "mathematics": None,
    "I do not know.": None,
    "{": None,
}


@pytest.mark.parametrize(("answer", "label"), ANSWERS.items(), ids=repr)
def test_label_of_an_answer(answer: str, label: str | None) -> None:
    assert labels.parse(answer, KNOWN) == label


LANGUAGES = ("C", "C++", "C#", ".NET", "F")
DENIED: dict[tuple[str, ...], dict[str, str | None]] = {
    ("math", "physics"): {
        "This is not math.": None,
        "I would not call this math.": None,
        "It is not math but physics.": "physics",
        "It isn't math, it is physics.": "physics",
        "Not math; physics.": "physics",
        "It is not only math.": "math",
        "No, it is math.": "math",
    },
    ("toxic", "spam"): {
        "I don't think it's toxic.": None,
        "non-toxic": None,
        "Not spam": None,
        "The label is not spam": None,
        "It is neither spam nor toxic.": None,
    },
    ("Yes", "No"): {
        "It has no meaning outside mathematics; it is a theorem.": None,
        "There is no doubt that it is a function.": None,
        "No doubt it is a function.": None,
        "I would say yes, since it is a theorem.": "Yes",
        "It has no limits. The answer is yes.": "Yes",
        "My answer is **No**": "No",
        "No, it has no proof.": "No",
        "Not a theorem, so no.": "No",
    },
}


@pytest.mark.parametrize(
    ("answer", "known", "label"),
    [
        pytest.param(answer, known, label, id=answer)
        for known, answers in DENIED.items()
        for answer, label in answers.items()
    ],
)
def test_label_that_is_denied_or_a_word_of_a_sentence_is_none(
    answer: str, known: tuple[str, ...], label: str | None
) -> None:
    assert labels.parse(answer, known) == label


GRADES = ("A", "A-", "B", "b")
ODD = ("(a) Fruit", "Other...", "US", "us")


@pytest.mark.parametrize(
    ("answer", "known", "label"),
    [
        pytest.param(answer, known, label, id=answer)
        for known, answers in (
            (LANGUAGES, {
                "C": "C",
                "C.": "C",
                "c": "C",
                '{"label": "C"}': "C",
                '{"label": "C++"}': "C++",
                "C++": "C++",
                "**C#**": "C#",
                "`C++`, because of the templates.": "C++",
                "C, since it has pointers": "C",
                "The answer is: c#": "C#",
                "It is C, clearly.": "C",
                "Is it C or C++?": None,
                "- .NET": ".NET",
                "net": ".NET",
                '{"label": "C--"}': "C",
            }),
            (GRADES, {
                '{"label": "A"}': "A",
                '{"label": "A-"}': "A-",
                "A- for the effort": "A-",
                "B": "B",
                "b": "b",
                "I give it an a-": "A-",
            }),
            (ODD, {
                "a) Fruit": "(a) Fruit",
                "other": "Other...",
                "I think it is other": "Other...",
                "Us": None,
                "It is US.": None,
                "us.": "us",
            }),
        )
        for answer, label in answers.items()
    ],
)  # fmt: skip
def test_labels_that_differ_at_their_edges_are_told_apart(
    answer: str, known: tuple[str, ...], label: str | None
) -> None:
    assert labels.parse(answer, known) == label


@pytest.mark.parametrize("known", [KNOWN, LANGUAGES, GRADES, ODD, ("-", "+"), ("#", "##")])
@pytest.mark.parametrize("form", ["{}", " {}\n", '{{"label": "{}"}}'])
def test_a_label_alone_is_itself(known: tuple[str, ...], form: str) -> None:
    assert [labels.parse(form.format(label), known) for label in known] == list(known)


async def run(wire: dict[str, Any], columns: dict[str, Any], llm: ScriptedLlm) -> list[Any]:
    def read(prompt: PromptText) -> str:
        assert prompt.inline is not None
        return prompt.inline

    steps = registry.compile_stage(
        StageSpec.model_validate(wire), CompileContext("text", read)
    ).steps
    found = [columns]
    for step in steps:
        made = []
        for one in found:
            record = records.Record("r", None, "r", (), one, records.Source("file:///a", 1))
            async for added in step.stage.run(record, llm):
                assert set(added) == set(step.stage.columns)
                made.append({**one, **added})
        found = made
    return found


async def test_entity_gets_its_label_and_the_answer_stays() -> None:
    llm = ScriptedLlm(["Yes, it is a theorem."])
    (row,) = await run({"classifyEntity": {"preset": "Math"}}, {"entity": "Pythagoras"}, llm)
    assert (row["label"], row["label_answer"]) == ("Yes", "Yes, it is a theorem.")
    assert "Pythagoras" in llm.asked[0][-1].content


async def test_own_classes_are_described_and_a_schema_holds_the_server() -> None:
    classes = [{"name": "fruit", "description": "grows on trees"}, {"name": "tool"}]
    llm = ScriptedLlm(['{"label": "fruit"}'], json_schema=True)
    wire = {"classifyEntity": {"classes": classes, "answerColumn": "raw"}}
    (row,) = await run(wire, {"entity": "apple"}, llm)
    assert row["label"] == "fruit"
    assert "- fruit: grows on trees\n- tool\n" in llm.asked[0][-1].content
    assert llm.formats[0] is not None
    assert llm.formats[0].schema["properties"]["label"]["enum"] == ["fruit", "tool"]


async def test_unknown_label_is_asked_again_once_and_then_fails() -> None:
    wire = {"classifyEntity": {"preset": "Python"}}
    (row,) = await run(wire, {"entity": "list"}, ScriptedLlm(["Perhaps.", "Yes"]))
    assert row["label"] == "Yes"
    with pytest.raises(StageFailure, match="none of the labels Yes, No") as caught:
        await run(wire, {"entity": "list"}, ScriptedLlm(["Perhaps.", "Maybe."]))
    assert (caught.value.kind, caught.value.raw) == ("UnparsableCompletion", "Maybe.")


async def test_entity_that_is_none_fails() -> None:
    with pytest.raises(StageFailure, match="no entity"):
        await run({"classifyEntity": {"preset": "Math"}}, {"entity": 3}, ScriptedLlm([]))


async def test_prompt_takes_one_of_a_set_of_labels() -> None:
    output = {"type": "Label", "labels": ["good", "bad"], "column": "verdict"}
    wire = {"prompt": {"user": {"inline": "Is it good? {{ text }}"}, "output": output}}
    (row,) = await run(wire, {"text": "t"}, ScriptedLlm(["Bad!"]))
    assert row["verdict"] == "bad"


@pytest.mark.parametrize(
    ("stage", "field"),
    [
        ({"classifyEntity": {}}, "classes"),
        (
            {"classifyEntity": {"preset": "Math", "classes": [{"name": "a"}, {"name": "b"}]}},
            "classes",
        ),
        ({"classifyEntity": {"classes": [{"name": "a"}]}}, "classes"),
        ({"prompt": {"user": {"inline": "{{ text }}"}, "output": {"type": "Label"}}}, "labels"),
        ({"translate": {"languages": ["German", "French"], "suffix": ""}}, "suffix"),
        ({"segment": {"minTokens": 600}}, "minTokens"),
    ],
)
def test_contradictions_are_refused(stage: dict[str, Any], field: str, tmp_path: Any) -> None:
    spec = a_run(tmp_path, pipeline=[stage]).spec
    findings = validation.check(spec, "job")
    assert field in findings[0].path


async def test_translation_makes_a_record_for_each_language() -> None:
    llm = ScriptedLlm(["Here is the translation:\n\nDie Mühle.", "Le moulin."])
    wire = {"translate": {"languages": ["German", "French"]}}
    rows = await run(wire, {"text": "The mill."}, llm)
    assert [(row["language"], row["text_translated"]) for row in rows] == [
        ("German", "Die Mühle."),
        ("French", "Le moulin."),
    ]
    assert "into German" in llm.asked[0][0].content


async def test_long_text_is_translated_in_segments_and_keeps_its_gaps() -> None:
    paragraph = "The mill stands beside the river and the bridge. " * 3
    text = f"\n# Mills\n\n\n{paragraph.strip()}\n\n{paragraph.strip()}\n"
    segments = [segment for segment, is_text in translate.split(text, 40) if is_text]
    llm = ScriptedLlm([segment.upper() for segment in segments])
    wire = {"translate": {"languages": ["German"], "maxSegmentTokens": 40, "suffix": ""}}
    (row,) = await run(wire, {"text": text}, llm)
    assert len(segments) > 1
    assert row["text"] == text.upper()


@pytest.mark.parametrize("seed", range(40))
def test_segments_and_gaps_are_the_text(seed: int) -> None:
    draw = random.Random(seed)
    text = "".join(draw.choice("abc .\n\n\t河。") for _ in range(draw.randrange(600)))
    assert "".join(part for part, _ in translate.split(text, 32)) == text


@pytest.mark.parametrize("text", [None, "", " \n"])
async def test_what_is_blank_stays_so_and_costs_nothing(text: str | None) -> None:
    (row,) = await run({"translate": {"languages": ["German"]}}, {"text": text}, ScriptedLlm([]))
    assert row["text_translated"] == text


async def test_translation_that_is_cut_off_fails() -> None:
    answer = Completion("Die M", "length", TokenUsage(), "fake")
    with pytest.raises(StageFailure, match="maxTokens"):
        await run({"translate": {"languages": ["German"]}}, {"text": "Mill"}, ScriptedLlm([answer]))
