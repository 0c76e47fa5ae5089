"""What a job refers to."""

from __future__ import annotations

from typing import Any

import pytest

from kubesynth_api.references import Access, ClaimReference, KeyReference, Use, references
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec


def key(name: str, data_key: str) -> dict[str, str]:
    return {"name": name, "key": data_key}


def full_spec() -> dict[str, Any]:
    return {
        "models": [
            {
                "name": "generator",
                "external": {
                    "url": "http://llm/v1",
                    "model": "m",
                    "apiKey": {"secretKeyRef": key("llm", "token")},
                    "caBundle": {"configMapKeyRef": key("ca", "ca.crt")},
                },
            },
            {
                "name": "judge",
                "external": {
                    "url": "http://judge/v1",
                    "model": "m",
                    "caBundle": {"secretKeyRef": key("judge-ca", "ca.crt")},
                },
            },
        ],
        "input": {
            "uri": "configmap://documents/*.jsonl",
            "storage": {
                "credentials": {"secretRef": {"name": "documents-store"}},
                "caBundle": {"configMapKeyRef": key("store-ca", "ca.crt")},
            },
        },
        "pipeline": [
            {
                "closedQA": {
                    "prompts": {"user": {"configMapKeyRef": key("prompts", "questions.jinja")}}
                }
            },
            {"prompt": {"user": {"configMapKeyRef": key("prompts", "title.jinja")}}},
        ],
        "tokenizer": {"uri": "configmap://tokenizers/small.json.gz"},
        "output": {
            "uri": "pvc://datasets/runs/one",
            "storage": {"credentials": {"secretRef": {"name": "store"}}},
        },
        "retryFailed": {
            "fromOutput": "pvc://datasets/runs/zero",
            "storage": {"credentials": {"secretRef": {"name": "earlier-store"}}},
        },
        "runner": {
            "imagePullSecrets": [{"name": "registry"}],
            "env": [
                {"name": "A", "valueFrom": {"secretKeyRef": key("env", "a")}},
                {"name": "B", "valueFrom": {"configMapKeyRef": key("settings", "b")}},
            ],
        },
    }


@pytest.fixture(name="spec")
def parsed_spec() -> SyntheticDataJobSpec:
    return SyntheticDataJobSpec.model_validate(full_spec())


def test_every_secret_is_found_with_its_use_and_field(spec: SyntheticDataJobSpec) -> None:
    assert references(spec).secrets == (
        KeyReference(
            "llm", "token", Use.ENVIRONMENT, "spec.models[0].external.apiKey.secretKeyRef"
        ),
        KeyReference(
            "judge-ca", "ca.crt", Use.FILE, "spec.models[1].external.caBundle.secretKeyRef"
        ),
        KeyReference("documents-store", None, Use.FILE, "spec.input.storage.credentials.secretRef"),
        KeyReference("store", None, Use.FILE, "spec.output.storage.credentials.secretRef"),
        KeyReference("registry", None, Use.IMAGE_PULL, "spec.runner.imagePullSecrets[0]"),
        KeyReference("env", "a", Use.ENVIRONMENT, "spec.runner.env[0].valueFrom.secretKeyRef"),
        KeyReference(
            "earlier-store", None, Use.FILE, "spec.retryFailed.storage.credentials.secretRef"
        ),
    )


def test_every_config_map_is_found_with_its_use_and_field(spec: SyntheticDataJobSpec) -> None:
    assert references(spec).config_maps == (
        KeyReference("ca", "ca.crt", Use.FILE, "spec.models[0].external.caBundle.configMapKeyRef"),
        KeyReference("store-ca", "ca.crt", Use.FILE, "spec.input.storage.caBundle.configMapKeyRef"),
        KeyReference(
            "prompts",
            "questions.jinja",
            Use.FILE,
            "spec.pipeline[0].closedQA.prompts.user.configMapKeyRef",
        ),
        KeyReference(
            "prompts", "title.jinja", Use.FILE, "spec.pipeline[1].prompt.user.configMapKeyRef"
        ),
        KeyReference(
            "settings", "b", Use.ENVIRONMENT, "spec.runner.env[1].valueFrom.configMapKeyRef"
        ),
        KeyReference("documents", "*.jsonl", Use.FILE, "spec.input.uri"),
        KeyReference("tokenizers", "small.json.gz", Use.FILE, "spec.tokenizer.uri"),
    )


def test_claims_are_found_with_their_folder_and_access(spec: SyntheticDataJobSpec) -> None:
    assert references(spec).claims == (
        ClaimReference("datasets", "runs/one", Access.WRITE, "spec.output.uri"),
        ClaimReference("datasets", "runs/zero", Access.READ, "spec.retryFailed.fromOutput"),
    )


def test_the_claim_of_a_tokenizer_is_found() -> None:
    content = full_spec() | {"tokenizer": {"uri": "pvc://models/llama/tokenizer.json"}}
    found = references(SyntheticDataJobSpec.model_validate(content))
    assert (
        ClaimReference("models", "llama/tokenizer.json", Access.READ, "spec.tokenizer.uri")
        in found.claims
    )


def test_a_claim_that_is_read_and_written_is_written() -> None:
    content = full_spec()
    content["input"]["uri"] = "pvc://datasets/documents"
    found = references(SyntheticDataJobSpec.model_validate(content))
    assert found.claim_access() == {"datasets": Access.WRITE}


@pytest.mark.parametrize(
    ("wanted", "keys", "satisfied"),
    [
        pytest.param(None, [], True, id="whole-object"),
        pytest.param("a", ["a", "b"], True, id="key"),
        pytest.param("a", ["b"], False, id="key-missing"),
        pytest.param("*.jsonl", ["x.jsonl"], True, id="pattern"),
        pytest.param("*.jsonl", ["x.txt"], False, id="pattern-without-match"),
    ],
)
def test_reference_knows_which_keys_satisfy_it(
    wanted: str | None, keys: list[str], satisfied: bool
) -> None:
    reference = KeyReference("name", wanted, Use.FILE, "spec.input.uri")
    assert reference.is_satisfied_by(keys) is satisfied
