"""Reads the spec of an object, also one that a newer CRD has filled in. Pure.

The API server adds the defaults of its CRD to whatever it hands out. While CRDs are newer than the
operator (for a moment in every upgrade, for longer where they are installed apart from it), even
objects that were accepted long ago have fields that it has never heard of.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from kubesynth_api.conditions import ConditionType

_SHOWN = 5
_UNKNOWN = "extra_forbidden"

Spec = TypeVar("Spec", bound=BaseModel)


def parse(model: type[Spec], raw: Mapping[str, Any]) -> tuple[Spec | None, str]:
    """Return the spec of a manifest, or None and why it was not understood.

    Unknown fields are ignored in what was accepted as it stands, since it was without them then.
    Elsewhere they are refused: they may say what must not be done otherwise.
    """
    spec = raw.get("spec") or {}
    try:
        return model.model_validate(spec), ""
    except ValidationError as exc:
        complaint = _complaint(exc)
        unknown = [error["loc"] for error in exc.errors() if error["type"] == _UNKNOWN]
        if len(unknown) < exc.error_count() or not _is_accepted(raw):
            return None, complaint
    try:
        return model.model_validate(_without(spec, unknown)), ""
    except (ValidationError, LookupError, TypeError, RecursionError):
        return None, complaint


def _is_accepted(raw: Mapping[str, Any]) -> bool:
    """Tell whether the spec as it stands was accepted."""
    generation = raw["metadata"].get("generation", 1)
    return any(
        condition.get("type") == ConditionType.ACCEPTED
        and condition.get("status") == "True"
        and condition.get("observedGeneration") == generation
        for condition in (raw.get("status") or {}).get("conditions") or ()
    )


def _without(spec: Mapping[str, Any], places: Sequence[tuple[int | str, ...]]) -> dict[str, Any]:
    left: dict[str, Any] = copy.deepcopy(dict(spec))
    for *parents, field in places:
        found: Any = left
        for part in parents:
            found = found[part]
        del found[field]
    return left


def _complaint(exc: ValidationError) -> str:
    errors = exc.errors(include_url=False, include_input=False)[:_SHOWN]
    return "; ".join(
        f"{'.'.join(str(part) for part in ('spec', *error['loc']))}: {_said(error)}"
        for error in errors
    )


def _said(error: Mapping[str, Any]) -> str:
    if error["type"] == _UNKNOWN:
        return "this version of the operator has no such field (are the CRDs newer than it?)"
    return str(error["msg"])
