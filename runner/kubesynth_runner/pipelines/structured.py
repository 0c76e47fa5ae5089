"""Lists and JSON documents from a model.

A schema is asked for where the server can be held to it, the answer is parsed here in any case, and
one repair re-ask follows; then the failure is data.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

import jsonschema
import msgspec

from kubesynth_runner.llm.base import Completion, JsonSchemaFormat, Message
from kubesynth_runner.pipelines import lists, templates
from kubesynth_runner.pipelines.base import StageFailure, StageLlm, accept_text

_OBJECT_START = re.compile(r"""\{(?=\s*["}])""")


@dataclasses.dataclass(frozen=True, slots=True)
class ListRequest:
    """A list of texts: what its items are called, and how many are wanted (None: any number)."""

    item_name: str
    count: int | None

    def response_format(self) -> JsonSchemaFormat:
        """Return the schema of an object whose one property is the list."""
        items: dict[str, Any] = {"type": "array", "items": {"type": "string", "minLength": 1}}
        if self.count is not None:
            items |= {"minItems": self.count, "maxItems": self.count}
        else:
            items |= {"minItems": 1}
        schema = {
            "type": "object",
            "properties": {self.item_name: items},
            "required": [self.item_name],
            "additionalProperties": False,
        }
        return JsonSchemaFormat(self.item_name, schema)


async def ask_list(
    llm: StageLlm, messages: tuple[Message, ...], request: ListRequest
) -> tuple[list[str], str]:
    """Return distinct items, at most `count`, and the text that they were read from.

    Raises:
        StageFailure: no items, not even in the answer to a second, plainer request.
    """
    response_format = request.response_format() if llm.json_schema else None
    completion = await llm.complete(messages, response_format)
    text = accept_text(completion)
    items = lists.distinct(lists.parse(text, request.count))
    if not items:
        repair = _repair("list_repair.v1.user", messages, completion, request)
        text = accept_text(await llm.complete(repair, response_format))
        items = lists.distinct(lists.parse(text, request.count))
    if not items:
        raise StageFailure("UnparsableCompletion", f"no list of {request.item_name} in it", text)
    return items[: request.count], text


async def ask_json(
    llm: StageLlm, messages: tuple[Message, ...], schema: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a JSON object that fits a schema.

    Raises:
        StageFailure: the answer does not, nor the answer to the repair request.
    """
    validator = jsonschema.Draft202012Validator(dict(schema))
    response_format = JsonSchemaFormat("output", schema) if llm.json_schema else None
    completion = await llm.complete(messages, response_format)
    problem, value = _check(accept_text(completion), validator)
    if value is None:
        repair = _repair("json_repair.v1.user", messages, completion, problem)
        completion = await llm.complete(repair, response_format)
        problem, value = _check(accept_text(completion), validator)
    if value is None:
        raise StageFailure("UnparsableCompletion", problem, completion.text)
    return value


def _check(
    text: str, validator: jsonschema.Draft202012Validator
) -> tuple[str, dict[str, Any] | None]:
    try:
        value = _find_object(text)
        error = jsonschema.exceptions.best_match(validator.iter_errors(value))
    except ValueError as exc:
        return str(exc), None
    except RecursionError:
        return "nested too deeply", None
    if error is not None:
        return f"does not fit the schema at {error.json_path}: {error.message:.300}", None
    return "", value


def _find_object(text: str) -> dict[str, Any]:
    """Return the first JSON object in a text; there may be words or a fence around it.

    Raises:
        ValueError: there is none.
    """
    start = _OBJECT_START.search(text)
    if start is None:
        raise ValueError("there is no JSON object in it")
    try:
        value, _ = _DECODER.raw_decode(text, start.start())
        # Half of an escaped surrogate pair is no text, and cannot be stored as one.
        msgspec.json.encode(value)
    except (ValueError, OverflowError) as exc:
        raise ValueError(f"not JSON: {exc}") from exc
    assert isinstance(value, dict), "it begins with a brace"
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


# Models write line breaks into strings.
_DECODER = json.JSONDecoder(strict=False, parse_constant=_refuse_constant)


def _repair(
    prompt: str, messages: tuple[Message, ...], completion: Completion, context: object
) -> tuple[Message, ...]:
    template = templates.PromptTemplate.compile(templates.load(prompt))
    again = template.render({"context": context})
    return (*messages, Message("assistant", completion.text), *again)
