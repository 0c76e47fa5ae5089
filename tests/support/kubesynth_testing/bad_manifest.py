"""A job that has to be refused when it is created, and in what words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from kubesynth_testing.manifests import SMALL, Manifest, edited


@dataclasses.dataclass(frozen=True, slots=True)
class BadManifest:
    """A job, the field that the refusal has to name, and a part of its words.

    `unknown` is the field that no schema knows, if there is one: an API server that is asked to be
    strict complains of it and of nothing else.
    """

    name: str
    edits: Mapping[str, object]
    field: str
    message: str
    base: Manifest = dataclasses.field(default_factory=lambda: SMALL)
    unknown: str | None = None

    @property
    def manifest(self) -> Manifest:
        """The whole job."""
        return edited(self.base, self.edits)
