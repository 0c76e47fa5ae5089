"""Limits, a budget and a target over many shards, also while there is no operator."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import Any

from kubesynth_testing.scenarios import job_manifests, model_pods
from kubesynth_testing.scenarios.dataset import Dataset
from kubesynth_testing.scenarios.job_manifests import JobShape
from kubesynth_testing.scenarios.patience import eventually
from kubesynth_testing.scenarios.stage import seen_in, takes_long
from kubesynth_testing.scenarios.world import Manifest, World, condition, config_map, json_lines

JOB = "limited"
SHARDS = 8
# At the limit their calls take about 130 seconds, twice what the operator is away.
DOCUMENTS = 200
CONCURRENCY = 16
PER_SECOND = 3
# The long documents' shards take about 35,000 tokens each, the others about 10,000.
TOKENS = 200_000
WITHOUT_OPERATOR_SECONDS = 60


@dataclasses.dataclass(frozen=True, slots=True)
class Limited:
    status: Manifest
    dataset: Dataset
    statistics: dict[str, Any]
    answered_without_operator: int


def documents() -> Manifest:
    """Return documents of which the second half takes many more tokens than the first."""
    rows = []
    for number in range(DOCUMENTS):
        grinding = " Mills grind." * (100 if number >= DOCUMENTS // 2 else 1)
        rows.append({"text": f"Document {number} is about mills.{grinding}"})
    return config_map(job_manifests.DOCUMENTS, {job_manifests.DOCUMENTS_KEY: json_lines(rows)})


@takes_long
def the_operator_is_away_in_the_middle(world: World) -> Limited:
    with world.workspace("limits") as space:
        model = model_pods.start_fake(space, latency_seconds=0.5)
        shape = JobShape(shards=SHARDS, concurrency=CONCURRENCY)
        job = job_manifests.closed_qa(JOB, model.url, shape, model=model.model)
        job["spec"]["models"][0]["limits"]["requestsPerMinute"] = 60 * PER_SECOND
        job["spec"]["budget"] = {"tokens": TOKENS}
        with world.operator.lock:
            space.apply(documents(), job)
            eventually(lambda: model.statistics()["answered"] >= 40, what="40 answers", seconds=400)
            with world.operator.away():
                before = model.statistics()["answered"]
                time.sleep(WITHOUT_OPERATOR_SECONDS)
                after = model.statistics()["answered"]
        status = space.wait_for_end(JOB)
        return Limited(status, space.read_output(JOB), model.statistics(), after - before)


@seen_in(the_operator_is_away_in_the_middle)
def test_budget_that_is_enough_is_moved_to_the_shards_that_need_it(evidence: Limited) -> None:
    complete = condition(evidence.status, "Complete")
    assert (complete["status"], complete["reason"]) == ("True", "AllShardsSucceeded")
    # An even part would not have been enough for the long documents.
    assert len(evidence.dataset.rows) == 2 * DOCUMENTS
    assert evidence.dataset.faults() == []
    used = evidence.status["progress"]["tokens"]
    assert TOKENS / 2 < used["prompt"] + used["completion"] <= TOKENS


@seen_in(the_operator_is_away_in_the_middle)
def test_limits_hold_over_all_pods_together(evidence: Limited) -> None:
    assert evidence.statistics["in_flight_peak"] <= CONCURRENCY
    seconds = {int(second): n for second, n in evidence.statistics["seconds"].items()}
    busiest = max(sum(seconds.get(second + more, 0) for more in range(10)) for second in seconds)
    # Each pod may begin with one request at once, after one to see what the server can do.
    assert busiest <= 10 * PER_SECOND + 2 * SHARDS, json.dumps(seconds)


@seen_in(the_operator_is_away_in_the_middle)
def test_pods_go_on_without_an_operator(evidence: Limited) -> None:
    # Shares of shards that end meanwhile stay unused until the operator is back.
    assert evidence.answered_without_operator > WITHOUT_OPERATOR_SECONDS * PER_SECOND / 3
    assert evidence.answered_without_operator <= WITHOUT_OPERATOR_SECONDS * PER_SECOND + 2 * SHARDS


# --- a target ---

TARGET_SHARDS = 4
TARGET_CONCURRENCY = 8
TARGET_DOCUMENTS = 48
TARGET = 36


@dataclasses.dataclass(frozen=True, slots=True)
class Reached:
    status: Manifest
    dataset: Dataset


def shards_share_a_target(world: World) -> Reached:
    with world.workspace("target") as space:
        model = model_pods.start_fake(space, latency_seconds=1)
        shape = JobShape(shards=TARGET_SHARDS, concurrency=TARGET_CONCURRENCY)
        job = job_manifests.closed_qa(JOB, model.url, shape, model=model.model)
        job["spec"]["target"] = {"acceptedRecords": TARGET}
        space.apply(job_manifests.documents(TARGET_DOCUMENTS), job)
        status = space.wait_for_end(JOB)
        return Reached(status, space.read_output(JOB))


@seen_in(shards_share_a_target)
def test_target_is_reached_by_all_shards_together(evidence: Reached) -> None:
    complete = condition(evidence.status, "Complete")
    assert (complete["status"], complete["reason"]) == ("True", "TargetReached")
    assert evidence.dataset.faults() == []
    assert evidence.dataset.is_complete
    rows = len(evidence.dataset.rows)
    assert evidence.status["progress"]["records"]["accepted"] == rows
    # Each of the documents under way at the end gives two rows.
    assert TARGET <= rows <= TARGET + 2 * TARGET_CONCURRENCY
