"""Which records a sample takes: a pure function of the seed and the record's id or place."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import xxhash

from kubesynth_api.v1alpha1.storage import InputSpec


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """Takes a share of records. The same record is taken whatever else is in the input."""

    threshold: int
    seed: int
    id_column: str | None

    def takes(self, uri: str, position: int, columns: dict[str, Any] | None) -> bool:
        """Tell whether a record is taken; `columns` is None for one that cannot be read."""
        user_id = None
        if self.id_column is not None and columns is not None:
            user_id = user_id_text(columns.get(self.id_column))
        name = f"place\0{uri}\0{position}" if user_id is None else f"id\0{user_id}"
        text = f"sample\0{self.seed}\0{name}".encode("utf-8", "surrogatepass")
        return xxhash.xxh3_64_intdigest(text) < self.threshold


def of(spec: InputSpec, seed: int | None) -> Sample | None:
    """Return the sample that an input asks for; None if it takes all records.

    `seed` is the job's; without one it is 0.
    """
    if spec.sample is None:
        return None
    return Sample(round(spec.sample.fraction * 2**64), seed or 0, spec.id_column)


def user_id_text(value: Any) -> str | None:
    """Return a user's id as text; numbers and texts that look the same are the same id."""
    if value is None or value == "":
        return None
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
