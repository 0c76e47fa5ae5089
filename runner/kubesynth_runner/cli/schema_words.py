"""What a schema finds wrong, in words that say what to write instead."""

from __future__ import annotations

import difflib
import inspect
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pydantic

from kubesynth_api.v1alpha1.runner_pods import QUANTITY_PATTERN

_WORDS_BY_ERROR_TYPE = {
    "missing": "is required",
    # It was written by ourselves a moment ago: the parser refuses nothing else about it.
    "json_invalid": "nested too deeply",
}
# What is written where only a name, a path or a text was given, by the model's name.
_SHAPES = {
    "InputSpec": "{uri: URI}",
    "KeySelector": "{name: NAME, key: KEY}",
    "NameReference": "{name: NAME}",
    "OutputSpec": "{uri: URI}",
    "PromptText": "{inline: TEXT}",
    "SecretValue": "{secretKeyRef: {name: SECRET, key: KEY}}",
    "TextSource": "{configMapKeyRef: {name: NAME, key: KEY}} or {secretKeyRef: ...}",
}


def describe(error: Mapping[str, Any], root: type[pydantic.BaseModel]) -> str:
    """Return what to do about one of pydantic's errors about a document of the kind `root`."""
    context = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return _unknown_field(error["loc"], root)
        case "model_type":
            shape = _SHAPES.get(str(context.get("class_name")))
            return f"must be an object: write {shape}" if shape else "must be an object"
        case "string_pattern_mismatch" if context.get("pattern") == QUANTITY_PATTERN:
            return "must be a quantity such as 500m, 2 or 2Gi (there is no GB)"
        case kind:
            message = str(error["msg"])
            return _WORDS_BY_ERROR_TYPE.get(kind) or message[:1].lower() + message[1:]


def _unknown_field(location: Sequence[int | str], root: type[pydantic.BaseModel]) -> str:
    name = str(location[-1])
    known = [
        field.alias or own
        for model in _models_at(location[:-1], root)
        for own, field in model.model_fields.items()
    ]
    by_lower = {alias.lower(): alias for alias in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1)
    if close:
        return f"there is no such field; is it {by_lower[close[0]]}?"
    return "there is no such field; is it mistyped, or indented wrongly?"


def _models_at(
    location: Sequence[int | str], root: type[pydantic.BaseModel]
) -> list[type[pydantic.BaseModel]]:
    """Return the models that may stand at a place of a document; none if it is in a free map."""
    models = [root]
    for part in location:
        if isinstance(part, int):
            continue
        inner = [
            found
            for model in models
            for own, field in model.model_fields.items()
            if part in (field.alias, own)
            for found in _models_in(field.annotation)
        ]
        # A key of a map stands for itself: what is in it, the field has told.
        models = inner or models
    return models


def _models_in(annotation: Any) -> Iterator[type[pydantic.BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, pydantic.BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _models_in(inner)
