"""Containers are killed at random moments, and nothing is lost, doubled or paid for twice.

Against the fake model, whose reply is a pure function of the request, the dataset is the same as
that of an undisturbed run. The real model batches, so it is no pure function: there, what must be
so is that no id occurs twice and that every input is answered for.
"""

from __future__ import annotations

import dataclasses
import os
import random

from kubesynth_testing.cluster.progress import say
from kubesynth_testing.scenarios import job_manifests, model_pods
from kubesynth_testing.scenarios.chaos import Blow, Killers, Storm
from kubesynth_testing.scenarios.dataset import Dataset, lineage_faults, unanswered_inputs
from kubesynth_testing.scenarios.job_manifests import DOCUMENTS_URI, JobShape
from kubesynth_testing.scenarios.journals import journalled_calls
from kubesynth_testing.scenarios.model_pods import ServedModel
from kubesynth_testing.scenarios.patience import eventually
from kubesynth_testing.scenarios.recording import record
from kubesynth_testing.scenarios.stage import seen_in
from kubesynth_testing.scenarios.world import Manifest, Workspace, World

JOB = "stormy"
SHARDS = 3
CONCURRENCY = 6  # of all pods together
# Kills count as failures of the shard; enough for all of them to hit one shard.
PATIENT = {"backoffLimitPerShard": 20}


@dataclasses.dataclass(frozen=True, slots=True)
class Survived:
    """A job that was struck before it could end, and what the model's server was asked.

    Attributes:
        blows: What was done to it.
        status: Its last status.
        dataset: What it made.
        children: The uids that its Jobs had, by name.
        repeated_calls: Requests with the body of an earlier one.
        journalled: How many calls were found in journals after the blows.
        journalled_and_repeated: How many of those were made again later.
    """

    blows: list[Blow]
    status: Manifest
    dataset: Dataset
    children: dict[str, set[str]]
    repeated_calls: int
    journalled: int
    journalled_and_repeated: int

    def most_repeated(self) -> int:
        """How many calls may have been made again.

        Those under way at a kill; and of a pod that was deleted also those that it began until it
        was gone: its successor does not wait for that. When other shards have ended, a pod is
        leased their slots too, up to all that the job has.
        """
        times = {"SIGKILL": 1, "deleted": 2}
        on_runners = [times[blow.means] for blow in self.blows if blow.target == "runner"]
        return sum(on_runners) * CONCURRENCY


def seed() -> int:
    """Return the seed of the blows: `KUBESYNTH_CHAOS_SEED`, or a new one every time."""
    return int(os.environ.get("KUBESYNTH_CHAOS_SEED") or random.SystemRandom().randrange(10**6))


def shape() -> JobShape:
    return JobShape(shards=SHARDS, concurrency=CONCURRENCY, rows_per_part=8)


def survive(
    space: Workspace, model: ServedModel, count: int, job: Manifest, *, after_answers: int = 0
) -> Survived:
    """Apply a job and strike it and the operator `count` times before it may end.

    Without `after_answers` the first blow may fall on the plan pod.
    """
    number = seed()
    say(f"chaos: KUBESYNTH_CHAOS_SEED={number}")
    seen: dict[bytes, int] = {}

    def look() -> None:
        # The journal first: a call that is made again after this is counted.
        journalled = journalled_calls(space.read_files(JOB))
        calls = model.calls()
        for call in journalled:
            seen.setdefault(call, calls[call])

    space.on_volume(f"mkdir -p /data/{JOB}")
    with Killers(space.world, f"{space.namespace}-killers") as killers:
        with record(space.kubectl, "jobs") as jobs:
            space.apply(job)
            eventually(lambda: model.statistics()["answered"] >= after_answers, what="answers")
            storm = Storm(space.world, killers, space.kubectl, JOB)
            storm.rage(random.Random(number), count, look=look)
            model.delay(0)
            status = space.wait_for_end(JOB)
        children = jobs.uids_by_name()
    after = model.calls()
    return Survived(
        storm.blows,
        status,
        space.read_output(JOB),
        {name: uids for name, uids in children.items() if name.startswith(f"{JOB}-")},
        model.repeated_calls(),
        len(seen),
        sum(after[call] > count for call, count in seen.items()),
    )


# --- the fake model: identical to an undisturbed run ---

DOCUMENTS = 45


@dataclasses.dataclass(frozen=True, slots=True)
class CalmAndStorm:
    calm: Dataset
    storm: Survived


def ten_containers_are_killed(world: World) -> CalmAndStorm:
    with world.workspace("chaos") as space:
        model = model_pods.start_counted_fake(space)

        def job(name: str) -> Manifest:
            return job_manifests.closed_qa(
                name, model.url, shape(), model=model.model, failurePolicy=PATIENT
            )

        space.apply(job_manifests.documents(DOCUMENTS), job("calm"))
        space.wait_for_end("calm")
        calm = space.read_output("calm")
        model.reset()
        model.delay(1.5)
        return CalmAndStorm(calm, survive(space, model, 10, job(JOB), after_answers=6))


@seen_in(ten_containers_are_killed)
def test_dataset_is_the_one_of_an_undisturbed_run(evidence: CalmAndStorm) -> None:
    calm, storm = evidence.calm, evidence.storm.dataset
    assert len(evidence.storm.blows) == 10
    assert {blow.target for blow in evidence.storm.blows} == {"operator", "runner"}
    assert storm.faults() == []
    assert len(calm.rows) == DOCUMENTS * 2
    assert storm.ids == calm.ids
    assert storm.content_hash() == calm.content_hash()


@seen_in(ten_containers_are_killed)
def test_status_of_a_job_that_was_killed_is_exact(evidence: CalmAndStorm) -> None:
    status = evidence.storm.status
    assert complete(status)
    records = status["progress"]["records"]
    assert records["in"] == records["done"] == DOCUMENTS
    assert records["accepted"] == len(evidence.storm.dataset.rows)
    assert status["summary"] == f"{SHARDS}/{SHARDS}"


@seen_in(ten_containers_are_killed)
def test_no_child_exists_twice_whoever_is_killed(evidence: CalmAndStorm) -> None:
    children = evidence.storm.children
    assert set(children) == {f"{JOB}-{phase}" for phase in ("plan", "generate", "finalize")}
    assert all(len(uids) == 1 for uids in children.values()), children


@seen_in(ten_containers_are_killed)
def test_only_calls_under_way_at_a_kill_are_made_again(evidence: CalmAndStorm) -> None:
    storm = evidence.storm
    assert storm.journalled > 0
    assert storm.journalled_and_repeated == 0
    assert storm.repeated_calls <= storm.most_repeated(), storm.blows


# --- the real model ---

REAL_DOCUMENTS = 12


def real_model_is_asked_by_runners_that_are_killed(world: World) -> Survived:
    with world.workspace("chaos-real") as space:
        model = model_pods.start_real(space, slots=CONCURRENCY)
        model.delay(1)
        job = job_manifests.closed_qa(
            JOB,
            model.url,
            shape(),
            model=model.model,
            # Much of what a small model says is no list of questions.
            failurePolicy={**PATIENT, "maxFailedRecordsPercent": 100},
        )
        job["spec"]["models"][0]["sampling"] = {"maxTokens": 40, "temperature": 0.5}
        job["spec"]["pipeline"][1]["answer"]["onCutOff"] = "Keep"
        space.apply(job_manifests.documents(REAL_DOCUMENTS))
        return survive(space, model, 3, job, after_answers=6)


@seen_in(real_model_is_asked_by_runners_that_are_killed)
def test_real_model_gives_no_id_twice_and_no_input_is_lost(evidence: Survived) -> None:
    dataset = evidence.dataset
    assert complete(evidence.status)
    assert dataset.faults() == []
    assert lineage_faults(dataset.rows, stages=2) == []
    assert unanswered_inputs(dataset, DOCUMENTS_URI, REAL_DOCUMENTS) == []


@seen_in(real_model_is_asked_by_runners_that_are_killed)
def test_real_model_is_asked_nothing_that_was_journalled(evidence: Survived) -> None:
    assert evidence.journalled > 0
    assert evidence.journalled_and_repeated == 0


def complete(status: Manifest) -> bool:
    return any(
        item["type"] == "Complete" and item["status"] == "True" for item in status["conditions"]
    )
