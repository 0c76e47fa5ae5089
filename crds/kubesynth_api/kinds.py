"""The kinds of the API group: what a CustomResourceDefinition says besides its schema."""

from __future__ import annotations

import dataclasses
from typing import Literal

from kubesynth_api._base import ApiModel
from kubesynth_api.labels import GROUP
from kubesynth_api.v1alpha1 import model_servers, server_classes, synthetic_data_job


@dataclasses.dataclass(frozen=True, slots=True)
class PrinterColumn:
    """A column of `kubectl get`; with a priority above 0 only of `kubectl get -o wide`."""

    name: str
    type: Literal["string", "integer", "number", "date"]
    json_path: str
    description: str
    priority: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Scale:
    """Where the scale subresource finds its numbers."""

    spec_replicas: str
    status_replicas: str
    selector: str


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """A kind: its model, and those of its spec and status. A kind without a status is only read."""

    model: type[ApiModel]
    spec: type[ApiModel]
    status: type[ApiModel] | None
    plural: str
    short_names: tuple[str, ...]
    columns: tuple[PrinterColumn, ...]
    scope: Literal["Namespaced", "Cluster"] = "Namespaced"
    scale: Scale | None = None
    # `kubectl get all` shows it, and `kubectl delete all --all` takes it.
    in_all: bool = True
    # Whether its page has to tell about templates.
    has_prompts: bool = False

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
    has_prompts=True,
)

MODEL_SERVER = Kind(
    model=model_servers.ModelServer,
    spec=model_servers.ModelServerSpec,
    status=model_servers.ModelServerStatus,
    plural=model_servers.PLURAL,
    short_names=("msrv",),
    columns=(
        PrinterColumn("Model", "string", ".spec.model", "The model that it serves."),
        PrinterColumn("Phase", "string", ".status.phase", "The conditions in one word."),
        PrinterColumn("Ready", "string", ".status.summary", "Replicas that serve of those wanted."),
        PrinterColumn("Users", "integer", ".status.users.count", "Jobs that need it now."),
        PrinterColumn("Class", "string", ".status.usedClass", "What it is made from.", priority=1),
        PrinterColumn("Endpoint", "string", ".status.endpoint", "Its base URL.", priority=1),
        _AGE,
    ),
    scale=Scale(".spec.replicas", ".status.replicas", ".status.selector"),
)
_CLASS_COLUMNS = (
    PrinterColumn("Engine", "string", ".spec.engine", "The engine."),
    PrinterColumn("Image", "string", ".spec.image", "Its image."),
    PrinterColumn("Protocol", "string", ".spec.protocol", "What it speaks.", priority=1),
    _AGE,
)
MODEL_SERVER_CLASS = Kind(
    model=server_classes.ModelServerClass,
    spec=server_classes.ServerClassSpec,
    status=None,
    plural=server_classes.PLURAL,
    short_names=("msc",),
    columns=_CLASS_COLUMNS,
    in_all=False,
)
CLUSTER_MODEL_SERVER_CLASS = Kind(
    model=server_classes.ClusterModelServerClass,
    spec=server_classes.ServerClassSpec,
    status=None,
    plural=server_classes.CLUSTER_PLURAL,
    short_names=("cmsc",),
    columns=_CLASS_COLUMNS,
    scope="Cluster",
    in_all=False,
)

KINDS: tuple[Kind, ...] = (
    SYNTHETIC_DATA_JOB,
    MODEL_SERVER,
    MODEL_SERVER_CLASS,
    CLUSTER_MODEL_SERVER_CLASS,
)
