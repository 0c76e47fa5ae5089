"""The examples are valid, and their input is what it says it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubesynth_api import validation
from kubesynth_api.v1alpha1.model_servers import ModelServer
from kubesynth_api.v1alpha1.synthetic_data_job import KIND, SyntheticDataJob

_EXAMPLES = Path(__file__).parents[3] / "examples"
_DATA = _EXAMPLES / "data"

SERVERS = [
    pytest.param(document, id=path.name)
    for path in sorted(_EXAMPLES.glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
    if document["kind"] == "ModelServer"
]
JOBS = [
    pytest.param(document, id=path.name)
    for path in sorted(_EXAMPLES.glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
    if document["kind"] == KIND
]


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (_DATA / name).read_text().splitlines()]


@pytest.mark.parametrize("manifest", JOBS)
def test_example_is_valid(manifest: dict[str, Any]) -> None:
    job = SyntheticDataJob.from_wire(manifest)
    assert validation.check(job.spec, job.metadata["name"]) == []


@pytest.mark.parametrize("manifest", SERVERS)
def test_example_of_a_server_is_valid(manifest: dict[str, Any]) -> None:
    ModelServer.from_wire(manifest)


def test_there_are_at_least_50_documents_of_readable_length() -> None:
    documents = rows("documents.jsonl")
    assert len(documents) >= 50
    assert len({document["id"] for document in documents}) == len(documents)
    assert len({document["text"] for document in documents}) == len(documents)
    for document in documents:
        assert set(document) == {"id", "title", "text"}
        assert 60 <= len(document["text"].split()) <= 120, document["id"]


def test_questions_are_questions() -> None:
    questions = rows("questions.jsonl")
    assert len({item["id"] for item in questions}) == len(questions) >= 20
    assert all(item["question"].endswith("?") for item in questions)


def test_input_fits_into_a_config_map() -> None:
    assert sum(path.stat().st_size for path in _DATA.iterdir()) < 60 * 1024
