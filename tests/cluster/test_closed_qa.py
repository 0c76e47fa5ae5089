"""From `helm install` and `kubectl apply` to a dataset of a real model, as the example says."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter

from kubesynth_testing.cluster import paths
from kubesynth_testing.cluster.shell import CommandError
from kubesynth_testing.scenarios import model_pods
from kubesynth_testing.scenarios.dataset import Dataset, lineage_faults
from kubesynth_testing.scenarios.patience import eventually
from kubesynth_testing.scenarios.stage import seen_in, takes_long
from kubesynth_testing.scenarios.world import (
    Manifest,
    Workspace,
    World,
    claim,
    config_map,
    json_lines,
)

JOB = "closed-qa"
EXAMPLES = paths.REPOSITORY / "examples"
EXAMPLE = EXAMPLES / "closed-qa.yaml"
DOCUMENTS = EXAMPLES / "data" / "documents.jsonl"
WORDS = 15
KINDS = ("jobs", "pods", "configmaps", "networkpolicies")
OWN = f"kubesynth.io/job-name={JOB}"


@dataclasses.dataclass(frozen=True, slots=True)
class FirstDataset:
    """What a user sees on the way to a dataset.

    Attributes:
        job: The SyntheticDataJob at its end.
        table: What `kubectl get sdj` printed then.
        dataset: What was written, read when the job had been deleted.
        differences: What `kubectl diff` printed while the job ran and at the end.
        events: Reasons of the job's Events.
        explanation: What `kubectl explain` printed.
        children: The children at the end, and after the job's deletion.
    """

    job: Manifest
    table: str
    dataset: Dataset
    differences: tuple[str, str]
    events: Counter[str]
    explanation: str
    children: tuple[set[str], set[str]]


def documents() -> list[Manifest]:
    """Return the example's documents, cut after some words: the model reads 180 tokens a second."""
    found = [json.loads(line) for line in DOCUMENTS.read_text().splitlines()]
    return [{**item, "text": " ".join(item["text"].split()[:WORDS])} for item in found]


@takes_long
def example_is_applied(world: World) -> FirstDataset:
    with world.workspace("closed-qa") as space:
        space.apply(
            config_map("documents", {"documents.jsonl": json_lines(documents())}),
            claim("datasets", world.storage_class),
        )
        model_pods.start_real(space, name="llm", slots=12, claim="datasets")
        space.kubectl("apply", "-f", EXAMPLE)
        explanation = space.kubectl("explain", "sdj.spec.pipeline")
        space.wait_for_phase(JOB, "Running")
        first = differences(space)
        complete = "condition=Complete"
        space.kubectl.wait(complete, f"sdj/{JOB}", timeout_seconds=1500)
        second = differences(space)
        job, table = space.job(JOB), space.kubectl("get", "sdj", JOB)
        children = space.names(*KINDS, selector=OWN)
        # Told after the status, so perhaps a moment after `kubectl wait`.
        eventually(lambda: "AllShardsSucceeded" in reasons(space), what="the last Event")
        events = reasons(space)
        space.kubectl("delete", "-f", EXAMPLE)
        eventually(lambda: not space.names(*KINDS, selector=OWN), what="no child is left")
        return FirstDataset(
            job,
            table,
            space.read_output("closed-qa", claim="datasets"),
            (first, second),
            events,
            explanation,
            (children, space.names(*KINDS, selector=OWN)),
        )


def reasons(space: Workspace) -> Counter[str]:
    """Return the reasons of the job's Events."""
    told = (event for event in space.list("events") if event["regarding"]["name"] == JOB)
    return Counter(event["reason"] for event in told)


def differences(space: Workspace) -> str:
    """Return what `kubectl diff` finds between the file and the cluster; it fails if it does."""
    try:
        return space.kubectl("diff", "-f", EXAMPLE)
    except CommandError as error:
        return error.output


@seen_in(example_is_applied)
def test_every_document_is_asked_about_and_every_question_is_a_row(evidence: FirstDataset) -> None:
    given, dataset = documents(), evidence.dataset
    assert len(given) >= 50
    assert dataset.faults() == []
    assert dataset.is_complete
    assert dataset.manifest["records"] == len(given)
    answered_for = {row["source"]["id"] for row in (*dataset.rows, *dataset.errors)}
    assert answered_for == {document["id"] for document in given}
    titles = {document["id"]: document["title"] for document in given}
    for row in dataset.rows:
        assert row["question"].strip()
        assert row["answer"].strip()
        assert row["title"] == titles[row["source"]["id"]]


@seen_in(example_is_applied)
def test_rows_know_their_question_and_their_document(evidence: FirstDataset) -> None:
    assert lineage_faults(evidence.dataset.rows, stages=2) == []


@seen_in(example_is_applied)
def test_rows_tell_which_calls_they_come_from(evidence: FirstDataset) -> None:
    for row in evidence.dataset.rows:
        stages = [call["stage"] for call in row["provenance"]]
        assert stages[0] == "closedQA-0"
        assert stages[-1] == "answer-1"
        for call in row["provenance"]:
            assert call["model"]
            assert call["prompt_hash"]
            assert call["seed"] is not None
            assert call["completion_tokens"] > 0


@seen_in(example_is_applied)
def test_status_counts_what_is_in_the_files(evidence: FirstDataset) -> None:
    status, dataset = evidence.job["status"], evidence.dataset
    records = status["progress"]["records"]
    assert records["accepted"] == len(dataset.rows)
    assert records["failed"] == len(dataset.errors)
    assert records["in"] == records["done"] == dataset.manifest["records"]
    assert status["outputs"]["uri"] == "pvc://datasets/closed-qa"
    assert status["observedGeneration"] == evidence.job["metadata"]["generation"]
    tokens = status["progress"]["tokens"]
    assert tokens["completion"] == dataset.manifest["tally"]["completionTokens"] > 0


@seen_in(example_is_applied)
def test_kubectl_get_shows_the_truth(evidence: FirstDataset) -> None:
    header, line = evidence.table.splitlines()
    shown = dict(zip(header.split(), line.split(), strict=True))
    assert shown["NAME"] == JOB
    assert shown["PHASE"] == "Complete"
    assert shown["SHARDS"] == "3/3"
    assert shown["PROGRESS"] == "100"


@seen_in(example_is_applied)
def test_every_shard_has_finished(evidence: FirstDataset) -> None:
    assert evidence.dataset.manifest["finishedShards"] == 3


@seen_in(example_is_applied)
def test_events_tell_the_story_once(evidence: FirstDataset) -> None:
    told = ("Valid", "Planning", "ShardsActive", "Finalizing", "AllShardsSucceeded")
    assert [evidence.events[reason] for reason in told] == [1] * len(told)


@seen_in(example_is_applied)
def test_kubectl_diff_finds_no_drift(evidence: FirstDataset) -> None:
    assert evidence.differences == ("", "")


@seen_in(example_is_applied)
def test_operator_writes_nothing_but_the_status_of_the_users_object(evidence: FirstDataset) -> None:
    metadata = evidence.job["metadata"]
    assert "finalizers" not in metadata
    assert "labels" not in metadata
    own = "kubectl.kubernetes.io/last-applied-configuration"
    assert set(metadata["annotations"]) == {own}
    assert metadata["generation"] == 1


@seen_in(example_is_applied)
def test_kubectl_explain_is_documentation(evidence: FirstDataset) -> None:
    assert "The stages, in order" in evidence.explanation
    for stage in ("closedQA", "answer", "prompt"):
        assert stage in evidence.explanation


@seen_in(example_is_applied)
def test_deleting_the_job_leaves_nothing_but_the_dataset(evidence: FirstDataset) -> None:
    before, after = evidence.children
    assert {name.partition("/")[0] for name in before} == set(KINDS)
    assert after == set()
