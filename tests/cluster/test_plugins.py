"""A stage of the user's own out of a ConfigMap: refused until the administrator allows it."""

from __future__ import annotations

import dataclasses

from kubesynth_testing.cluster import paths
from kubesynth_testing.scenarios import model_pods
from kubesynth_testing.scenarios.dataset import Dataset
from kubesynth_testing.scenarios.stage import seen_in
from kubesynth_testing.scenarios.world import Manifest, World, claim, condition

EXAMPLES = paths.REPOSITORY / "examples"
JOB = "plugin"
MODEL = "smollm2-135m-instruct"
ALLOWED = {"jobs": {"pluginFiles": {"enabled": True}}}


@dataclasses.dataclass(frozen=True, slots=True)
class Plugin:
    """What became of examples/plugin.yaml, before and after it was allowed."""

    refused: Manifest
    children_of_the_refused: set[str]
    end: Manifest
    dataset: Dataset
    calls: int


def files_become_allowed(world: World) -> Plugin:
    with world.workspace("plugins") as space:
        space.apply(claim("datasets", world.storage_class))
        model = model_pods.start_fake(space, name="llm", model=MODEL, claim="datasets")
        for name, file in (("plugins", "headlines.py"), ("documents", "documents.jsonl")):
            source = f"--from-file={EXAMPLES / 'data' / file}"
            space.kubectl("create", "configmap", name, source)
        space.kubectl("apply", "-f", EXAMPLES / "plugin.yaml")
        refused = space.wait_for_phase(JOB, "Rejected")
        children = space.names("jobs", "pods", selector=f"kubesynth.io/job-name={JOB}")
        with world.operator.lock:
            world.operator.install(ALLOWED)  # nobody minds if it stays so
            end = space.wait_for_end(JOB)
        calls = model.statistics()["answered"]
        return Plugin(refused, children, end, space.read_output(JOB, claim="datasets"), calls)


@seen_in(files_become_allowed)
def test_python_out_of_a_config_map_is_refused_without_pods(evidence: Plugin) -> None:
    accepted = condition(evidence.refused, "Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "ReferenceDenied")
    assert "spec.pipeline[0].plugin.file" in accepted["message"]
    assert "jobs.pluginFiles.enabled" in accepted["message"]
    assert evidence.children_of_the_refused == set()


@seen_in(files_become_allowed)
def test_job_goes_on_by_itself_when_it_is_allowed(evidence: Plugin) -> None:
    assert condition(evidence.end, "Accepted")["status"] == "True"
    assert condition(evidence.end, "Complete")["status"] == "True"


@seen_in(files_become_allowed)
def test_its_rows_are_what_the_plugin_makes_of_answers(evidence: Plugin) -> None:
    dataset = evidence.dataset
    assert dataset.faults() == []
    assert len(dataset.rows) == evidence.end["progress"]["records"]["accepted"] == 12
    for row in dataset.rows:
        assert row["characters"] == len(row["headline"])
    # One for the capabilities, one for each document.
    assert evidence.calls == 7
