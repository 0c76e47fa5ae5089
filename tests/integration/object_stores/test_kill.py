"""A runner killed at any moment loses nothing on an object store either."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kubesynth_api.v1alpha1.storage import OutputSpec, StorageOptions
from kubesynth_runner.io.locations import open_storage
from kubesynth_testing.fake_llm import Faults
from kubesynth_testing.killed_runs import Fuzz, Place
from kubesynth_testing.object_stores import ObjectStoreServer
from kubesynth_testing.runner_process import Nursery

# In each of the stores that speak S3.
DEATHS = 20
VICTIMS = 4
# The journal is uploaded every second; the upload, and a busy machine, may take another one.
UNFLUSHED_SECONDS = 2.0


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    """Fork runners; whatever still runs at the end of the test is killed."""
    with Nursery() as running:
        yield running


async def test_killed_runs_in_a_bucket_end_like_undisturbed_ones(
    tmp_path: Path, s3: ObjectStoreServer, nursery: Nursery
) -> None:
    """What was in flight or not yet uploaded is asked again, and nothing else."""
    keys = {path.name: path.read_text() for path in s3.secret_folder.iterdir()}
    # Without a Secret it is the pod's environment that counts.
    options = {name: value for name, value in s3.options.items() if name != "credentials"}
    place = Place(
        lambda folder: {"uri": f"{s3.make_bucket()}/{folder.name}", "storage": options},
        lambda spec: open_storage(
            OutputSpec(
                uri=spec.spec.output.uri, storage=StorageOptions.model_validate(dict(s3.options))
            ),
            s3.mounts,
        ),
        keys,
        UNFLUSHED_SECONDS,
    )
    fuzz = Fuzz(tmp_path, place, nursery, Faults(latency_seconds=0.03, latency_sigma=0.6))
    await fuzz.run(DEATHS, VICTIMS)
    assert fuzz.deaths >= DEATHS
