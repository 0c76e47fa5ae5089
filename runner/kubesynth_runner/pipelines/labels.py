"""One label of a closed set out of a model's answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence

from kubesynth_runner.llm.base import JsonSchemaFormat, Message
from kubesynth_runner.pipelines import json_text, templates
from kubesynth_runner.pipelines.base import (
    StageFailure,
    StageLlm,
    accept_text,
    cut_off,
    is_cut_off,
)

_LEAD = re.compile(
    r"\A[\s\W]{0,8}(?:the\s+)?(?:final\s+)?(?:label|answer|class|category|classification)"
    r"(?:\s+is)?\s*[:=]?\s*",
    re.IGNORECASE,
)
_EDGES = " \t\r\n\"'`*_.,:;!()[]{}<>#-\u201c\u201d\u2013\u2014"
_EDGE = f"[{re.escape(_EDGES)}]"
# What is said of something denies it: "not math", "I would not call this math", "non-toxic".
_DENIAL = re.compile(
    r"\b(?:not(?! only| just)|non|no|cannot|never|neither|nor|hardly|\w*n['\u2019]t)\b"
    r"(?:(?!\bbut\b)[^.!?;:,]){0,40}\Z"
)
_DENIAL_CHARACTERS = 60
# These are words of sentences, too: "There is no doubt that ..." gives no label.
_COMMON = frozenset({"yes", "no"})
_COMMON_BEFORE = re.compile(r"\s*(?:[.,;:!?)\]\"'*_`\u201d]|\Z)")
_NO_DOUBT = re.compile(r"\s+(?:doubt|question|wonder|problem)\b")
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
        completion = await llm.complete(messages, wanted)
        text = accept_text(completion)
        label = parse(text, labels)
    if label is None and is_cut_off(completion):
        raise cut_off("the label", text)
    if label is None:
        raise StageFailure(
            "UnparsableCompletion", f"names none of the labels {', '.join(labels)}", text
        )
    return label, text


def parse(text: str, labels: Sequence[str]) -> str | None:
    """Return the one label that an answer gives, or None if it gives none or several.

    It counts where the answer is it, begins with it, or says it as the only one and does not deny
    it. Case, and what stands around a label or at its edges, count only where labels differ in
    nothing else.
    """
    said = _of_json(text)
    if said is not None:
        return _the_whole(said, labels)
    first_line, _, _ = text.strip().partition("\n")
    start = _LEAD.sub("", first_line)
    for candidate in (text, first_line, start, _LEAD.sub("", text)):
        label = _the_whole(candidate, labels)
        if label is not None:
            return label
    for fold in (_fold, _bare):
        known = _by_key(labels, fold)
        pattern = _any_of(known)
        beginning = re.match(rf"{_EDGE}*?{pattern}", _fold(start))
        if beginning is not None and not _NO_DOUBT.match(_fold(start), beginning.end()):
            return known[beginning[1]]
        mentioned = {match[1] for match in re.finditer(pattern, _fold(text)) if _is_meant(match)}
        if mentioned:
            return known[mentioned.pop()] if len(mentioned) == 1 else None
    return None


def _is_meant(match: re.Match[str]) -> bool:
    """Tell whether a label within a text is said of the entity, and not denied."""
    text, start = match.string, match.start()
    if match[1] in _COMMON and not _COMMON_BEFORE.match(text, match.end()):
        return False
    return _DENIAL.search(text[max(0, start - _DENIAL_CHARACTERS) : start]) is None


def _the_whole(text: str, labels: Sequence[str]) -> str | None:
    """Return the label that is all of a text, but for what stands around it."""
    for fold, said in ((_collapse, _collapse(text)), (_fold, _fold(text)), (_bare, _fold(text))):
        known = _by_key(labels, fold)
        longest = max(map(len, known), default=0)
        core = _with_short_edges(said, longest + 1)
        match = re.fullmatch(rf"{_EDGE}*?{_any_of(known)}{_EDGE}*", core)
        if match is not None:
            return known[match[1]]
    return None


def _with_short_edges(text: str, most: int) -> str:
    """Return a text with at most so many signs at either edge; one of signs alone as it is.

    No label reaches further into them, and each place that one could begin at costs a look at all.
    """
    core = text.strip(_EDGES)
    if not core:
        return text
    start = len(text) - len(text.lstrip(_EDGES))
    return text[max(0, start - most) : start + len(core) + most]


def _by_key(labels: Sequence[str], fold: Callable[[str], str]) -> dict[str, str | None]:
    """Return labels by what is left of them; None where that is the same of several."""
    known: dict[str, str | None] = {}
    for label in labels:
        key = fold(label)
        known[key] = label if known.get(key, label) == label else None
    return {key: label for key, label in known.items() if key}


def _any_of(known: Mapping[str, object]) -> str:
    """Return the pattern of one of the keys as a word of its own: "not math" before "math"."""
    keys = sorted(known, key=len, reverse=True)
    return rf"(?<!\w)({'|'.join(map(re.escape, keys)) or '(?!)'})(?!\w)"


def _collapse(text: str) -> str:
    return " ".join(text.split())


def _fold(text: str) -> str:
    return _collapse(text.casefold())


def _bare(text: str) -> str:
    return _fold(text).strip(_EDGES)


def _of_json(text: str) -> str | None:
    """Return the label in a JSON object, or None if the answer is no such object."""
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        return None
    try:
        value = json.loads(json_text.mend(text[start : end + 1]), strict=False)
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
