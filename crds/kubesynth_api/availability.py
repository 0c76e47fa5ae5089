"""Fields that the API has and this version does not carry out yet.

Such a field is refused, never ignored. Whoever makes one work deletes its line here.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

from kubesynth_api.conditions import Reason
from kubesynth_api.field_paths import walk
from kubesynth_api.findings import Finding
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec


@dataclasses.dataclass(frozen=True, slots=True)
class _Pending:
    """A field by its path, [*] for any index and a leading * for any parents.

    Values in `harmless` ask for nothing that is not there.
    """

    field: str
    harmless: tuple[object, ...] = ()


_PENDING = (
    _Pending("spec.output.split"),
    _Pending("spec.output.exports", harmless=((),)),
)
PENDING_FIELDS = tuple(pending.field for pending in _PENDING)

_INDEX = re.compile(r"\[\d+\]")


def check(spec: SyntheticDataJobSpec) -> Iterator[Finding]:
    """Yield a finding for everything that this version lacks."""
    for path, value in walk(spec, "spec"):
        pattern = _INDEX.sub("[*]", path)
        if any(_is_meant(pending, pattern, value) for pending in _PENDING):
            shown = f"{value} " if isinstance(value, str) else ""
            yield _lacking(path, f"{shown}is not available in this version; remove it")


def _is_meant(pending: _Pending, pattern: str, value: object) -> bool:
    if pending.field.startswith("*"):
        same = pattern.endswith(pending.field[1:])
    else:
        same = pattern == pending.field
    return same and value not in pending.harmless


def _lacking(path: str, message: str) -> Finding:
    return Finding(path, Reason.NOT_IMPLEMENTED, message)
