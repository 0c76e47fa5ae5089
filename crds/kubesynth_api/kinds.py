"""The kinds of the API group: what a CustomResourceDefinition says besides its schema."""

from __future__ import annotations

import dataclasses
from typing import Literal

from kubesynth_api._base import ApiModel
from kubesynth_api.labels import GROUP
from kubesynth_api.v1alpha1 import synthetic_data_job


@dataclasses.dataclass(frozen=True, slots=True)
class PrinterColumn:
    """A column of `kubectl get`; with a priority above 0 only of `kubectl get -o wide`."""

    name: str
    type: Literal["string", "integer", "number", "date"]
    json_path: str
    description: str
    priority: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """A namespaced kind: its model, and those of its spec and status."""

    model: type[ApiModel]
    spec: type[ApiModel]
    status: type[ApiModel]
    plural: str
    short_names: tuple[str, ...]
    columns: tuple[PrinterColumn, ...]

    @property
    def name(self) -> str:
        """The kind, as manifests name it."""
        return self.model.__name__

    @property
    def singular(self) -> str:
        """The name that kubectl takes beside the plural."""
        return self.name.lower()

    @property
    def crd_name(self) -> str:
        """Name of the CustomResourceDefinition."""
        return f"{self.plural}.{GROUP}"


_AGE = PrinterColumn("Age", "date", ".metadata.creationTimestamp", "Time since it was applied.")

SYNTHETIC_DATA_JOB = Kind(
    model=synthetic_data_job.SyntheticDataJob,
    spec=synthetic_data_job.SyntheticDataJobSpec,
    status=synthetic_data_job.SyntheticDataJobStatus,
    plural=synthetic_data_job.PLURAL,
    short_names=("sdj",),
    columns=(
        PrinterColumn("Phase", "string", ".status.phase", "The conditions in one word."),
        PrinterColumn("Shards", "string", ".status.summary", "Finished shards of all shards."),
        PrinterColumn("Progress", "integer", ".status.progress.percent", "Input done, in percent."),
        PrinterColumn(
            "Rate",
            "number",
            ".status.progress.recordsPerSecond",
            "Input records per second, over all pods.",
            priority=1,
        ),
        PrinterColumn("Reason", "string", ".status.reason", "Reason of the phase.", priority=1),
        _AGE,
    ),
)

KINDS: tuple[Kind, ...] = (SYNTHETIC_DATA_JOB,)
