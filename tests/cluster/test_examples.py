"""Every example for a cluster runs on one as it is written, but for the address of the model."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from kubesynth_testing.cluster import paths
from kubesynth_testing.scenarios import model_pods
from kubesynth_testing.scenarios.dataset import Dataset
from kubesynth_testing.scenarios.stage import seen_in
from kubesynth_testing.scenarios.world import Manifest, World, claim

EXAMPLES = paths.REPOSITORY / "examples"
MODEL = "smollm2-135m-instruct"
# What stands for the user's own server, and its model.
HOSTED = ("https://inference.example.com/v1", "llama-3.1-8b-instruct")

RUN_HERE = ("answer", "budgeted", "custom-prompt")
OF_THE_README = ("embedded-qa", "datasets-reader")
RUN_ELSEWHERE = {
    "retry-failed": "tests/integration/cli/test_retry_failed.py runs it over what failed before",
    "batch": "tests/integration/runner/test_batches.py: no pod waits for a batch API here",
    "closed-qa": "test_closed_qa.py runs it with the real model",
    "closed-qa-local": "it needs no cluster: `make demo`",
    "datasets-claim": "a volume claim",
    "triton-nemo-deploy": "tests/integration/triton/test_runs.py runs it on a real Triton",
    "model-server-multi-node": "it needs GPUs; tests of server groups run the like on none",
    "model-server": "it needs a GPU; test_model_servers.py runs the like on a CPU",
    "reward-model": "tests/integration/cli/test_reward_example.py runs it",
    "plugin": "test_plugins.py runs it, once the operator allows it",
    "object-storage": "test_runs.py of tests/integration/object_stores runs the like",
    **dict.fromkeys(
        (
            *("coding", "dialogue", "math", "multilingual-qa", "open-qa"),
            *("preference-pairs", "writing"),
        ),
        "tests/integration/cli/test_generation_examples.py runs it",
    ),
    **dict.fromkeys(
        ("classify-entities", "distill", "nemotron-cc", "tokenizer", "translate"),
        "tests/integration/cli/test_document_stages.py runs it",
    ),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    status: Manifest
    dataset: Dataset


def examples_are_applied(world: World) -> dict[str, Example]:
    with world.workspace("examples") as space:
        space.apply(claim("datasets", world.storage_class))
        model = model_pods.start_fake(space, name="llm", model=MODEL, claim="datasets")
        for name in ("documents", "questions"):
            file = EXAMPLES / "data" / f"{name}.jsonl"
            space.kubectl("create", "configmap", name, f"--from-file={file}")
        space.kubectl("create", "secret", "generic", "inference", "--from-literal=api-key=k")
        for name in RUN_HERE:
            text = (EXAMPLES / f"{name}.yaml").read_text()
            text = text.replace(HOSTED[0], model.url).replace(HOSTED[1], MODEL)
            space.kubectl("apply", "-f", "-", stdin=text)
        return {
            name: Example(space.wait_for_end(name), space.read_output(name, claim="datasets"))
            for name in RUN_HERE
        }


@pytest.mark.parametrize("name", RUN_HERE)
@seen_in(examples_are_applied)
def test_example_completes(evidence: dict[str, Example], name: str) -> None:
    example = evidence[name]
    complete = [item for item in example.status["conditions"] if item["type"] == "Complete"]
    assert complete[0]["status"] == "True"
    assert example.dataset.faults() == []
    assert len(example.dataset.rows) == example.status["progress"]["records"]["accepted"] > 0


def first_steps_are_taken(world: World) -> str:
    """Do what the README says for a cluster, with the image of the tests and two documents."""
    with world.workspace("first-steps") as space:
        documents = EXAMPLES / "data/documents.jsonl"
        space.kubectl("create", "configmap", "documents", f"--from-file={documents}")
        job, reader = ((EXAMPLES / f"{name}.yaml").read_text() for name in OF_THE_README)
        job = job.replace("limit: 10", "limit: 2")
        space.kubectl("apply", "-f", "-", stdin=f"{job}  runner: {{image: {world.model_image}}}\n")
        space.wait_for_end("embedded-qa")
        reader = reader.replace("kubesynth:dev", world.image)
        space.kubectl("apply", "-f", "-", stdin=reader)
        space.kubectl.wait("condition=Ready", "pod/reader")
        return space.kubectl("exec", "reader", "--", "kubesynth", "show", "/datasets/dataset")


@seen_in(first_steps_are_taken)
def test_first_steps_end_with_rows_to_look_at(evidence: str) -> None:
    assert re.search(r"[1-4] of [1-4] rows in /datasets/dataset", evidence)


def test_no_example_is_forgotten() -> None:
    found = {Path(path).stem for path in EXAMPLES.glob("*.yaml")}
    assert found == {*RUN_HERE, *RUN_ELSEWHERE, *OF_THE_README}
