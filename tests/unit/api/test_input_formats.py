"""Endings of input files, and what is said of those that are not read."""

from __future__ import annotations

import copy

import pytest

from kubesynth_api import input_formats, validation
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJob
from kubesynth_testing.manifests import SMALL


def problems(**given: str) -> list[tuple[str, str]]:
    manifest = copy.deepcopy(SMALL)
    manifest["spec"]["input"] = given
    job = SyntheticDataJob.from_wire(manifest)
    return [(found.path, found.message) for found in validation.check(job.spec, "job")]


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("a/b.CSV", ".csv"),
        ("b.csv.gz", ".csv.gz"),
        ("b.tar.GZ", ".tar.gz"),
        ("b.gz", ".gz"),
        ("a.b/README", ""),
        (".hidden", ""),
        ("s3://bucket/x.y.json", ".json"),
    ],
)
def test_endings(name: str, ending: str) -> None:
    assert input_formats.ending(name) == ending


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("pvc://c/docs/*.csv", ".csv is not read; convert it to Parquet"),
        ("pvc://c/docs/**/*.json", "set input.format: JSONL"),
        ("s3://bucket/*.pdf", "pdftotext"),
        ("file:///docs/page-?.html", "pandoc"),
        ("pvc://c/docs/**.md", "** stands for whole folders"),
        ("file://~/docs/*.txt", "~ is not expanded"),
        ("file://~someone/docs", "~ is not expanded"),
        ("~/docs/*.txt", "~ is not expanded"),
        ("docs/*.txt", "write file://docs/*.txt, which is relative to the manifest"),
    ],
)
def test_input_that_cannot_be_read_is_found_in_the_manifest(uri: str, problem: str) -> None:
    ((path, message),) = problems(uri=uri)
    assert path == "spec.input.uri"
    assert problem in message


@pytest.mark.parametrize(
    "given",
    [
        {"uri": "pvc://c/docs/*.json", "format": "JSONL"},
        {"uri": "pvc://c/table.csv"},  # may be a folder
        {"uri": "pvc://c/table.csv/*.parquet"},
        {"uri": "pvc://c/docs/*"},
        {"uri": "https://host/a.jsonl?q=*.csv"},
        {"uri": "file:///~/docs"},
    ],
)
def test_other_input_is_not_refused(given: dict[str, str]) -> None:
    assert problems(**given) == []
