"""The reference page of a kind, in Markdown, from the schema that the API server has."""

from __future__ import annotations

from kubesynth_api.kinds import Kind
from kubesynth_api.schema import Schema


def reference_page(kind: Kind, schema: Schema) -> str:
    """Return the page of `kind`."""
    return f"# {kind.name}\n"
