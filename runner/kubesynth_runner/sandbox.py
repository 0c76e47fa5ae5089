"""Jinja2's sandbox, with a limit on what one expression may cost, for templates of users."""

from __future__ import annotations

from typing import Any

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

# Larger results of one operator are a mistake or an attack, and the event loop would stand still.
_LARGEST_POWER = 1000
_LONGEST_REPETITION = 1_000_000

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
