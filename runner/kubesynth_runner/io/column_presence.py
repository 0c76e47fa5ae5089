"""Which columns the input has at all: a mistyped name is found out before anything is paid for."""

from __future__ import annotations

from collections.abc import Iterable

from kubesynth_api.conditions import Reason
from kubesynth_api.v1alpha1.storage import InputSpec
from kubesynth_runner import errors

# Of those that are there, in a message.
_MAX_NAMED = 20


class ColumnPresence:
    """The columns that records cannot do without, until one has them. Used by several threads."""

    def __init__(self, spec: InputSpec) -> None:
        self._uri = spec.uri
        self._missing = _required(spec)
        self._seen: dict[str, None] = {}

    @property
    def is_settled(self) -> bool:
        """True as soon as each column has been seen; then nothing need be looked at any more."""
        return not self._missing

    def see(self, columns: Iterable[str]) -> None:
        """Take note of the columns of a record, or of a file that has records."""
        if self._missing:
            for name in columns:
                self._missing.pop(name, None)
                if len(self._seen) <= _MAX_NAMED:
                    self._seen[name] = None

    def check(self) -> None:
        """Refuse an input without a column that every record needs.

        An input of which no record could be read is not refused: each says what is wrong with it.

        Raises:
            ConfigurationError: InvalidSpec, with the columns that are there.
        """
        if not self._missing or not self._seen:
            return
        column, field = next(iter(self._missing.items()))
        names = [*self._seen][:_MAX_NAMED]
        more = ", ..." if len(self._seen) > _MAX_NAMED else ""
        raise errors.ConfigurationError(
            Reason.INVALID_SPEC,
            f"{field}: no record of {self._uri} has a column {column!r}; there "
            f"{'are' if len(names) > 1 else 'is'} {', '.join(names)}{more}",
        )


def _required(spec: InputSpec) -> dict[str, str]:
    """Return the columns of the files that each record needs, with the field that names them."""
    required = {original: f"input.columns.{name}" for name, original in spec.columns.items()}
    if spec.text_column not in spec.columns:
        required[spec.text_column] = "input.textColumn"
    if spec.id_column is not None:
        required[spec.id_column] = "input.idColumn"
    return required
