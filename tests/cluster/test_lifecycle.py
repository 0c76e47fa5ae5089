"""A job lives through what users, GitOps tools and operators of clusters do to it."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import Any

from kubesynth_testing.scenarios import job_manifests, model_pods
from kubesynth_testing.scenarios.dataset import Dataset, lineage_faults
from kubesynth_testing.scenarios.job_manifests import JobShape
from kubesynth_testing.scenarios.model_pods import ServedModel
from kubesynth_testing.scenarios.patience import eventually
from kubesynth_testing.scenarios.recording import ends, record
from kubesynth_testing.scenarios.stage import seen_in
from kubesynth_testing.scenarios.world import Manifest, Workspace, World, condition

JOB = "qa"
GENERATE_PODS = "kubesynth.io/phase=generate"


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """A job that has ended, and its dataset."""

    status: Manifest
    dataset: Dataset
    documents: int

    def assert_complete_and_exact(self) -> None:
        """Every row is there once, and the status counts what is in the files."""
        assert condition(self.status, "Complete")["status"] == "True"
        assert self.dataset.faults() == []
        assert lineage_faults(self.dataset.rows, stages=2) == []
        assert self.dataset.is_complete
        records = self.status["progress"]["records"]
        assert records["in"] == records["done"] == self.documents
        assert records["accepted"] == len(self.dataset.rows) > 0
        assert records["failed"] == len(self.dataset.errors) == 0


def ended(space: Workspace, documents: int, name: str = JOB) -> Ended:
    return Ended(space.wait_for_end(name), space.read_output(name), documents)


def begin(
    space: Workspace, model: ServedModel, documents: int, shape: JobShape, **spec: Any
) -> None:
    """Apply a job over so many documents."""
    job = job_manifests.closed_qa(JOB, model.url, shape, model=model.model, **spec)
    space.apply(job_manifests.documents(documents), job)


def wait_for_answers(model: ServedModel, count: int) -> None:
    eventually(
        lambda: model.statistics()["answered"] >= count, what=f"{count} answers", seconds=400
    )


def patch(space: Workspace, name: str, spec: str) -> None:
    space.kubectl("patch", "syntheticdatajob", name, "--type=merge", "-p", f'{{"spec": {spec}}}')


# --- pods that are gone when the operator comes back ---


@dataclasses.dataclass(frozen=True, slots=True)
class LostPods:
    end: Ended
    jobs: set[str]


def finished_pods_are_lost_while_the_operator_is_down(world: World) -> LostPods:
    with world.workspace("lost-pods") as space:
        model = model_pods.start_fake(space, latency_seconds=0.3)
        with world.operator.lock:
            begin(space, model, 12, JobShape(shards=3, concurrency=6))
            space.kubectl.wait("create", f"job/{JOB}-generate")
            world.operator.stop()
            space.wait_for_child(f"{JOB}-generate", "condition=Complete")
            delete_pods(space, GENERATE_PODS)
            # Finalize gets no pod before the operator is gone again.
            space.apply(pod_quota(1))
            world.operator.start()
            space.kubectl.wait("create", f"job/{JOB}-finalize")
            world.operator.stop()
            space.kubectl("delete", "resourcequota", "pods")
            space.wait_for_child(f"{JOB}-finalize", "condition=Complete")
            delete_pods(space, "kubesynth.io/phase=finalize")
            world.operator.start()
        end = ended(space, 12)
        return LostPods(end, space.names("jobs"))


def delete_pods(space: Workspace, selector: str) -> None:
    space.kubectl("delete", "pods", "--force", "--grace-period=0", "-l", selector)


def pod_quota(count: int) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "pods"},
        "spec": {"hard": {"pods": str(count)}},
    }


@seen_in(finished_pods_are_lost_while_the_operator_is_down)
def test_status_is_exact_although_every_finished_pod_is_gone(evidence: LostPods) -> None:
    evidence.end.assert_complete_and_exact()


@seen_in(finished_pods_are_lost_while_the_operator_is_down)
def test_totals_of_a_lost_finalize_pod_are_read_again_by_a_report_job(evidence: LostPods) -> None:
    phases = ("plan", "generate", "finalize", "report")
    assert evidence.jobs == {f"jobs/{JOB}-{phase}" for phase in phases}


# --- suspend and resume ---


@dataclasses.dataclass(frozen=True, slots=True)
class Suspended:
    end: Ended
    while_suspended: Manifest
    calls_while_suspended: int
    repeated_calls: int
    ends: list[Manifest]


def suspended_and_resumed(world: World) -> Suspended:
    with world.workspace("suspend") as space, record(space.kubectl, "pods") as pods:
        # Slow enough that no shard ends before it is stopped, and that what is under way still can.
        model = model_pods.start_fake(space, latency_seconds=2.5)
        begin(space, model, 40, JobShape(shards=2))
        wait_for_answers(model, 6)
        patch(space, JOB, '{"suspend": true}')
        space.wait_for_phase(JOB, "Suspended")
        space.kubectl.wait("delete", "pods", "-l", GENERATE_PODS)
        seen = ends(pods.versions())
        before = model.statistics()["requests"]
        # The shards' pods may have asked at once what the server can do: the only repeats so far.
        repeated_before = model.repeated_calls()
        time.sleep(2)
        while_suspended = space.status(JOB)
        calls = model.statistics()["requests"] - before
        model.set_faults()
        patch(space, JOB, '{"suspend": false}')
        end = ended(space, 40)
        stopped = [each for name, found in seen.items() if "-generate-" in name for each in found]
        repeated = model.repeated_calls() - repeated_before
        return Suspended(end, while_suspended, calls, repeated, stopped)


@seen_in(suspended_and_resumed)
def test_suspended_job_has_no_pod_and_makes_no_call(evidence: Suspended) -> None:
    assert condition(evidence.while_suspended, "Suspended")["reason"] == "SuspendedByUser"
    assert evidence.while_suspended["shards"]["active"] == 0
    assert evidence.calls_while_suspended == 0


@seen_in(suspended_and_resumed)
def test_suspended_runners_leave_a_checkpoint(evidence: Suspended) -> None:
    codes = {each["exitCode"] for each in evidence.ends}
    assert codes == {143}, json.dumps(evidence.ends, indent=2)  # a text is not shortened


@seen_in(suspended_and_resumed)
def test_resumed_job_repeats_no_call_and_ends_complete(evidence: Suspended) -> None:
    assert evidence.repeated_calls == 0
    evidence.end.assert_complete_and_exact()


# --- deleted and applied again, as GitOps tools do ---


@dataclasses.dataclass(frozen=True, slots=True)
class AppliedAgain:
    pods_of_the_first: set[str]
    end: Ended
    repeated_calls: int
    third: Manifest
    after_third: Dataset


CONCURRENCY = 4


def deleted_and_applied_again(world: World) -> AppliedAgain:
    with world.workspace("again") as space:
        model = model_pods.start_fake(space, latency_seconds=0.3)
        shape = JobShape(shards=2, concurrency=CONCURRENCY)
        resuming: dict[str, Any] = {"output": {"ifExists": "Resume"}}
        begin(space, model, 24, shape, **resuming)
        wait_for_answers(model, 10)
        first = space.job(JOB)["metadata"]["uid"]
        apply_again(space, model, shape, **resuming)
        leftovers = space.names("pods", selector=f"kubesynth.io/job-uid={first}")
        end = ended(space, 24)
        repeated = model.repeated_calls()
        apply_again(space, model, shape)
        third = space.wait_for_end(JOB)
        return AppliedAgain(leftovers, end, repeated, third, space.read_output(JOB))


def apply_again(space: Workspace, model: ServedModel, shape: JobShape, **spec: Any) -> None:
    """Delete the job and make one of the same name at once, before anything else can happen."""
    job = job_manifests.closed_qa(JOB, model.url, shape, model=model.model, **spec)
    space.kubectl("replace", "--force", "-f", "-", stdin=json.dumps(job))


@seen_in(deleted_and_applied_again)
def test_job_applied_again_at_once_resumes_its_output(evidence: AppliedAgain) -> None:
    assert evidence.pods_of_the_first, "the second job came when all of the first was gone"
    evidence.end.assert_complete_and_exact()
    # What was under way when the first job's pods were stopped, and nothing else.
    assert evidence.repeated_calls <= CONCURRENCY


@seen_in(deleted_and_applied_again)
def test_job_applied_again_refuses_an_output_that_it_may_not_resume(evidence: AppliedAgain) -> None:
    accepted = condition(evidence.third, "Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "OutputConflict")
    assert "ifExists" in accepted["message"]
    assert evidence.after_third.files == evidence.end.dataset.files


# --- an operator upgrade with another pod template ---


@dataclasses.dataclass(frozen=True, slots=True)
class Upgraded:
    end: Ended
    log_levels: dict[str, str]
    uids: dict[str, set[str]]


def operator_is_upgraded_during_a_run(world: World) -> Upgraded:
    with world.workspace("upgrade") as space, record(space.kubectl, "jobs") as jobs:
        model = model_pods.start_fake(space, latency_seconds=0.5)
        with world.operator.lock:
            begin(space, model, 24, JobShape(shards=2))
            wait_for_answers(model, 6)
            model.set_faults(latency_seconds=8)
            world.operator.install({"log": {"level": "DEBUG"}})  # nobody minds if it stays so
            model.set_faults()
            end = ended(space, 24)
        levels = {item["metadata"]["name"]: log_level(item) for item in jobs.last_versions()}
        return Upgraded(end, levels, jobs.uids_by_name())


def log_level(job: Manifest) -> str:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    values = {item["name"]: item.get("value", "") for item in container["env"]}
    return str(values["KUBESYNTH_LOG_LEVEL"])


@seen_in(operator_is_upgraded_during_a_run)
def test_upgraded_operator_leaves_the_jobs_of_the_older_one_alone(evidence: Upgraded) -> None:
    assert evidence.log_levels == {
        f"{JOB}-plan": "INFO",
        f"{JOB}-generate": "INFO",
        f"{JOB}-finalize": "DEBUG",
    }
    assert all(len(uids) == 1 for uids in evidence.uids.values())


@seen_in(operator_is_upgraded_during_a_run)
def test_job_ends_well_under_an_upgraded_operator(evidence: Upgraded) -> None:
    evidence.end.assert_complete_and_exact()


# --- two writers of one shard ---


@dataclasses.dataclass(frozen=True, slots=True)
class TwoWriters:
    end: Ended
    epochs: int
    intruder: Manifest


def shard_has_two_live_writers(world: World) -> TwoWriters:
    with world.workspace("writers") as space:
        model = model_pods.start_fake(space, latency_seconds=0.3)
        begin(space, model, 30, JobShape(shards=2, concurrency=4, rows_per_part=6))
        wait_for_answers(model, 10)
        # The first writer must still be at work when the second one comes, however late that is.
        model.set_faults(latency_seconds=5)
        space.apply(second_writer(space, shard=0))
        eventually(lambda: claims_of(space, shard=0) >= 2, what="a second claim", seconds=200)
        model.set_faults()
        end = ended(space, 30)
        space.kubectl.wait(
            "jsonpath={.status.containerStatuses[0].state.terminated}", "pod/intruder"
        )
        epochs = claims_of(space, shard=0)
        return TwoWriters(end, epochs, space.read("pods", "intruder"))


def claims_of(space: Workspace, shard: int) -> int:
    """Count the processes that have claimed a shard so far."""
    folder = f"/data/{JOB}/_kubesynth/*/shards/{shard:05}/claims"
    return int(space.on_volume(f"ls {folder} | wc -l"))


def second_writer(space: Workspace, shard: int) -> Manifest:
    """Return a pod by the Job's own template that no controller knows of."""
    job = space.read("jobs", f"{JOB}-generate")
    spec = job["spec"]["template"]["spec"]
    spec["containers"][0]["env"].append({"name": "JOB_COMPLETION_INDEX", "value": str(shard)})
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "intruder"}, "spec": spec}


@seen_in(shard_has_two_live_writers)
def test_two_live_writers_of_a_shard_end_with_one_result(evidence: TwoWriters) -> None:
    assert evidence.epochs >= 2, "the second pod never wrote"
    evidence.end.assert_complete_and_exact()


@seen_in(shard_has_two_live_writers)
def test_second_writer_finishes_the_shard_or_steps_back(evidence: TwoWriters) -> None:
    (container,) = evidence.intruder["status"]["containerStatuses"]
    assert container["state"]["terminated"]["exitCode"] in (0, 75)
