"""Prompt templates: Jinja2, sandboxed, strict about names."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from importlib import resources
from typing import Any

import jinja2
from jinja2.environment import TemplateExpression

from kubesynth_runner.llm.base import Message
from kubesynth_runner.pipelines.base import StageFailure
from kubesynth_runner.sandbox import RENDER_ERRORS, Sandbox

_ENVIRONMENT = Sandbox(
    undefined=jinja2.StrictUndefined,
    autoescape=False,
    # Compiling must not compute: {{ 9**9**9 }} is the renderer's problem, never plan's.
    optimized=False,
)


@functools.cache
def load(name: str) -> str:
    """Return the text of a prompt that ships with the package, such as `closed_qa.v1.user`."""
    folder = resources.files("kubesynth_runner.pipelines") / "prompts"
    return (folder / f"{name}.jinja").read_text(encoding="utf-8")


@dataclasses.dataclass(frozen=True, slots=True)
class PromptTemplate:
    """A system and a user template, with example turns between them."""

    user: jinja2.Template
    system: jinja2.Template | None = None
    examples: tuple[Message, ...] = ()

    @staticmethod
    def compile(
        user: str, system: str | None = None, examples: tuple[Message, ...] = ()
    ) -> PromptTemplate:
        """Compile the templates.

        Raises:
            jinja2.TemplateSyntaxError: one of them is no template.
        """
        return PromptTemplate(_compile(user), _compile(system) if system else None, examples)

    def render(self, variables: Mapping[str, Any]) -> tuple[Message, ...]:
        """Return the messages for a record.

        Raises:
            StageFailure: a name is not defined for this record, or an expression fails.
        """
        try:
            user = Message("user", _render(self.user, variables))
            if self.system is None:
                return (*self.examples, user)
            system = Message("system", _render(self.system, variables))
        except RENDER_ERRORS as exc:
            raise StageFailure("TemplateError", f"the prompt cannot be rendered: {exc}") from exc
        return (system, *self.examples, user)


@dataclasses.dataclass(frozen=True, slots=True)
class Condition:
    """An expression over a record's columns, as a question with yes or no for an answer."""

    expression: TemplateExpression
    source: str

    @staticmethod
    def compile(source: str) -> Condition:
        """Compile an expression.

        Raises:
            jinja2.TemplateSyntaxError: it is none.
        """
        return Condition(_ENVIRONMENT.compile_expression(source), source)

    def holds(self, variables: Mapping[str, Any]) -> bool:
        """Return whether the expression is true for a record; null and an absent column are not.

        Raises:
            StageFailure: it cannot be computed for this record.
        """
        try:
            return bool(self.expression(variables))
        except RENDER_ERRORS as exc:
            raise StageFailure(
                "TemplateError", f"the condition {self.source!r} cannot be computed: {exc}"
            ) from exc


def _compile(text: str) -> jinja2.Template:
    template = _ENVIRONMENT.from_string(text)
    # Jinja merges them into each context; out of its ChainMap that takes longer than all the rest.
    template.globals = dict(template.globals)
    return template


def _render(template: jinja2.Template, variables: Mapping[str, Any]) -> str:
    text = template.render(variables).strip()
    text.encode()  # half of a surrogate pair, written as an escape, is no text
    return text
