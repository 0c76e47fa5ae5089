"""Volumes of a runner pod: its run specification, scratch space, and what the spec refers to."""

from __future__ import annotations

import dataclasses
from typing import Any

from kubesynth_api import runner_contract
from kubesynth_api.references import Access, Use, references
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_operator import wire

_SCRATCH = "tmp"
# /tmp of the read-only container; enough for libraries that insist on a cache.
_SCRATCH_SIZE_LIMIT = "1Gi"


@dataclasses.dataclass(frozen=True, slots=True)
class Volume:
    """A volume of the pod and where the container sees it."""

    name: str
    source: dict[str, Any]
    mount_path: str
    read_only: bool

    @property
    def definition(self) -> dict[str, Any]:
        """The entry of `spec.volumes`."""
        return {"name": self.name, **self.source}

    @property
    def mount(self) -> dict[str, Any]:
        """The entry of `containers[].volumeMounts`."""
        mount: dict[str, Any] = {"name": self.name, "mountPath": self.mount_path}
        return {**mount, "readOnly": True} if self.read_only else mount


def of_job(spec: SyntheticDataJobSpec, run_config_name: str) -> tuple[Volume, ...]:
    """Return the volumes of every runner pod of a job.

    Volumes are numbered: an object's name may be longer than the 63 characters of a volume's.
    """
    found = references(spec)
    volumes = [
        Volume(
            wire.RUN_VOLUME,
            {"configMap": {"name": run_config_name}},
            runner_contract.RUN_SPEC_DIR,
            read_only=True,
        ),
        Volume(_SCRATCH, {"emptyDir": {"sizeLimit": _SCRATCH_SIZE_LIMIT}}, "/tmp", read_only=False),
    ]
    for index, (claim, access) in enumerate(found.claim_access().items()):
        volumes.append(
            Volume(
                f"claim-{index}",
                {"persistentVolumeClaim": {"claimName": claim}},
                f"{runner_contract.PVC_ROOT}/{claim}",
                read_only=access is Access.READ,
            )
        )
    config_maps = dict.fromkeys(ref.name for ref in found.config_maps if ref.use is Use.FILE)
    for index, name in enumerate(config_maps):
        volumes.append(
            Volume(
                f"config-map-{index}",
                {"configMap": {"name": name}},
                f"{runner_contract.CONFIG_MAP_ROOT}/{name}",
                read_only=True,
            )
        )
    secrets = dict.fromkeys(ref.name for ref in found.secrets if ref.use is Use.FILE)
    for index, name in enumerate(secrets):
        volumes.append(
            Volume(
                f"secret-{index}",
                # Readable by the pod's group, which is the runner's, and by nobody else.
                {"secret": {"secretName": name, "defaultMode": 0o440}},
                f"{runner_contract.SECRET_ROOT}/{name}",
                read_only=True,
            )
        )
    return tuple(volumes)
