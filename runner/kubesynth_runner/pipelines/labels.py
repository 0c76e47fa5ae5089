"""One label of a closed set out of a model's answer."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from kubesynth_runner.llm.base import JsonSchemaFormat, Message
from kubesynth_runner.pipelines import templates
from kubesynth_runner.pipelines.base import StageFailure, StageLlm, accept_text

_LEAD = re.compile(
    r"\A[\s\W]{0,8}(?:the\s+)?(?:final\s+)?(?:label|answer|class|category|classification)"
    r"(?:\s+is)?\s*[:=]?\s*",
    re.IGNORECASE,
)
_EDGES = " \t\r\n\"'`*_.,:;!()[]{}<>#-\u201c\u201d\u2013\u2014"
_FIELDS = ("label", "answer", "class", "category")


async def ask_label(
    llm: StageLlm, messages: tuple[Message, ...], labels: Sequence[str]
) -> tuple[str, str]:
    """Return a label of the set, and the answer that it was read from.

    Raises:
        StageFailure: no answer names one, not even that to a second, plainer request.
    """
    wanted = response_format(labels) if llm.json_schema else None
    completion = await llm.complete(messages, wanted)
    text = accept_text(completion)
    label = parse(text, labels)
    if label is None:
        repair = templates.PromptTemplate.compile(templates.load("label_repair.v1.user"))
        again = repair.render({"labels": labels})
        messages = (*messages, Message("assistant", completion.text), *again)
        text = accept_text(await llm.complete(messages, wanted))
        label = parse(text, labels)
    if label is None:
        raise StageFailure(
            "UnparsableCompletion", f"names none of the labels {', '.join(labels)}", text
        )
    return label, text


def parse(text: str, labels: Sequence[str]) -> str | None:
    """Return the one label that an answer gives, or None if it gives none or several.

    It counts where the answer is it, begins with it, or says it as the only one.
    """
    known = {_fold(label): label for label in labels}
    said = _of_json(text)
    if said is not None:
        return known.get(_fold(said))
    first_line, _, _ = text.strip().partition("\n")
    for candidate in (text, first_line, _LEAD.sub("", first_line), _LEAD.sub("", text)):
        if _fold(candidate) in known:
            return known[_fold(candidate)]
    # Longest first: "not math" before "math".
    pattern = re.compile(
        "|".join(rf"(?<!\w){re.escape(label)}(?!\w)" for label in sorted(known, key=len)[::-1])
    )
    start = _fold(_LEAD.sub("", first_line))
    beginning = pattern.match(start)
    if beginning is not None:
        return known[beginning[0]]
    mentioned = {match[0] for match in pattern.finditer(_fold(text))}
    return known[mentioned.pop()] if len(mentioned) == 1 else None


def _fold(text: str) -> str:
    return " ".join(text.strip(_EDGES).casefold().split())


def _of_json(text: str) -> str | None:
    """Return the label in a JSON object, or None if the answer is no such object."""
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        return None
    try:
        value = json.loads(text[start : end + 1])
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    fields = {str(key).lower(): entry for key, entry in value.items()}
    for name in _FIELDS:
        if isinstance(fields.get(name), str):
            return str(fields[name])
    return None


def response_format(labels: Sequence[str]) -> JsonSchemaFormat:
    """Return the schema of an object whose one property is a label."""
    return JsonSchemaFormat(
        "label",
        {
            "type": "object",
            "properties": {"label": {"type": "string", "enum": list(labels)}},
            "required": ["label"],
            "additionalProperties": False,
        },
    )
