"""An output folder, read back, and what must be true of it. Recomputes what it can.

Nothing here uses the runner's readers: a dataset is what any Parquet or JSON reader finds. Only the
record ids are computed with the runner's own function, which its unit tests pin.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import pyarrow.parquet as pq

from kubesynth_runner import records

Row = dict[str, Any]


class Dataset:
    """The files of an output folder by their path in it."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)

    @cached_property
    def rows(self) -> list[Row]:
        """All rows in data/, in the order of their ids."""
        rows: list[Row] = []
        for path in self._below("data/"):
            if path.endswith(".parquet"):
                rows += pq.read_table(io.BytesIO(self.files[path])).to_pylist()
            else:
                rows += _json_lines(self.files[path])
        return sorted(rows, key=lambda row: str(row["id"]))

    @cached_property
    def errors(self) -> list[Row]:
        """All lines in errors/."""
        return [line for path in self._below("errors/") for line in _json_lines(self.files[path])]

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The run's manifest."""
        manifest: dict[str, Any] = json.loads(self.files["manifest.json"])
        return manifest

    @property
    def is_complete(self) -> bool:
        """Whether the run says that it is."""
        return "_SUCCESS" in self.files

    @property
    def ids(self) -> list[str]:
        """The rows' ids."""
        return [str(row["id"]) for row in self.rows]

    def content_hash(self) -> str:
        """Return the hash of all rows, whatever the files and the order they are in."""
        content = json.dumps(self.rows, sort_keys=True, default=str)
        return hashlib.sha256(content.encode()).hexdigest()

    def _below(self, folder: str) -> list[str]:
        return sorted(path for path in self.files if path.startswith(folder))

    def faults(self) -> list[str]:
        """Return what is wrong with the dataset in itself: ids, files, sums. Empty if nothing."""
        return [*self._id_faults(), *self._file_faults(), *self._sum_faults()]

    def _id_faults(self) -> list[str]:
        return [
            f"id {key} occurs {count} times"
            for key, count in Counter(self.ids).items()
            if count > 1
        ]

    def _file_faults(self) -> list[str]:
        listed = {entry["path"]: entry for entry in self._entries()}
        found = {*self._below("data/"), *self._below("errors/")}
        faults = [f"{path} is in one of folder and manifest only" for path in found ^ set(listed)]
        for path in found & set(listed):
            content, entry = self.files[path], listed[path]
            if len(content) != entry["sizeBytes"]:
                faults.append(f"{path} has {len(content)} bytes, not {entry['sizeBytes']}")
            if hashlib.sha256(content).hexdigest() != entry["sha256"]:
                faults.append(f"{path} has another SHA-256 than the manifest says")
        return faults

    def _sum_faults(self) -> list[str]:
        tally = self.manifest["tally"]
        counted = {"accepted": len(self.rows), "failed": len(self.errors)}
        return [
            f"the manifest counts {tally[name]} {name}, the files hold {count}"
            for name, count in counted.items()
            if tally[name] != count
        ]

    def _entries(self) -> list[dict[str, Any]]:
        return [*self.manifest["data"], *self.manifest["errors"]]


def lineage_faults(rows: Sequence[Row], stages: int) -> list[str]:
    """Return rows whose ids are not those of the `stages`-th generation of their input record.

    Every stage but the first must be one that makes one record of each, such as `answer`.
    """
    faults = []
    siblings: Counter[str] = Counter()
    for row in rows:
        siblings[row["root_id"]] += 1
    for row in rows:
        source, root = row["source"], row["root_id"]
        if root != _root_id(source):
            faults.append(f"{row['id']}: root {root} is not the record at {source}")
        lines = [_line(root, ordinal, stages) for ordinal in range(siblings[root])]
        if (row["parent_id"], row["id"]) not in lines:
            faults.append(f"{row['id']}: not a descendant of {root} through {row['parent_id']}")
    return faults


def _root_id(source: Mapping[str, Any]) -> str:
    """Return the id of an input record: by the user's own id where there is one, else by place."""
    if source["id"] is not None:
        return records.root_id_of_user_id(source["id"])
    return records.root_id(source["uri"], source["position"])


def _line(root: str, ordinal: int, stages: int) -> tuple[str, str]:
    """Return the parent and the id of the record that the first stage's `ordinal`-th became."""
    parent, identifier = root, records.child_id(root, 0, ordinal)
    for stage in range(1, stages):
        parent, identifier = identifier, records.child_id(identifier, stage, 0)
    return parent, identifier


def unanswered_inputs(dataset: Dataset, uri: str, count: int) -> list[str]:
    """Return the input records, of `count` in one file, that neither a row nor an error is from."""
    expected = {records.root_id(uri, position) for position in range(1, count + 1)}
    seen = {str(row["root_id"]) for row in (*dataset.rows, *dataset.errors)}
    return sorted(expected - seen)


def _json_lines(content: bytes) -> list[Row]:
    return [json.loads(line) for line in content.splitlines() if line.strip()]
