"""The fields that say how a job may run are obeyed: parallelism, references, deadlines, cleanup."""

from __future__ import annotations

import dataclasses
from typing import Any

from kubesynth_testing.cluster.runners import Kubectl
from kubesynth_testing.scenarios import job_manifests, model_pods
from kubesynth_testing.scenarios.dataset import Dataset
from kubesynth_testing.scenarios.job_manifests import JobShape
from kubesynth_testing.scenarios.model_pods import ServedModel
from kubesynth_testing.scenarios.patience import eventually
from kubesynth_testing.scenarios.stage import seen_in
from kubesynth_testing.scenarios.world import Manifest, Workspace, World, claim, condition

API_KEY = "a-key-for-tests"


def begin(space: Workspace, name: str, model: ServedModel, shape: JobShape, **spec: Any) -> None:
    job = job_manifests.closed_qa(name, model.url, shape, model=model.model, **spec)
    space.apply(job_manifests.documents(12), job)


def patch(kubectl: Kubectl, name: str, spec: str) -> None:
    kubectl("patch", "syntheticdatajob", name, "--type=merge", "-p", f'{{"spec": {spec}}}')


# --- what is missing and comes later ---


@dataclasses.dataclass(frozen=True, slots=True)
class Parked:
    without_secret: Manifest
    children_without_secret: set[str]
    end: Manifest
    with_single_node_volume: Manifest


def references_are_missing_at_first(world: World) -> Parked:
    with world.workspace("parked") as space:
        model = model_pods.start_fake(space, api_key=API_KEY)
        key = {"secretKeyRef": {"name": "llm", "key": "token"}}
        external = {"url": model.url, "model": model.model, "apiKey": key}
        begin(space, "keyed", model, JobShape(), models=[{"name": "writer", "external": external}])
        space.apply(claim("single", world.storage_class, ["ReadWriteOnce"]))
        output = {"uri": "pvc://single/out"}
        begin(space, "spread", model, JobShape(shards=2), output=output)
        without_secret = space.wait_for_phase("keyed", "Rejected")
        children = space.names("jobs", "pods", selector="kubesynth.io/job-name=keyed")
        space.kubectl("create", "secret", "generic", "llm", f"--from-literal=token={API_KEY}")
        return Parked(
            without_secret,
            children,
            space.wait_for_end("keyed"),
            space.wait_for_phase("spread", "Rejected"),
        )


@seen_in(references_are_missing_at_first)
def test_job_waits_for_a_missing_secret_without_pods(evidence: Parked) -> None:
    accepted = condition(evidence.without_secret, "Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "ReferenceNotFound")
    assert "'llm'" in accepted["message"]
    assert evidence.children_without_secret == set()


@seen_in(references_are_missing_at_first)
def test_job_goes_on_by_itself_when_the_secret_is_there(evidence: Parked) -> None:
    assert condition(evidence.end, "Accepted")["status"] == "True"
    assert condition(evidence.end, "Complete")["status"] == "True"


@seen_in(references_are_missing_at_first)
def test_volume_of_one_node_is_refused_for_two_pods(evidence: Parked) -> None:
    accepted = condition(evidence.with_single_node_volume, "Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "AccessModeConflict")
    assert "'single'" in accepted["message"]


# --- what changes while a job runs ---


@dataclasses.dataclass(frozen=True, slots=True)
class Widened:
    pods_before: int
    pods_after: int
    end: Manifest


def parallelism_is_raised_during_a_run(world: World) -> Widened:
    with world.workspace("widen") as space:
        model = model_pods.start_fake(space, latency_seconds=0.5)
        begin(space, "qa", model, JobShape(shards=3, parallelism=1))
        eventually(lambda: model.statistics()["answered"] >= 3, what="the first answers")
        model.set_faults(latency_seconds=4)
        before = running_shards(space)
        patch(space.kubectl, "qa", '{"shards": {"parallelism": 3}}')
        after = eventually(
            lambda: running_shards(space) if running_shards(space) > before else 0,
            what="more pods at work",
        )
        model.set_faults()
        return Widened(before, after, space.wait_for_end("qa"))


def running_shards(space: Workspace) -> int:
    selector = "kubesynth.io/phase=generate"
    return len(space.list("pods", labels=selector, fields="status.phase=Running"))


@seen_in(parallelism_is_raised_during_a_run)
def test_raised_parallelism_starts_more_pods_of_a_running_job(evidence: Widened) -> None:
    assert evidence.pods_before == 1
    assert evidence.pods_after > 1
    assert condition(evidence.end, "Complete")["status"] == "True"


@dataclasses.dataclass(frozen=True, slots=True)
class TimeUp:
    status: Manifest
    dataset: Dataset


def time_is_up(world: World) -> TimeUp:
    with world.workspace("deadline") as space:
        model = model_pods.start_fake(space, latency_seconds=0.2)
        begin(space, "qa", model, JobShape(shards=2, rows_per_part=2))
        eventually(lambda: model.statistics()["answered"] >= 15, what="the first parts")
        model.set_faults(latency_seconds=20)
        # Counted from the start: over at once.
        patch(space.kubectl, "qa", '{"deadlines": {"activeSeconds": 1}}')
        return TimeUp(space.wait_for_end("qa"), space.read_output("qa"))


@seen_in(time_is_up)
def test_job_fails_when_its_time_is_up(evidence: TimeUp) -> None:
    failed = condition(evidence.status, "Failed")
    assert (failed["status"], failed["reason"]) == ("True", "DeadlineExceeded")


@seen_in(time_is_up)
def test_job_whose_time_is_up_reports_what_is_there(evidence: TimeUp) -> None:
    dataset = evidence.dataset
    assert dataset.faults() == []
    assert 0 < len(dataset.rows) < 24
    assert not dataset.is_complete
    assert b"#" in dataset.files["report.md"]
    assert evidence.status["progress"]["records"]["accepted"] == len(dataset.rows)
    assert evidence.status["outputs"]["report"].endswith("report.md")


# --- what happens after the end ---


@dataclasses.dataclass(frozen=True, slots=True)
class CleanedUp:
    left: set[str]
    dataset: Dataset


def time_to_live_is_over(world: World) -> CleanedUp:
    with world.workspace("ttl") as space:
        model = model_pods.start_fake(space)
        ttl = {"ttlSecondsAfterFinished": 2}
        begin(space, "qa", model, JobShape(), cleanup=ttl)
        space.kubectl.wait("delete", "syntheticdatajob/qa")
        dataset = space.read_output("qa")
        selector = "kubesynth.io/job-name=qa"
        kinds = ("jobs", "pods", "configmaps", "networkpolicies")
        eventually(lambda: not space.names(*kinds, selector=selector), what="no child is left")
        return CleanedUp(space.names(*kinds, selector=selector), dataset)


@seen_in(time_to_live_is_over)
def test_job_is_deleted_after_its_time_to_live_and_the_dataset_stays(evidence: CleanedUp) -> None:
    assert evidence.left == set()
    assert evidence.dataset.faults() == []
    assert evidence.dataset.is_complete
