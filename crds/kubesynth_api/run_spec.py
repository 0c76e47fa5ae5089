"""The run specification: what a runner pod reads, written by the operator or the command line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from kubesynth_api._base import ApiModel
from kubesynth_api.v1alpha1.pipeline import Stage
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec

# A ConfigMap holds 1 MiB; half of it keeps etcd and the kubelet comfortable.
RUN_SPEC_MAX_BYTES = 512 * 1024

# Fields that may change while a job runs, or that say nothing about the rows: not part of what
# makes two runs the same run.
_MUTABLE = (
    "shards",
    "target",
    "budget",
    "deadlines",
    "cleanup",
    "suspend",
    "runner",
    "failurePolicy",
)
_MUTABLE_OUTPUT = ("uri", "ifExists", "storage")
# Where a model is, and what opens the door to it: it may move, and its key be another.
_ADDRESS = ("url", "apiKey", "azure", "caBundle", "headers")
# Of an object's fields, how deep differences between runs are named.
_NAMED_DEPTH = 2


class RunSpec(ApiModel):
    """One run of a job: who it belongs to and what it does."""

    name: str = Field(description="Name of the job.")
    namespace: str = Field(default="", description="Namespace of the job; empty without a cluster.")
    uid: str = Field(description="UID of the job; identifies the run in its output.")
    spec: SyntheticDataJobSpec

    def to_json(self) -> str:
        """Return the canonical JSON: equal runs give equal bytes."""
        return _canonical(self.to_wire())

    def pipeline_hash(self) -> str:
        """Return the hash of everything that decides the rows: models, input, pipeline, seed.

        An output may be resumed by another job exactly if this hash is equal. Fields with their
        default do not count, so that a version with a new field gives a job its old hash. Addresses
        and credentials do not count either: the same model may be found elsewhere.
        """
        return _hash(self._content(), 32)

    def former_pipeline_hash(self) -> str:
        """Return `pipeline_hash` as it was when addresses and credentials still counted."""
        return _hash(self._fixed(), 32)

    def content_hashes(self) -> dict[str, str]:
        """Return short hashes of what `pipeline_hash` is made of, by field: to say what differs."""
        found: dict[str, str] = {}
        for field, value in self._content().items():
            if field == "models":
                for model in value:
                    found |= _by_field(model, f"models[{model['name']}]")
            elif field == "pipeline":
                for index, stage in enumerate(value):
                    found |= _by_field(stage, f"pipeline[{index}]")
            else:
                found |= _by_field(value, field)
        return found

    def _content(self) -> dict[str, Any]:
        """Return what decides the rows."""
        wire = self._fixed()
        for model in wire["models"]:
            for field in _ADDRESS:
                model.get("external", {}).pop(field, None)
        for field in ("input", "retryFailed"):
            wire.get(field, {}).pop("storage", None)
        return wire

    def _fixed(self) -> dict[str, Any]:
        """Return what cannot change while a job runs."""
        wire: dict[str, Any] = self.spec.model_dump(
            mode="json", by_alias=True, exclude_none=True, exclude_defaults=True
        )
        for field in (*_MUTABLE, "managedBy"):
            wire.pop(field, None)
        if "retryFailed" in wire:
            wire["retryFailed"].pop("storage", None)
        wire["shards"] = {"count": self.spec.shards.count}
        wire["output"] = {
            key: value for key, value in wire["output"].items() if key not in _MUTABLE_OUTPUT
        }
        wire["models"] = [
            {
                key: value
                for key, value in model.items()
                if key not in ("limits", "requestTimeoutSeconds", "maxAttempts")
            }
            for model in wire["models"]
        ]
        return wire

    def immutable_hash(self) -> str:
        """Return the hash that names the run's ConfigMap: what cannot change during the run."""
        fixed = _hash(self._fixed(), 32)
        content = {"uid": self.uid, "pipeline": fixed}
        return _hash(content, 10)


def prefix_hashes(stages: Sequence[Stage], texts: Mapping[str, str]) -> list[str]:
    """Return the hashes of the first 0, 1, 2 ... stages of a pipeline. Names do not count.

    Args:
        stages: The pipeline.
        texts: The hash of each text that a spec refers to, by its field: one in `spec.pipeline[N]`
            counts as part of that stage.
    """
    wire: list[object] = []
    for index, stage in enumerate(stages):
        fields = stage.model_dump(
            mode="json", by_alias=True, exclude_none=True, exclude_defaults=True
        )
        fields.pop("id", None)
        place = f"spec.pipeline[{index}]."
        own = {
            field.removeprefix(place): text
            for field, text in texts.items()
            if field.startswith(place)
        }
        wire.append([fields, own] if own else fields)
    return [_hash(wire[:count], 32) for count in range(len(wire) + 1)]


def _by_field(value: object, path: str, depth: int = _NAMED_DEPTH) -> dict[str, str]:
    if isinstance(value, dict) and value and depth:
        found: dict[str, str] = {}
        for key, item in value.items():
            found |= _by_field(item, f"{path}.{key}", depth - 1)
        return found
    return {path: _hash(value, 8)}


def _hash(value: object, digits: int) -> str:
    return hashlib.sha256(_canonical(value).encode()).hexdigest()[:digits]


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
