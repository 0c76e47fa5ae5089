"""The real API server refuses what has to be refused, and names the field."""

from __future__ import annotations

import itertools

import pytest

from kubesynth_testing.api_requests import Answer, ApiRequests, FieldValidation
from kubesynth_testing.bad_manifest import BadManifest
from kubesynth_testing.bad_manifests import BAD_MANIFESTS
from kubesynth_testing.bad_updates import BAD_UPDATES, GOOD_UPDATES, Update
from kubesynth_testing.manifests import FULL, SMALL, Manifest, edited

_JOBS = "/apis/kubesynth.io/v1alpha1/namespaces/default/syntheticdatajobs"
_NUMBERS = itertools.count(1)

both_validations = pytest.mark.parametrize("validation", ["Strict", "Ignore"])


def create(requests: ApiRequests, manifest: Manifest, validation: FieldValidation) -> Answer:
    return requests.send("POST", _JOBS, manifest, fieldValidation=validation, dryRun="All")


def update(requests: ApiRequests, change: Update, validation: FieldValidation) -> Answer:
    """Create the job as it was and change it."""
    name = f"job-{next(_NUMBERS)}"
    before = requests.send("POST", _JOBS, edited(change.base, {"metadata.name": name}))
    assert before.accepted, before.message
    version = before.body["metadata"]["resourceVersion"]
    after = edited(change.manifest, {"metadata.name": name, "metadata.resourceVersion": version})
    answer = requests.send("PUT", f"{_JOBS}/{name}", after, fieldValidation=validation)
    requests.send("DELETE", f"{_JOBS}/{name}")
    return answer


def assert_refused(answer: Answer, field: str, message: str) -> None:
    assert not answer.accepted, "it was accepted"
    assert message in answer.causes().get(field, ""), answer.message


def test_the_table_is_large_enough() -> None:
    names = [*(bad.name for bad in BAD_MANIFESTS), *(bad.name for bad in BAD_UPDATES)]
    assert len(names) == len(set(names))
    assert len(BAD_MANIFESTS) >= 60
    assert len(BAD_UPDATES) >= 40


@both_validations
@pytest.mark.parametrize("manifest", [SMALL, FULL], ids=["small", "full"])
def test_good_manifest_is_accepted(
    requests: ApiRequests, manifest: Manifest, validation: FieldValidation
) -> None:
    answer = create(requests, manifest, validation)
    assert answer.accepted, answer.message


@both_validations
@pytest.mark.parametrize("bad", BAD_MANIFESTS, ids=lambda bad: bad.name)
def test_bad_manifest_is_refused(
    requests: ApiRequests, bad: BadManifest, validation: FieldValidation
) -> None:
    answer = create(requests, bad.manifest, validation)
    if bad.unknown is not None and validation == "Strict":
        assert not answer.accepted
        assert f'unknown field "{bad.unknown}"' in answer.message
    else:
        assert_refused(answer, bad.field, bad.message)


@both_validations
@pytest.mark.parametrize("change", BAD_UPDATES, ids=lambda change: change.name)
def test_bad_update_is_refused(
    requests: ApiRequests, change: Update, validation: FieldValidation
) -> None:
    assert_refused(update(requests, change, validation), change.field, change.message)


@pytest.mark.parametrize("change", GOOD_UPDATES, ids=lambda change: change.name)
def test_good_update_is_accepted(requests: ApiRequests, change: Update) -> None:
    answer = update(requests, change, "Strict")
    assert answer.accepted, answer.message
