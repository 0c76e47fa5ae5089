"""What can be known about a chat template without rendering it.

Hugging Face's dialect of Jinja2: blocks trimmed, loop controls, `{% generation %}`, and the
functions `raise_exception` and `strftime_now`. Only parsed here, never compiled or rendered; see
`kubesynth_api.templates` for why.
Source: transformers, "Chat templates: advanced" and `utils/chat_template_utils.py`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

_LOADING = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)
_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token")


class TemplateProblem(ValueError):
    """A text is no usable chat template, or no tokenizer configuration that has one."""


class Generation(Extension):
    """`{% generation %}...{% endgeneration %}`: marks what is trained on; only its body counts."""

    tags = {"generation"}  # noqa: RUF012 (as the base class declares it)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return the body."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


# What an environment for chat templates is made with, whatever its sandbox.
ENVIRONMENT_OPTIONS: Mapping[str, Any] = {
    "trim_blocks": True,
    "lstrip_blocks": True,
    "extensions": [loopcontrols, Generation],
}
_ENVIRONMENT = ImmutableSandboxedEnvironment(**ENVIRONMENT_OPTIONS)


@dataclasses.dataclass(frozen=True, slots=True)
class TemplateSource:
    """A template's text, and the special tokens that it may use, by name (`bos_token`, ...)."""

    text: str
    tokens: Mapping[str, str] = dataclasses.field(default_factory=dict)


def check(source: str) -> None:
    """Look for everything that is wrong with a template's text.

    Raises:
        TemplateProblem: a syntax error, an unknown filter or test, another template is loaded, or
            it does not use `messages`.
    """
    try:
        tree = _ENVIRONMENT.parse(source)
    except jinja2.TemplateSyntaxError as exc:
        raise TemplateProblem(f"line {exc.lineno}: {exc.message}") from exc
    except RecursionError as exc:
        raise TemplateProblem("nested too deeply") from exc
    for load in tree.find_all(_LOADING):
        raise TemplateProblem(f"line {load.lineno}: it cannot include, import or extend another")
    for use in tree.find_all(nodes.Filter):
        if use.name not in _ENVIRONMENT.filters:
            raise TemplateProblem(f"line {use.lineno}: no filter is named {use.name!r}")
    for test in tree.find_all(nodes.Test):
        if test.name not in _ENVIRONMENT.tests:
            raise TemplateProblem(f"line {test.lineno}: no test is named {test.name!r}")
    if not any(name.name == "messages" for name in tree.find_all(nodes.Name)):
        raise TemplateProblem("it does not use `messages`, so every prompt would be the same")


def from_tokenizer_config(text: str) -> TemplateSource:
    """Return the chat template and the special tokens of a tokenizer_config.json.

    Raises:
        TemplateProblem: it is no such file, or has no chat template.
    """
    try:
        config = json.loads(text)
    except ValueError as exc:
        raise TemplateProblem(f"not JSON: {exc}") from exc
    if not isinstance(config, dict):
        raise TemplateProblem("not a JSON object")
    template = config.get("chat_template")
    if isinstance(template, list):  # several, by name: for tools, for retrieval, and the plain one
        named = {
            item.get("name"): item.get("template") for item in template if isinstance(item, dict)
        }
        template = named.get("default")
    if not isinstance(template, str) or not template.strip():
        raise TemplateProblem(
            "it has no chat_template; newer models have it in a file chat_template.jinja of its "
            "own, which goes into `jinja`"
        )
    tokens = {name: _token(config.get(name)) for name in _TOKENS}
    return TemplateSource(template, {name: token for name, token in tokens.items() if token})


def _token(value: Any) -> str:
    """Return a special token, which is a text or an object with its `content`."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else ""
