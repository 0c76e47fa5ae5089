"""The base of every API model, and the pieces its schema is made of.

A model here is the single source of one object of the CRD: `kubesynth_api.crd` turns it into a
structural OpenAPI v3 schema, pydantic parses it on the operator's and the runner's side.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError


@dataclasses.dataclass(frozen=True, slots=True)
class CelRule:
    """One entry of `x-kubernetes-validations`.

    `field_path` (relative, as `.spec`) moves the error to the field that a user has to change.
    `holds` says the same in Python, about the model, for those who have no API server at hand; a
    rule about a change (with oldSelf) has none. `explain` may then say more than `message`: what
    exactly is wrong with this model. Nothing if it does not know better.
    """

    rule: str
    message: str
    field_path: str | None = None
    holds: Callable[[Any], bool] | None = None
    explain: Callable[[Any], str] = lambda _: ""


def exactly_one_of(*fields: str, hint: str = "") -> CelRule:
    """Return the rule of a union: one of `fields`, named as in the manifest, and only one."""
    members = ", ".join(f"has(self.{field})" for field in fields)
    names = ", ".join(fields[:-1]) + f" and {fields[-1]}"
    return CelRule(
        f"[{members}].filter(x, x).size() == 1",
        f"exactly one of {names} must be set{hint}",
        holds=lambda model: sum(_is_set(model, field) for field in fields) == 1,
        explain=lambda model: _explain_union(model, fields),
    )


def _explain_union(model: ApiModel, fields: tuple[str, ...]) -> str:
    given = [field for field in fields if _is_set(model, field)]
    if len(given) > 1:
        names = ", ".join(given[:-1]) + f" and {given[-1]}"
        return f"{names} are set in one place, where only one may be{model.union_hint}"
    # YAML's `answer:` is null, and so is nothing at all.
    empty = [field for field in fields if _is_null(model, field)]
    if len(empty) == 1 and not given:
        return f"{empty[0]} is empty; if it has nothing to be set, write `{empty[0]}: {{}}`"
    return ""


def matches(
    field: str,
    pattern: str,
    message: str,
    advice: Callable[[str], str] = lambda _: "",
    *,
    attribute: str | None = None,
) -> CelRule:
    """Return the rule that a text field matches a pattern, with a message of its own.

    The pattern is RE2 and Python at once, anchored by itself. `advice` may add what to do about a
    value. `attribute` is what Python calls the field, if another name.
    """

    def value(model: ApiModel) -> str:
        text: str = getattr(model, attribute or field)
        return text

    def explain(model: ApiModel) -> str:
        said = advice(value(model))
        return f"{message}; {said}" if said else ""

    return CelRule(
        f"self.{field}.matches(r'{pattern}')",
        message,
        f".{field}",
        lambda model: re.search(pattern, value(model)) is not None,
        explain,
    )


def is_column_name(name: str) -> bool:
    """Tell whether a name fits `ColumnName`."""
    return len(name) <= _COLUMN_MAX_LENGTH and re.search(_COLUMN_PATTERN, name) is not None


def _is_set(model: ApiModel, alias: str) -> bool:
    """Tell whether the field that a manifest calls `alias` is there."""
    return any(
        field.alias == alias and getattr(model, name) is not None
        for name, field in type(model).model_fields.items()
    )


def _is_null(model: ApiModel, alias: str) -> bool:
    """Tell whether the manifest names a field and gives it no value."""
    return any(
        field.alias == alias and name in model.model_fields_set and getattr(model, name) is None
        for name, field in type(model).model_fields.items()
    )


class ApiModel(BaseModel):
    """A frozen object with camelCase fields that refuses what it does not know.

    Subclasses list their CEL rules in `cel`; a rule's `self` is the object itself.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_enum_values=False,
        protected_namespaces=(),
        # A process uses few of the models, and building all of them takes half a second.
        defer_build=True,
    )

    cel: ClassVar[tuple[CelRule, ...]] = ()
    # What to do where several members of a union are set.
    union_hint: ClassVar[str] = ""

    @classmethod
    def from_wire(cls, value: object) -> Self:
        """Parse a manifest as the API server would: camelCase names alone, and "5" is no number.

        Raises:
            pydantic.ValidationError: it does not fit; each error has its place in `value`.
        """
        return cls.model_validate_json(json.dumps(value), strict=True, by_alias=True, by_name=False)

    @classmethod
    def from_peer(cls, body: str | bytes) -> Self:
        """Parse the JSON that another build of the project sends; what is new in it is left out.

        Operator and runners are of different builds while one of them is upgraded, or taken back.

        Raises:
            pydantic.ValidationError: what is known here does not fit.
        """
        return cls.model_validate_json(body, extra="ignore")

    def to_wire(self) -> dict[str, Any]:
        """Return the object as the API server stores it: camelCase, unset fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


# Parsers of JSON give up at 200 levels (pydantic's) or at 1,000 (Python's), and what one part has
# read the next must be able to read, too. The API server itself takes 10,000.
_JSON_LEVELS = 100


def _of_bounded_depth(value: dict[str, Any]) -> dict[str, Any]:
    level: list[Any] = [value]
    for _ in range(_JSON_LEVELS):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return value
    raise PydanticCustomError(
        "too_deep",
        "nested too deeply: at most {levels} objects and lists in one another",
        {"levels": _JSON_LEVELS},
    )


# Object names as they appear in other objects (RFC 1123 subdomain; Secrets, ConfigMaps, PVCs).
ObjectName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    ),
]
# RFC 1035 label: a name that other names, hosts and environment variables are derived from.
LabelName = Annotated[str, Field(min_length=1, pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$")]
# A key in a Secret's or ConfigMap's data.
DataKey = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
# A column of a record: also a Jinja2 variable, so an identifier.
_COLUMN_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"
_COLUMN_MAX_LENGTH = 63
ColumnName = Annotated[
    str, Field(min_length=1, max_length=_COLUMN_MAX_LENGTH, pattern=_COLUMN_PATTERN)
]
# An object whose content Kubernetes or a server knows better than we do.
JsonObject = Annotated[dict[str, Any], Field(max_length=64), AfterValidator(_of_bounded_depth)]
# Long enough for any object-store key (1024 bytes) with its scheme and bucket.
Uri = Annotated[str, Field(min_length=1, max_length=1200)]
