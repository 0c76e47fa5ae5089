"""What the real API server makes of the CRD: its cost, its defaults, what kubectl shows."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubesynth_api.crd import crd_manifest
from kubesynth_api.kinds import KINDS, SYNTHETIC_DATA_JOB, Kind
from kubesynth_testing.api_requests import ApiRequests
from kubesynth_testing.apiserver import ApiServer
from kubesynth_testing.manifests import SMALL, edited

_ROOT = Path(__file__).parents[3]
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_JOBS = "/apis/kubesynth.io/v1alpha1/namespaces/default/syntheticdatajobs"
_MAXIMA = ("maxLength", "maxItems", "maxProperties")

EXAMPLES = sorted((_ROOT / "examples").glob("*.yaml"))

each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.name))


def with_larger_maxima(node: Any, factor: int) -> Any:
    """Return a schema in which everything that is bounded may be `factor` times as large."""
    if isinstance(node, list):
        return [with_larger_maxima(item, factor) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: value * factor
        if key in _MAXIMA and isinstance(value, int)
        else with_larger_maxima(value, factor)
        for key, value in node.items()
    }


def create_in_another_group(requests: ApiRequests, kind: Kind, factor: int) -> str:
    """Try to create the CRD with larger maxima and return the refusal.

    In another group, since an update is not held to the cost of what was there before.
    """
    manifest = with_larger_maxima(crd_manifest(kind), factor)
    manifest["spec"]["group"] = "larger.kubesynth.io"
    manifest["metadata"]["name"] = f"{kind.plural}.larger.kubesynth.io"
    return requests.send("POST", _CRDS, manifest, dryRun="All", fieldValidation="Strict").message


@each_kind
def test_rules_would_be_affordable_at_twice_the_size(requests: ApiRequests, kind: Kind) -> None:
    assert create_in_another_group(requests, kind, 2) == ""


def test_cost_is_what_the_test_above_measures(requests: ApiRequests) -> None:
    """Of the kind with the most rules; the others are small enough for any size."""
    refusal = create_in_another_group(requests, SYNTHETIC_DATA_JOB, 64)
    assert "estimated rule cost exceeds budget" in refusal


@each_kind
def test_crd_is_established_without_complaint(requests: ApiRequests, kind: Kind) -> None:
    crd = requests.send("GET", f"{_CRDS}/{kind.crd_name}").body
    conditions = {item["type"]: item["status"] for item in crd["status"]["conditions"]}
    assert conditions.get("Established") == "True"
    assert conditions.get("NonStructuralSchema", "False") == "False"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.name))
def test_example_is_accepted(api_server: ApiServer, path: Path) -> None:
    api_server.kubectl("create", "--dry-run=server", "--validate=strict", "-f", path)


def test_defaults_are_written_out_at_every_level(requests: ApiRequests) -> None:
    stored = requests.send("POST", _JOBS, SMALL, dryRun="All").body["spec"]
    assert stored["shards"] == {"count": 1}
    assert stored["failurePolicy"] == {
        "backoffLimitPerShard": 3,
        "maxFailedShards": 0,
        "maxFailedRecordsPercent": 5,
    }
    assert stored["models"][0]["limits"] == {"concurrency": 32, "adaptive": "Refusals"}
    assert stored["pipeline"][0] == {"closedQA": {"questions": 5, "onShortList": "Accept"}}
    assert stored["managedBy"] == "kubesynth.io/operator"
    assert "runner" not in stored, "an object without defaults stays away"


@pytest.fixture
def small_job(api_server: ApiServer) -> Iterator[str]:
    name = "columns"
    manifest = edited(SMALL, {"metadata.name": name})
    api_server.kubectl("create", "-f", "-", stdin=json.dumps(manifest))
    yield name
    api_server.kubectl("delete", "sdj", name)


def test_applying_again_changes_nothing(api_server: ApiServer, small_job: str) -> None:
    manifest = json.dumps(edited(SMALL, {"metadata.name": small_job}))
    api_server.kubectl("diff", "-f", "-", stdin=manifest)
    api_server.kubectl("diff", "--server-side", "--force-conflicts", "-f", "-", stdin=manifest)


def test_kubectl_get_shows_the_truth_of_the_status(
    api_server: ApiServer, requests: ApiRequests, small_job: str
) -> None:
    job = requests.send("GET", f"{_JOBS}/{small_job}").body
    status = {
        "phase": "Running",
        "reason": "ShardsActive",
        "summary": "3/8",
        "progress": {"percent": 42, "recordsPerSecond": 12.5},
    }
    answer = requests.send("PUT", f"{_JOBS}/{small_job}/status", {**job, "status": status})
    assert answer.accepted, answer.message
    assert answer.body["status"] == status, "a status has no defaults"
    heads, row = api_server.kubectl("get", "sdj", small_job, "-o", "wide").splitlines()
    assert heads.split() == ["NAME", "PHASE", "SHARDS", "PROGRESS", "RATE", "REASON", "AGE"]
    assert row.split()[:6] == [small_job, "Running", "3/8", "42", "12.5", "ShardsActive"]
    heads, _ = api_server.kubectl("get", "sdj", small_job).splitlines()
    assert heads.split() == ["NAME", "PHASE", "SHARDS", "PROGRESS", "AGE"]


def test_spec_and_status_are_written_apart(requests: ApiRequests, small_job: str) -> None:
    job = requests.send("GET", f"{_JOBS}/{small_job}").body
    both = edited(job, {"spec.suspend": True, "status": {"phase": "Made up"}})
    of_spec = requests.send("PUT", f"{_JOBS}/{small_job}", copy.deepcopy(both)).body
    assert of_spec["spec"]["suspend"] is True
    assert "phase" not in of_spec.get("status", {})
    assert of_spec["metadata"]["generation"] == job["metadata"]["generation"] + 1


@pytest.mark.parametrize("category", ["kubesynth", "all"])
def test_job_is_found_by_category(api_server: ApiServer, small_job: str, category: str) -> None:
    found = api_server.kubectl("get", category, "-o", "name").split()
    assert f"syntheticdatajob.kubesynth.io/{small_job}" in found


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("sdj", "A synthetic text dataset to make"),
        ("sdj.spec", "Once applied, only suspend"),
        ("sdj.spec.models.external.url", "requests go to URL/chat/completions"),
        ("sdj.spec.pipeline.closedQA.questions", "Default: 5."),
        ("sdj.spec.pipeline.prompt.output.jsonSchema", "JSON Schema (draft 2020-12)"),
        ("sdj.spec.shards", "each the work of one pod"),
        ("sdj.status.conditions", "Accepted, QuotaReserved, ModelsReady"),
    ],
)
def test_kubectl_explain_is_documentation(api_server: ApiServer, path: str, words: str) -> None:
    text = " ".join(api_server.kubectl("explain", path).split())
    assert words in text
