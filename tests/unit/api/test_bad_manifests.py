"""Without an API server, the same manifests are refused as with one, and the same fields named."""

from __future__ import annotations

import pydantic
import pytest

from kubesynth_api import validation
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJob
from kubesynth_testing.bad_manifest import BadManifest
from kubesynth_testing.bad_manifests import BAD_MANIFESTS
from kubesynth_testing.manifests import FULL, SMALL, Manifest


def problem_paths(manifest: Manifest) -> list[str]:
    """Return the fields that are complained of, by pydantic or, after it, by validation."""
    try:
        job = SyntheticDataJob.from_wire(manifest)
    except pydantic.ValidationError as exc:
        return [path_of(error["loc"]) for error in exc.errors()]
    found = validation.check(job.spec, job.metadata["name"])
    return [item.path for item in found if item.reason == "InvalidSpec"]


def path_of(location: tuple[int | str, ...]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(parts).removeprefix(".")


@pytest.mark.parametrize("bad", BAD_MANIFESTS, ids=lambda bad: str(bad.name))
def test_bad_manifest_is_refused(bad: BadManifest) -> None:
    field = bad.unknown or bad.field
    if bad.message == "Duplicate value":
        field = field.rpartition("[")[0]
    assert [path for path in problem_paths(bad.manifest) if path.startswith(field)]


@pytest.mark.parametrize("manifest", [SMALL, FULL], ids=["small", "full"])
def test_good_manifest_fits_the_models(manifest: Manifest) -> None:
    SyntheticDataJob.from_wire(manifest)
