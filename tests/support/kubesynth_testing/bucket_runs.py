"""`kubesynth run` of one manifest, into a bucket or onto the disk."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

from kubesynth_api.runner_contract import ExitCode
from kubesynth_api.v1alpha1.storage import OutputSpec
from kubesynth_runner.io.locations import open_storage
from kubesynth_runner.io.mounts import Mounts
from kubesynth_runner.io.storage import Storage
from kubesynth_testing.object_stores import SECRET, ObjectStoreServer

CONCURRENCY = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Command:
    """`kubesynth run` of one manifest."""

    manifest: Path
    output: OutputSpec
    store: ObjectStoreServer | None

    async def start(self) -> asyncio.subprocess.Process:
        flags = [] if self.store is None else ["--secret", f"{SECRET}={self.store.secret_folder}"]
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "kubesynth_runner.cli", "run", str(self.manifest), *flags),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "NO_COLOR": "1"},
        )

    async def run(self) -> int:
        """Run to the end and return the exit code."""
        process = await self.start()
        _, said = await process.communicate()
        assert process.returncode is not None
        assert process.returncode in (ExitCode.OK, ExitCode.RETRY), said.decode()[-3000:]
        return process.returncode

    def fetch(self, folder: Path) -> Path:
        """Copy the output to a folder."""
        mounts = self.store.mounts if self.store else Mounts()
        return copy_of(open_storage(self.output, mounts), folder)


def copy_of(storage: Storage, folder: Path) -> Path:
    """Copy everything in a storage to a folder and return the folder. Blocking."""
    for file in storage.list_files(""):
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(storage.read(file.path))
    return folder


def make(
    folder: Path,
    documents: Path,
    url: str,
    store: ObjectStoreServer | None,
    **fields: Any,
) -> Command:
    """Return a job over a folder of documents, to a fresh output.

    Args:
        folder: For the manifest, and for the output if there is no store.
        documents: The folder with the input.
        url: The model's server.
        store: Where the output goes.
        fields: Fields of the spec.
    """
    if store is None:
        output: dict[str, Any] = {"uri": f"file://{folder}/local"}
    else:
        output = {"uri": f"{store.make_bucket()}/runs/one", "storage": dict(store.options)}
    spec = {
        "models": [
            {
                "name": "generator",
                "external": {"url": url, "model": "fake-model"},
                "limits": {"concurrency": CONCURRENCY},
            }
        ],
        "seed": 1,
        "input": {"uri": f"file://{documents}/*.jsonl", "idColumn": "id"},
        "pipeline": [{"closedQA": {"questions": 2}}, {"answer": {}}],
        "output": {"format": "Parquet", "rowsPerPart": 25, **output},
        **fields,
    }
    job = {
        "apiVersion": "kubesynth.io/v1alpha1",
        "kind": "SyntheticDataJob",
        "metadata": {"name": "qa"},
        "spec": spec,
    }
    manifest = folder / f"{store.scheme if store else 'local'}.json"
    manifest.write_text(json.dumps(job))
    return Command(manifest, OutputSpec.model_validate(spec["output"]), store)
