"""Which manifests `kubesynth run` takes for the same run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from kubesynth_runner.cli import job_run, mappings


def uid(folder: Path, external: Mapping[str, object], secret: str = "") -> str:
    (folder / "docs.txt").write_text("x")
    (folder / "key.env").write_text("key=1")
    job = {
        "apiVersion": "kubesynth.io/v1alpha1",
        "kind": "SyntheticDataJob",
        "metadata": {"name": "qa"},
        "spec": {
            "models": [{"name": "writer", "external": external}],
            "input": {"uri": "file://docs.txt"},
            "pipeline": [{"closedQA": {}}],
            "output": {"uri": "file://out"},
        },
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    secrets = (f"{secret}={folder}/key.env",) if secret else ()
    prepared = job_run.prepare(str(folder / "job.yaml"), mappings.Flags(secret=secrets), folder)
    return prepared.spec.uid


def test_a_mended_address_is_the_same_run(tmp_path: Path) -> None:
    """What has been answered stays usable when the server has moved or the key is another."""
    before = uid(tmp_path, {"url": "http://127.0.0.1:9/v1", "model": "m"})
    assert uid(tmp_path, {"url": "http://127.0.0.1:10/v1", "model": "m"}) == before
    key = {"secretKeyRef": {"name": "renamed", "key": "key"}}
    moved = {"url": "https://host/v1", "model": "m", "apiKey": key, "headers": {"X-A": "b"}}
    assert uid(tmp_path, moved, "renamed") == before
    assert uid(tmp_path, {"url": "http://127.0.0.1:9/v1", "model": "n"}) != before
