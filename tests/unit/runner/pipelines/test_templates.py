from __future__ import annotations

import subprocess
import sys
from typing import Any

import jinja2
import pytest

from kubesynth_runner.llm.base import Message
from kubesynth_runner.pipelines import templates
from kubesynth_runner.pipelines.base import StageFailure
from kubesynth_runner.pipelines.templates import PromptTemplate


def test_messages_are_system_examples_and_user() -> None:
    examples = (Message("user", "2+2"), Message("assistant", "4"))
    prompt = PromptTemplate.compile(" {{ text }}\n", "Be {{ mood }}.", examples)
    assert prompt.render({"text": "3+3", "mood": "brief"}) == (
        Message("system", "Be brief."),
        *examples,
        Message("user", "3+3"),
    )


def test_no_system_prompt_no_system_message() -> None:
    assert PromptTemplate.compile("{{ text }}").render({"text": "a"}) == (Message("user", "a"),)


def test_documents_are_no_templates_and_nothing_is_escaped() -> None:
    text = "{{ 7 * 7 }} <b> & {% if %}"
    assert PromptTemplate.compile("{{ text }}").render({"text": text})[0].content == text


@pytest.mark.parametrize("source", ["{{ text", "{% if %}", "{{ text | nothing }}"])
def test_broken_template_does_not_compile(source: str) -> None:
    with pytest.raises(jinja2.TemplateSyntaxError):
        PromptTemplate.compile(source)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        pytest.param("{{ missing }}", "'missing' is undefined", id="missing"),
        pytest.param("{{ text.missing.more }}", "has no attribute", id="missing-attribute"),
        pytest.param("{{ number + text }}", "unsupported operand", id="type"),
        pytest.param("{{ number / 0 }}", "division by zero", id="division"),
        pytest.param("{{ text.__class__.__mro__ }}", "unsafe|has no attribute", id="sandbox"),
        pytest.param("{{ range(10000000) | list }}", "Range too big", id="range"),
        pytest.param("{{ text.encode('nope') }}", "unknown encoding", id="lookup"),
        pytest.param("{{ '%d' | format(text) }}", "%d format", id="format"),
        pytest.param(
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion", id="recursion"
        ),
        pytest.param("{{ '\\ud83d' }}", "surrogates not allowed", id="half-a-surrogate-pair"),
    ],
)
def test_what_cannot_be_rendered_fails_the_record_alone(source: str, problem: str) -> None:
    variables: dict[str, Any] = {"text": "a", "number": 1}
    with pytest.raises(StageFailure, match=problem) as caught:
        PromptTemplate.compile(source).render(variables)
    assert caught.value.kind == "TemplateError"


def test_prompts_that_ship_are_found_by_name() -> None:
    assert "{{ document }}" in templates.load("closed_qa.v1.user")


PICK = "{% for _ in range(20) %}{{ range(100) | list | random }} {% endfor %}{{ text }}"


def test_random_picks_vary_but_are_the_same_for_the_same_record() -> None:
    def ask(text: str) -> str:
        return PromptTemplate.compile(PICK).render({"text": text})[0].content

    assert ask("a") == ask("a")
    assert ask("a")[:-1] != ask("b")[:-1]
    assert len(set(ask("a").split())) > 10


def test_random_picks_are_the_same_in_every_process() -> None:
    """What a crashed run has paid for is found again by its prompt."""
    code = (
        "from kubesynth_runner.pipelines.templates import PromptTemplate as T;"
        f"print(T.compile({PICK!r}).render({{'text': 'a'}})[0].content)"
    )
    texts = {subprocess.check_output([sys.executable, "-c", code]) for _ in range(2)}
    assert len(texts) == 1


def test_a_pick_from_nothing_fails_the_record() -> None:
    with pytest.raises(StageFailure, match="nothing to pick from"):
        PromptTemplate.compile("{{ [] | random }}").render({})


def test_a_condition_that_is_left_to_chance_decides_once_for_a_record() -> None:
    condition = templates.Condition.compile("range(2) | random == number - number")
    seen = {number: {condition.holds({"number": number}) for _ in range(5)} for number in range(20)}
    assert {len(answers) for answers in seen.values()} == {1}
    assert set().union(*seen.values()) == {True, False}


def test_text_that_is_new_each_time_is_not_to_be_had() -> None:
    with pytest.raises(StageFailure, match="'lipsum' is undefined"):
        PromptTemplate.compile("{{ lipsum() }}").render({})
