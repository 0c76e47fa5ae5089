from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kubesynth_runner.embedded import weights

WriteManifest = Callable[[str], Path]


@pytest.fixture
def write_manifest(tmp_path: Path) -> WriteManifest:
    """Write a manifest into the test's folder and return its path."""

    def write(text: str) -> Path:
        path = tmp_path / "job.yaml"
        path.write_text(text)
        return path

    return write


@pytest.fixture(scope="session")
def pulled_weights() -> weights.Weights:
    """The real model's weights, in the user's cache."""
    return weights.pull(weights.model_folder())
