"""Jinja2's sandbox for templates of users: what one expression may cost is limited.

The same variables always give the same text. A prompt that came out differently when its record is
worked on again would be another call, and paid for again.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

# Larger results of one operator are a mistake or an attack, and the event loop would stand still.
_LARGEST_POWER = 1000
_LONGEST_REPETITION = 1_000_000

# Where a rendering keeps its random numbers; no variable can have this name.
_CHANCE = "| random"

# What an expression of the user's own can come to.
RENDER_ERRORS = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)


class Sandbox(ImmutableSandboxedEnvironment):
    """An environment for templates that are not ours."""

    intercepted_binops = frozenset({"**", "*"})

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.filters["random"] = _pick
        del self.globals["lipsum"]  # another text each time

    def call_binop(
        self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any
    ) -> Any:
        """Refuse powers and repetitions that would take for ever."""
        if operator == "**" and isinstance(right, int | float) and abs(right) > _LARGEST_POWER:
            raise SecurityError(f"the exponent {right} is too large")
        for text, times in ((left, right), (right, left)):
            is_repetition = isinstance(text, str | list | tuple) and isinstance(times, int)
            if is_repetition and len(text) * times > _LONGEST_REPETITION:
                raise SecurityError(f"{times} repetitions are too many")
        return super().call_binop(context, operator, left, right)


@jinja2.pass_context
def _pick(context: jinja2.runtime.Context, choices: Sequence[Any]) -> Any:
    """Return one of `choices`: one after the other at random, for these variables the same ones."""
    chance = context.vars.get(_CHANCE)
    if chance is None:
        known = sorted((name, _plain(value)) for name, value in context.parent.items())
        chance = context.vars[_CHANCE] = random.Random(repr(known))
    if not choices:
        return context.environment.undefined("there is nothing to pick from at random")
    return chance.choice(choices)


def _plain(value: Any) -> str:
    """Return what is the same in every process; Jinja's own names are functions and classes."""
    return "" if callable(value) else repr(value)
