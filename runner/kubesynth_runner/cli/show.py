"""`kubesynth show`: the first rows of a dataset as a table."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from kubesynth_runner import errors
from kubesynth_runner.cli.errors import CommandError
from kubesynth_runner.io import layout, plan_file, readers
from kubesynth_runner.io.contents import LocalContent
from kubesynth_runner.io.ledger import CommittedFile
from kubesynth_runner.io.schema import RESERVED_COLUMNS

CELL_CHARACTERS = 240


class _Manifest(msgspec.Struct, rename="camel"):
    """What is read of manifest.json."""

    complete: bool
    data: tuple[CommittedFile, ...]


_DECODER = msgspec.json.Decoder(_Manifest)


def show(output: str, row_count: int, *, all_columns: bool) -> int:
    """Print a table of the first `row_count` rows; lineage columns only with `all_columns`.

    Raises:
        CommandError: there is no dataset.
    """
    folder = Path(output.removeprefix("file://"))
    manifest = _load(folder)
    try:
        rows = list(_first_rows(folder, manifest, row_count))
    except errors.RunnerError as exc:
        raise CommandError(f"{output}: {exc}") from exc
    total = sum(file.rows for file in manifest.data)
    columns = [
        name for name in (rows[0] if rows else {}) if all_columns or name not in RESERVED_COLUMNS
    ]
    table = Table(show_lines=True)
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in columns))
    console = Console(width=None if sys.stdout.isatty() else 120)
    if columns:
        console.print(table, markup=False)
    part = "" if manifest.complete else ", incomplete"
    console.print(f"{len(rows)} of {total:,} rows in {folder}{part}", markup=False, highlight=False)
    return 0


def _load(folder: Path) -> _Manifest:
    path = folder / layout.MANIFEST
    try:
        return _DECODER.decode(path.read_bytes())
    except FileNotFoundError as exc:
        started = (folder / layout.RUN).exists()
        why = "its run has not finished" if started else "it is no output of kubesynth"
        raise CommandError(f"{folder}: no {layout.MANIFEST}: {why}") from exc
    except (OSError, msgspec.MsgspecError) as exc:
        raise CommandError(f"{path} cannot be read: {exc}") from exc


def _first_rows(folder: Path, manifest: _Manifest, wanted: int) -> Iterator[dict[str, Any]]:
    for file in manifest.data:
        take = min(wanted, file.rows)
        if take <= 0:
            return
        wanted -= take
        is_parquet = file.path.endswith(".parquet")
        described = plan_file.InputFile(
            file.path, "Parquet" if is_parquet else "JSONL", file.size_bytes, "", file.rows
        )
        content = LocalContent(folder / file.path)
        for record in readers.read(plan_file.Slice(described, 0, take), content):
            if isinstance(record, readers.BadRecord):
                raise CommandError(f"{folder / file.path}: {record.message}")
            yield record.columns


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= CELL_CHARACTERS else f"{text[: CELL_CHARACTERS - 1]}…"
