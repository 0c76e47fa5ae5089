"""Where in the file system of a process the volumes of a job are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from kubesynth_api import runner_contract
from kubesynth_api.conditions import Reason
from kubesynth_runner import errors


@dataclasses.dataclass(frozen=True, slots=True)
class Mounts:
    """Where volume claims, ConfigMaps and Secrets are, and what relative paths are relative to.

    In a pod everything lies under a fixed root; without a cluster each name is mapped by a flag.
    """

    claims: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    config_maps: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    secrets: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    base_folder: Path = Path("/")
    in_pod: bool = False

    def claim(self, name: str) -> Path:
        """Return the folder of a volume claim."""
        return self._find("volume claim", "--volume", name, self.claims, runner_contract.PVC_ROOT)

    def config_map(self, name: str) -> Path:
        """Return the folder of a ConfigMap's keys."""
        root = runner_contract.CONFIG_MAP_ROOT
        return self._find("ConfigMap", "--config", name, self.config_maps, root)

    def secret(self, name: str) -> Path:
        """Return the folder of a Secret's keys."""
        return self._find("Secret", "--secret", name, self.secrets, runner_contract.SECRET_ROOT)

    def _find(
        self, kind: str, flag: str, name: str, known: Mapping[str, Path], pod_root: str
    ) -> Path:
        if name in known:
            return known[name]
        if self.in_pod:
            return Path(pod_root) / name
        raise errors.ConfigurationError(
            Reason.REFERENCE_NOT_FOUND,
            f"the job refers to the {kind} {name!r}: say where it is with {flag} {name}=PATH",
        )
