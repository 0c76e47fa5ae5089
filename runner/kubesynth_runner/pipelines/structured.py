"""Lists and JSON documents from a model.

A schema is asked for where the server can be held to it, the answer is parsed here in any case, and
one repair re-ask follows; then the failure is data.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from kubesynth_api.v1alpha1.stages.base import ShortList
from kubesynth_runner.llm.base import Completion, JsonSchemaFormat, Message
from kubesynth_runner.pipelines import json_text, lists, templates
from kubesynth_runner.pipelines.base import (
    StageFailure,
    StageLlm,
    accept_text,
    cut_off,
    is_cut_off,
)

if TYPE_CHECKING:
    import jsonschema

# A model that has not given enough items by then has no more.
MOST_FOLLOW_UPS = 3
# Items of a list whose length nobody has said.
USUAL_ITEMS = 5
_OBJECT_START = re.compile(r"""\{(?=\s*["}])""")


@dataclasses.dataclass(frozen=True, slots=True)
class ListRequest:
    """A list of texts: what its items are called, and how many are wanted (None: any number).

    `on_short_list` says what to do when there are fewer: take them, ask for the rest, or fail.
    `form` says what of the list an item is.
    """

    item_name: str
    count: int | None
    on_short_list: ShortList = "Accept"
    form: lists.Form = "Whole"

    @property
    def whole(self) -> bool:
        """Whether an item has all that is below it, such as code."""
        return self.form == "Whole"

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
        return JsonSchemaFormat(self.item_name, schema, bounds_are_told=True)


async def ask_list(llm: StageLlm, messages: tuple[Message, ...], request: ListRequest) -> list[str]:
    """Return distinct items, at most `count`.

    Raises:
        StageFailure: no items, not even in the answer to a second, plainer request; or too few of
            them, where that is not accepted.
    """
    items, text = await _first_items(llm, messages, request)
    if request.count is None:
        return items
    if request.on_short_list == "TopUp":
        items = await _top_up(llm, messages, request, items, text)
    elif request.on_short_list == "Fail" and len(items) < request.count:
        raise StageFailure(
            "TooFewItems", f"{len(items)} of {request.count} {request.item_name}", text
        )
    return items[: request.count]


async def _top_up(
    llm: StageLlm,
    messages: tuple[Message, ...],
    request: ListRequest,
    items: list[str],
    text: str,
) -> list[str]:
    """Ask for what is missing, until it is there or nothing new comes."""
    assert request.count is not None
    for _ in range(MOST_FOLLOW_UPS):
        missing = request.count - len(items)
        if missing <= 0:
            break
        rest = dataclasses.replace(request, count=missing)
        more = templates.PromptTemplate.compile(templates.load("list_more.v2.user"))
        follow_up = more.render({"context": rest})
        messages = (*messages, Message("assistant", text), *follow_up)
        completion = await llm.complete(
            messages, rest.response_format() if llm.json_schema else None
        )
        if completion.refusal is not None or not completion.text.strip():
            break
        text = completion.text.strip()
        longer = lists.distinct([*items, *_items(completion, rest)])
        if len(longer) == len(items):
            break
        items = longer
    return items


async def _first_items(
    llm: StageLlm, messages: tuple[Message, ...], request: ListRequest
) -> tuple[list[str], str]:
    """Return distinct items, however many, and the text that they were read from."""
    response_format = request.response_format() if llm.json_schema else None
    completion = await llm.complete(messages, response_format)
    text = accept_text(completion)
    items = lists.distinct(_items(completion, request))
    if not items:
        repair = _repair("list_repair.v2.user", messages, completion, request)
        completion = await llm.complete(repair, response_format)
        text = accept_text(completion)
        items = lists.distinct(_items(completion, request))
    if not items and is_cut_off(completion):
        raise cut_off(f"the first of the {request.item_name}", text)
    if not items:
        raise StageFailure("UnparsableCompletion", f"no list of {request.item_name} in it", text)
    return items, text


def _items(completion: Completion, request: ListRequest) -> list[str]:
    return lists.parse(
        completion.text,
        request.count,
        item_name=request.item_name,
        is_cut_off=is_cut_off(completion),
        form=request.form,
    )


async def ask_json(
    llm: StageLlm,
    messages: tuple[Message, ...],
    schema: Mapping[str, Any],
    *,
    bounds_are_told: bool = False,
    sent: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a JSON object that fits a schema.

    `bounds_are_told`: the messages say what its bounds are. `sent` is what the server is held to,
    where that is to be less.

    Raises:
        StageFailure: the answer does not, nor the answer to the repair request.
    """
    import jsonschema  # only jobs with a schema wait for it

    validator = jsonschema.Draft202012Validator(dict(schema))
    wanted = JsonSchemaFormat("output", sent or schema, bounds_are_told)
    response_format = wanted if llm.json_schema else None
    completion = await llm.complete(messages, response_format)
    problem, value = _check(accept_text(completion), validator)
    if value is None:
        repair = _repair("json_repair.v1.user", messages, completion, problem)
        completion = await llm.complete(repair, response_format)
        problem, value = _check(accept_text(completion), validator)
    if value is None and is_cut_off(completion):
        raise cut_off("the JSON document", completion.text)
    if value is None:
        raise StageFailure("UnparsableCompletion", problem, completion.text)
    return value


def _check(
    text: str, validator: jsonschema.Draft202012Validator
) -> tuple[str, dict[str, Any] | None]:
    import jsonschema

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
        value, _ = _DECODER.raw_decode(json_text.mend(text[start.start() :]))
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
