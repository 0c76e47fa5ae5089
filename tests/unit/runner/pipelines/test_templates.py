from __future__ import annotations

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
