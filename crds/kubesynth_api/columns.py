"""Which columns a record has at each stage, as far as the manifest alone can tell."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from kubesynth_api import input_formats
from kubesynth_api.v1alpha1.stages.base import LlmStage, StageSpec
from kubesynth_api.v1alpha1.storage import InputSpec
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec

# Written into every row beside the user's columns.
RESERVED_COLUMNS = frozenset({"id", "parent_id", "root_id", "source", "provenance"})


@dataclasses.dataclass(frozen=True, slots=True)
class Columns:
    """Columns that a record certainly has; unless `closed`, it may have any other too."""

    known: frozenset[str]
    closed: bool

    def lacks(self, name: str) -> bool:
        """Tell whether a record certainly has no such column."""
        return self.closed and name not in self.known


def is_text(source: InputSpec) -> bool:
    """Tell whether the input certainly is text files, whose one column is the text."""
    if source.format != "Auto":
        return source.format == "Text"
    return input_formats.of_name(source.uri) == "Text"


def of_input(source: InputSpec) -> Columns:
    """Return the columns of an input record: any, unless the manifest lists them."""
    known = {source.text_column, *source.columns}
    if source.id_column is not None:
        known.add(source.id_column)
    return Columns(frozenset(known), closed=bool(source.columns) or is_text(source))


def added_by(member: StageSpec) -> frozenset[str]:
    """Return the columns that a stage adds or replaces."""
    added = set(member.adds().values())
    if isinstance(member, LlmStage) and member.reasoning_column is not None:
        added.add(member.reasoning_column)
    return frozenset(added)


def of_spec(spec: SyntheticDataJobSpec) -> Columns:
    """Return the columns of the records that the pipeline starts from."""
    if spec.input is not None:
        return of_input(spec.input)
    # Replayed records come with the columns that they failed with.
    return Columns(frozenset(), closed=spec.retry_failed is None)


def at_each_stage(spec: SyntheticDataJobSpec) -> Iterator[Columns]:
    """Yield, for each stage of the pipeline, the columns of the records that reach it."""
    columns = of_spec(spec)
    for stage in spec.pipeline:
        yield columns
        columns = dataclasses.replace(
            columns, known=columns.known | set(stage.member.adds().values())
        )
