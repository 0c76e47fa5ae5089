"""The base of every API model, and the pieces its schema is made of.

A model here is the single source of one object of the CRD: `kubesynth_api.crd` turns it into a
structural OpenAPI v3 schema, pydantic parses it on the operator's and the runner's side.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


@dataclasses.dataclass(frozen=True, slots=True)
class CelRule:
    """One entry of `x-kubernetes-validations`.

    `field_path` (relative, as `.spec`) moves the error to the field that a user has to change.
    """

    rule: str
    message: str
    field_path: str | None = None
    message_expression: str | None = None


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
    )

    cel: ClassVar[tuple[CelRule, ...]] = ()

    def to_wire(self) -> dict[str, Any]:
        """Return the object as the API server stores it: camelCase, unset fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


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
ColumnName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
# Long enough for any object-store key (1024 bytes) with its scheme and bucket.
Uri = Annotated[str, Field(min_length=1, max_length=1200)]
