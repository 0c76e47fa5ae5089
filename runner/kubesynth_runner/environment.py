"""What surrounds a run: mounts, keys, and who is running. The same for a pod and for a laptop."""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Mapping
from pathlib import Path

from kubesynth_api import runner_contract
from kubesynth_api.conditions import Reason
from kubesynth_api.meta import KeySelector, PromptText, TextSource
from kubesynth_runner import errors
from kubesynth_runner.io.mounts import Mounts


@dataclasses.dataclass(frozen=True, slots=True)
class RunEnvironment:
    """References of the manifest, resolved. `writer` names this process in the output's claims."""

    mounts: Mounts
    # API keys by model role.
    api_keys: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    writer: str = ""
    # What has been read: a text stays the same for the life of the process, whoever edits it.
    _texts: dict[Path, str] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    def read_prompt(self, prompt: PromptText) -> str:
        """Return a prompt template that is inline or in a ConfigMap.

        Raises:
            ConfigurationError: it cannot be read.
        """
        return self.read_text(prompt.inline, prompt.config_map_key_ref)

    def read_text(self, inline: str | None, reference: KeySelector | None) -> str:
        """Return a text that is inline or in a ConfigMap.

        Raises:
            ConfigurationError: it cannot be read.
        """
        if inline is not None:
            return inline
        assert reference is not None, "exactly one of the two is set"
        path = self.mounts.config_map(reference.name) / reference.key
        if path in self._texts:
            return self._texts[path]
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise errors.ConfigurationError(
                Reason.REFERENCE_NOT_FOUND,
                f"ConfigMap {reference.name!r}, key {reference.key!r}: {exc}",
            ) from exc
        return self._texts.setdefault(path, text)

    def text_file(self, source: TextSource) -> Path:
        """Return the file of a text that is in a ConfigMap or a Secret."""
        if source.config_map_key_ref is not None:
            reference = source.config_map_key_ref
            return self.mounts.config_map(reference.name) / reference.key
        assert source.secret_key_ref is not None, "exactly one of the two is set"
        return self.mounts.secret(source.secret_key_ref.name) / source.secret_key_ref.key


def pod_environment(roles: list[str], environ: Mapping[str, str] = os.environ) -> RunEnvironment:
    """Return the environment that the operator has given this pod."""
    keys = {
        role: environ[runner_contract.model_api_key_env(role)]
        for role in roles
        if runner_contract.model_api_key_env(role) in environ
    }
    name = environ.get(runner_contract.ENV_POD_NAME) or socket.gethostname()
    uid = environ.get(runner_contract.ENV_POD_UID, "")
    return RunEnvironment(Mounts(in_pod=True), keys, f"{name} {uid} pid {os.getpid()}")
