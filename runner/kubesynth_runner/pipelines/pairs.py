"""Questions with their answers out of free text: JSON, or lines with labels in many forms."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from kubesynth_runner.pipelines import json_text, labelled_pairs, lists

Pair = tuple[str, str]

_START = re.compile(r"[\[{]\s*[\[{\"\]]")
_OBJECT = re.compile(r"\{(?=\s*[\"}])")
# Of one answer. Each costs what is behind it.
_MOST_BROKEN_OBJECTS = 256


def parse(text: str, *, is_cut_off: bool = False) -> list[Pair]:
    """Return the pairs in a text, in order; a question without an answer is none.

    Of a text that `is_cut_off` the last one may be half a pair, and is left out.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    found = list(_of_json(json_text.mend(text))) or labelled_pairs.find(text)
    found = found[:-1] if is_cut_off else found
    pairs = {lists.fold(question): (question, answer) for question, answer in reversed(found)}
    return list(reversed(pairs.values()))


def _of_json(text: str) -> Iterator[Pair]:
    start = _START.search(text)
    if start is None:
        return
    decoder = json.JSONDecoder(strict=False)
    position = start.start()
    broken = 0
    while position < len(text) and broken < _MOST_BROKEN_OBJECTS:
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            # Cut off, or a comma too many: on with the next object that is whole.
            broken += 1
            following = _OBJECT.search(text, position + 1)
            if following is None:
                return
            position = following.start()
            continue
        yield from _of_value(value)
        start = _START.search(text, position)
        if start is None:
            return
        position = start.start()


def _of_value(value: Any) -> Iterator[Pair]:
    if isinstance(value, list):
        for entry in value:
            yield from _of_value(entry)
    elif isinstance(value, dict):
        fields = {str(key).lower(): entry for key, entry in value.items()}
        question = fields.get("question", fields.get("q"))
        answer = fields.get("answer", fields.get("a"))
        if isinstance(question, str) and isinstance(answer, str | int | float):
            if question.strip() and str(answer).strip():
                yield _text(question), _text(str(answer))
        else:
            for entry in fields.values():
                if isinstance(entry, list | dict):
                    yield from _of_value(entry)


def _text(value: str) -> str:
    # Half of an escaped surrogate pair is no text.
    return value.strip().encode("utf-8", "ignore").decode()
