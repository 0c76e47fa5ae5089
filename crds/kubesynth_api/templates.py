"""What can be known about a Jinja2 template without rendering it.

Only parsed, never compiled: compiling computes constant expressions, and `{{ 9 ** 9 ** 9 }}` must
not keep the operator busy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import jinja2
from jinja2 import nodes
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined)
del _ENVIRONMENT.globals["lipsum"]  # the same record shall always get the same prompt
# Jinja2's own names inside loops, macros and blocks.
_SPECIAL = frozenset({"loop", "caller", "varargs", "kwargs", "self", "super"})
_GUARDS = {"defined", "undefined", "default", "d"}
_LOADING = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)


class TemplateProblem(ValueError):
    """A text is no usable template; the message has the line."""


@dataclasses.dataclass(frozen=True, slots=True)
class Template:
    """A parsed template.

    `mentioned` are the variables that it takes from the record. `needed` are those of them that
    rendering fails without: none of their uses asks first (`is defined`, `| default`).
    """

    mentioned: frozenset[str]
    needed: frozenset[str]


def parse(source: str) -> Template:
    """Parse a template.

    A name that is assigned anywhere in the template (set, for, macro) counts as its own
    everywhere in it.

    Raises:
        TemplateProblem: a syntax error, an unknown filter or test, or another template is loaded.
    """
    return _judged(lambda: _ENVIRONMENT.parse(source))


def parse_expression(source: str) -> Template:
    """Parse an expression, such as `score > 3`: what could stand between {{ and }}.

    Raises:
        TemplateProblem: it is no expression, or an unknown filter or test is used.
    """

    def read() -> nodes.Template:
        parser = Parser(_ENVIRONMENT, source, state="variable")
        expression = parser.parse_expression()
        if not parser.stream.eos:
            raise jinja2.TemplateSyntaxError("there is more after the expression", 1)
        return nodes.Template([nodes.Output([expression], lineno=1)], lineno=1)

    return _judged(read)


def _judged(read: Callable[[], nodes.Template]) -> Template:
    try:
        tree = read()
    except jinja2.TemplateSyntaxError as exc:
        raise TemplateProblem(f"line {exc.lineno}: {exc.message}") from exc
    except RecursionError as exc:
        raise TemplateProblem("nested too deeply") from exc
    for problem in _problems(tree):
        raise TemplateProblem(problem)
    names = list(tree.find_all(nodes.Name))
    own = {name.name for name in names if name.ctx != "load"} | set(_ENVIRONMENT.globals)
    own |= _SPECIAL | {macro.name for macro in tree.find_all(nodes.Macro)}
    mentioned = {name.name for name in names} - own
    guarded = {
        use.node.name
        for use in tree.find_all((nodes.Test, nodes.Filter))
        if use.name in _GUARDS and isinstance(use.node, nodes.Name)
    }
    return Template(frozenset(mentioned), frozenset(mentioned - guarded))


def _problems(tree: nodes.Template) -> Iterator[str]:
    for load in tree.find_all(_LOADING):
        yield f"line {load.lineno}: a prompt cannot include, import or extend another template"
    for filter_use in tree.find_all(nodes.Filter):
        if filter_use.name not in _ENVIRONMENT.filters:
            yield f"line {filter_use.lineno}: no filter is named {filter_use.name!r}"
    for test_use in tree.find_all(nodes.Test):
        if test_use.name not in _ENVIRONMENT.tests:
            yield f"line {test_use.lineno}: no test is named {test_use.name!r}"
