"""Turning the messages of a request into one prompt, for servers that take nothing else.

A chat template is Jinja2 in Hugging Face's dialect, from a model's own tokenizer configuration or
one of the built-in formats in `chat_templates/`. Each of those is written from what its model's
makers have published:

    ChatML       OpenAI's chatml.md (2023); Qwen2.5 and SmolLM2 model cards
    Gemma        ai.google.dev, "Gemma formatting and system instructions": no system role
    Llama3       llama.com, "Model cards & prompt formats", Llama 3.1
    Mistral      mistral.ai's cookbook, "Chat templating": system text in the user's turn
    Nemotron4    Nemotron-4-340B-Instruct's model card
    Phi3, Phi4   the model cards of Phi-3-mini-4k-instruct and phi-4
    Plain        of our own: System:, User: and Assistant: before the turns
    PassThrough  of our own: the texts alone

Not every family has a system role. Where a template refuses one, or leaves its text out, the system
text is put before the first user turn, with a blank line between them.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from typing import Any, NoReturn

import jinja2

from kubesynth_api.chat_templates import (
    ENVIRONMENT_OPTIONS,
    TemplateProblem,
    TemplateSource,
    check,
    from_tokenizer_config,
)
from kubesynth_api.v1alpha1.protocols import ChatTemplate, JinjaText, TokenizerConfig
from kubesynth_runner.llm.base import Message
from kubesynth_runner.sandbox import RENDER_ERRORS, Sandbox

Render = Callable[[Sequence[Message]], str]

# Special tokens of the built-in formats, where they have any.
_BUILT_IN_TOKENS: Mapping[str, Mapping[str, str]] = {
    "Gemma": {"bos_token": "<bos>"},
    "Llama3": {"bos_token": "<|begin_of_text|>"},
    "Mistral": {"bos_token": "<s>", "eos_token": "</s>"},
}
_WITHOUT_SYSTEM_ROLE = frozenset({"Gemma", "Mistral"})
_SAMPLE_SYSTEM, _SAMPLE_USER = "kubesynth-system-sample", "kubesynth-user-sample"
_SAMPLES = (
    (Message("system", _SAMPLE_SYSTEM), Message("user", _SAMPLE_USER)),
    (
        Message("user", "kubesynth-first-sample"),
        Message("assistant", "kubesynth-answer-sample"),
        Message("user", _SAMPLE_USER),
    ),
)


@dataclasses.dataclass(frozen=True, slots=True)
class ChatPrompt:
    """A compiled chat template. Calling it turns messages into a prompt."""

    template: jinja2.Template
    variables: Mapping[str, Any]
    merges_system: bool
    left_out: str

    def __call__(self, messages: Sequence[Message]) -> str:
        """Return the prompt, up to where the assistant begins to speak.

        Raises:
            TemplateProblem: the template fails, or refuses these messages.
        """
        if self.merges_system:
            messages = merge_system(messages)
        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            prompt = self.template.render({**self.variables, "messages": turns})
        except RENDER_ERRORS as exc:
            raise TemplateProblem(str(exc) or type(exc).__name__) from exc
        return prompt.removeprefix(self.left_out) if self.left_out else prompt


def from_api(
    template: ChatTemplate, read: Callable[[JinjaText | TokenizerConfig], str]
) -> ChatPrompt | None:
    """Return what a manifest asks for, None where the server applies a template.

    Raises:
        TemplateProblem: the template does not work.
    """
    keep = template.begin_of_text == "InPrompt"
    if template.built_in is not None:
        return built_in(template.built_in, begin_of_text=keep)
    if template.jinja is not None:
        tokens = {"bos_token": template.bos_token or "", "eos_token": template.eos_token or ""}
        source = TemplateSource(read(template.jinja), tokens)
    elif template.tokenizer_config is not None:
        source = from_tokenizer_config(read(template.tokenizer_config))
    else:
        return None
    return from_source(source, begin_of_text=keep)


def built_in(name: str, *, begin_of_text: bool = False) -> ChatPrompt:
    """Return a built-in format by the name that the API has for it.

    `begin_of_text` keeps the token that the format begins with.
    """
    tokens = _BUILT_IN_TOKENS.get(name, {})
    template = _compile(_load(name))
    merges = name in _WITHOUT_SYSTEM_ROLE
    return ChatPrompt(template, _variables(tokens), merges, _left_out(tokens, begin_of_text))


def from_source(source: TemplateSource, *, begin_of_text: bool = False) -> ChatPrompt:
    """Compile a model's own template and try it on sample conversations.

    Raises:
        TemplateProblem: it does not compile, it fails, or it leaves the user's text out.
    """
    check(source.text)
    prompt = ChatPrompt(
        _compile(source.text),
        _variables(source.tokens),
        merges_system=False,
        left_out=_left_out(source.tokens, begin_of_text),
    )
    if not _takes_system(prompt):
        prompt = dataclasses.replace(prompt, merges_system=True)
    for sample in _SAMPLES:
        rendered = prompt(sample)
        for message in sample:
            if message.content not in rendered:
                raise TemplateProblem(f"it leaves out what the {message.role} says")
    return prompt


def merge_system(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return a conversation whose system text is part of its first user turn."""
    system = [message.content for message in messages if message.role == "system"]
    turns = [message for message in messages if message.role != "system"]
    if not system:
        return tuple(turns)
    for index, turn in enumerate(turns):
        if turn.role == "user":
            turns[index] = Message("user", "\n\n".join((*system, turn.content)))
            return tuple(turns)
    return (Message("user", "\n\n".join(system)), *turns)


def _takes_system(prompt: ChatPrompt) -> bool:
    try:
        return _SAMPLE_SYSTEM in prompt(_SAMPLES[0])
    except TemplateProblem:
        return False


def _variables(tokens: Mapping[str, str]) -> Mapping[str, Any]:
    return {"bos_token": "", "eos_token": "", **tokens, "add_generation_prompt": True}


def _left_out(tokens: Mapping[str, str], begin_of_text: bool) -> str:
    return "" if begin_of_text else tokens.get("bos_token", "")


@functools.cache
def _load(name: str) -> str:
    folder = resources.files("kubesynth_runner.llm") / "chat_templates"
    return (folder / f"{name}.jinja").read_text(encoding="utf-8").strip()


def _compile(text: str) -> jinja2.Template:
    try:
        template = _environment().from_string(text)
    except jinja2.TemplateError as exc:
        raise TemplateProblem(str(exc)) from exc
    # Jinja merges them into each context; out of its ChainMap that takes longer than all the rest.
    template.globals = dict(template.globals)
    return template


@functools.cache
def _environment() -> jinja2.Environment:
    environment = Sandbox(autoescape=False, optimized=False, **ENVIRONMENT_OPTIONS)
    # One day for the whole process, so that equal messages make equal prompts past midnight too.
    today = datetime.now(UTC)
    environment.globals["strftime_now"] = today.strftime
    environment.globals["raise_exception"] = _raise_exception
    environment.filters["tojson"] = _to_json
    return environment


def _raise_exception(message: object) -> NoReturn:
    raise jinja2.TemplateError(str(message))


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return JSON as Hugging Face's environment does: no HTML escapes, keys as they come."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
