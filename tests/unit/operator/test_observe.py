"""What is read afresh when a job is looked at, because a snapshot may lag behind our own writes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from kubesynth_api.conditions import ConditionType, Reason
from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_api.shares import initial_share
from kubesynth_operator import wire
from kubesynth_operator.child_cache import ChildCache
from kubesynth_operator.kube import errors
from kubesynth_operator.kube.client import KubeClient
from kubesynth_operator.kube.resources import Resource
from kubesynth_operator.observation import Job, JobKey, Observation
from kubesynth_operator.observe import Observer, Snapshots
from kubesynth_operator.progress_book import ProgressBook
from kubesynth_operator.resources import lease_secret
from kubesynth_operator.servers.catalog import Catalog
from kubesynth_testing.builders import (
    NOW,
    OTHER_UID,
    UID,
    ChildState,
    a_job,
    a_status,
    child_object,
    job_object,
)
from kubesynth_testing.manifests import edited

PLAN, GENERATE, FINALIZE = RunnerPhase.PLAN, RunnerPhase.GENERATE, RunnerPhase.FINALIZE


class OfTheServer(KubeClient):
    """Answers from a few objects, by their names; there is nothing else."""

    def __init__(self, objects: Mapping[str, Mapping[str, Any]]) -> None:
        self._objects = objects

    async def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any]:
        if name not in self._objects:
            refusal = errors.Refusal(404, "NotFound", f"{resource.plural} {name}")
            raise errors.NotFoundError(f"GET {namespace}", refusal)
        return dict(self._objects[name])


def look(reason: Reason, *children: Mapping[str, Any]) -> Observation:
    """Return a look at a job for which the watches have brought nothing yet."""
    status = a_status((ConditionType.RUNNING, True, reason)).to_wire()
    metadata = {"uid": UID, "generation": 1, "resourceVersion": "100"}
    raw = job_object(shards=4) | {"status": status}
    raw["metadata"] |= metadata
    objects = {raw["metadata"]["name"]: raw}
    objects |= {child["metadata"]["name"]: dict(child) for child in children}
    snapshots = Snapshots(
        ChildCache(wire.parse_child_job, lambda key: None),
        ChildCache(wire.parse_pod, lambda key: None),
        ProgressBook(),
        Catalog(lambda key: None, lambda key: None),
    )
    observer = Observer(
        OfTheServer(objects), snapshots, lambda: NOW, referent_age=timedelta(seconds=1)
    )
    seen = asyncio.run(observer.observe(JobKey("team", "qa")))
    assert seen is not None
    return seen


def a_child_object(job: Job, phase: RunnerPhase, **state: Any) -> dict[str, Any]:
    return child_object(job, phase, ChildState(**state))


@pytest.mark.parametrize(
    ("reason", "phase"),
    [
        (Reason.PLANNING, PLAN),
        (Reason.SHARDS_ACTIVE, GENERATE),
        (Reason.BUDGET_SPENT, GENERATE),
        (Reason.TARGET_REACHED, GENERATE),
        (Reason.TARGET_MISSED, GENERATE),
        (Reason.FINALIZING, FINALIZE),
    ],
)
def test_a_job_that_was_just_made_is_not_taken_for_missing(
    reason: Reason, phase: RunnerPhase
) -> None:
    made = a_child_object(a_job(shards=4), phase)
    assert set(look(reason, made).children) == {phase}


def test_one_that_is_gone_or_of_a_namesake_is_missing() -> None:
    assert look(Reason.SHARDS_ACTIVE).children == {}
    leftover = a_child_object(a_job(shards=4), GENERATE, owner_uid=OTHER_UID)
    assert look(Reason.SHARDS_ACTIVE, leftover).children == {}


def test_what_shards_began_with_is_read_off_the_secret_to_lease_with() -> None:
    job = a_job(shards=4, budget={"tokens": 1000})
    secret = lease_secret.build(job)
    seen = look(Reason.SUSPENDED_BY_USER, secret)
    assert seen.has_lease_secret
    assert seen.first_share == initial_share(job.run_spec().spec)
    # An operator of before wrote none.
    seen = look(Reason.SUSPENDED_BY_USER, edited(secret, {"metadata.annotations": {}}))
    assert (seen.has_lease_secret, seen.first_share) == (True, None)
