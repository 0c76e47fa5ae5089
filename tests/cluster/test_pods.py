"""Pods of the operator and of runners hold no more rights and resources than they say."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from kubesynth_testing.cluster.shell import CommandError
from kubesynth_testing.scenarios import job_manifests, model_pods
from kubesynth_testing.scenarios.dataset import Dataset
from kubesynth_testing.scenarios.job_manifests import JobShape
from kubesynth_testing.scenarios.patience import eventually
from kubesynth_testing.scenarios.release import Release
from kubesynth_testing.scenarios.stage import seen_in, takes_long
from kubesynth_testing.scenarios.world import Manifest, Workspace, World

# What a process in the container finds: a token, a place to write, other than where it should.
_LOOK = """
import os, pathlib
print(os.path.exists('/var/run/secrets/kubernetes.io/serviceaccount/token'))
for folder in ('/', '/opt/kubesynth', '/tmp'):
    try:
        pathlib.Path(folder, 'probe').write_text('x')
        print(folder, 'writable')
    except OSError:
        print(folder, 'read-only')
"""


# On a node of its own each, as far as a job can say it; resources are left to the operator.
APART = {
    "labels": {"apart": "qa"},
    "affinity": {
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {
                    "topologyKey": "kubernetes.io/hostname",
                    "labelSelector": {
                        "matchLabels": {"apart": "qa", "kubesynth.io/phase": "generate"}
                    },
                }
            ]
        }
    },
}


@dataclasses.dataclass(frozen=True, slots=True)
class RunningPods:
    runners: list[Manifest]
    operators: list[Manifest]
    inside_a_runner: list[str]
    inside_the_operator: list[str]
    policy: Manifest
    progress_seen: Manifest
    privileged: str
    dataset: Dataset


@takes_long
def pods_run(world: World) -> RunningPods:
    with world.workspace("pods") as space:
        model = model_pods.start_fake(space, latency_seconds=2)
        job = job_manifests.closed_qa("qa", model.url, JobShape(shards=2), model=model.model)
        job["spec"]["runner"] = APART
        space.apply(job_manifests.documents(60), job)
        selector = "kubesynth.io/phase=generate"
        eventually(lambda: model.statistics()["answered"] >= 8, what="runners at work")
        # The run must not be over before an operator that another scenario took away is back.
        model.set_faults(latency_seconds=10)
        runners = eventually(lambda: with_nodes(space, selector), what="both runners have nodes")
        look = ("--", "python", "-c", _LOOK)
        inside_runner = space.kubectl("exec", runners[0]["metadata"]["name"], *look)
        operator = eventually(
            lambda: the_operator_from_inside(world.operator, look), what="the operator is there"
        )
        assert operator is not None
        seen = eventually(lambda: live_progress(space), what="live progress")
        model.set_faults()
        space.wait_for_end("qa")
        return RunningPods(
            runners,
            operator[0],
            inside_runner.splitlines(),
            operator[1].splitlines(),
            space.read("networkpolicies", "qa-runner"),
            seen,
            refused(space, world.image),
            space.read_output("qa"),
        )


def with_nodes(space: Workspace, selector: str) -> list[Manifest]:
    """Return the pods once all have a node; one shard may be well under way before the other."""
    pods = space.list("pods", labels=selector)
    return pods if len(pods) == 2 and all("nodeName" in pod["spec"] for pod in pods) else []


def the_operator_from_inside(
    operator: Release, look: Sequence[str]
) -> tuple[list[Manifest], str] | None:
    """Return the operator's pods and what one sees; None while another scenario has it away."""
    pods = operator.pods()
    if len(pods) != 1:
        return None
    try:
        return pods, operator.kubectl("exec", pods[0]["metadata"]["name"], *look)
    except CommandError:
        return None


def live_progress(space: Workspace) -> Manifest:
    """Return the progress in the status once the operator has heard of it from a pod."""
    progress: Manifest = space.status("qa")["progress"]
    return progress if progress["records"]["done"] and progress["percent"] < 100 else {}


def refused(space: Workspace, image: str) -> str:
    """Return what the namespace says to a pod that wants more than `restricted` allows."""
    try:
        return space.kubectl("run", "root", f"--image={image}", "--privileged")
    except CommandError as error:
        return error.output


def containers(pods: list[Manifest]) -> list[dict[str, Any]]:
    return [container for pod in pods for container in pod["spec"]["containers"]]


@seen_in(pods_run)
def test_pods_run_where_pod_security_restricted_is_enforced(evidence: RunningPods) -> None:
    assert 'violates PodSecurity "restricted' in evidence.privileged
    assert len(evidence.runners) == 2
    assert len(evidence.operators) == 1


@seen_in(pods_run)
def test_runner_has_no_token_of_a_service_account(evidence: RunningPods) -> None:
    for pod in evidence.runners:
        assert pod["spec"]["automountServiceAccountToken"] is False
        volumes = [source for volume in pod["spec"]["volumes"] for source in volume]
        assert "projected" not in volumes
    assert evidence.inside_a_runner[0] == "False"


@seen_in(pods_run)
def test_root_file_system_is_read_only_and_tmp_is_not(evidence: RunningPods) -> None:
    expected = ["/ read-only", "/opt/kubesynth read-only", "/tmp writable"]
    assert evidence.inside_a_runner[1:] == expected
    assert evidence.inside_the_operator[1:] == expected


@seen_in(pods_run)
def test_every_container_says_what_it_needs_and_what_it_may_take(evidence: RunningPods) -> None:
    for container in containers([*evidence.runners, *evidence.operators]):
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert "memory" in container["resources"]["limits"]


@seen_in(pods_run)
def test_network_policy_admits_the_operator_alone_to_the_runners(evidence: RunningPods) -> None:
    spec = evidence.policy["spec"]
    assert spec["policyTypes"] == ["Ingress"]
    selected = spec["podSelector"]["matchLabels"]
    for pod in evidence.runners:
        assert selected.items() <= pod["metadata"]["labels"].items()
    (rule,) = spec["ingress"]
    (peer,) = rule["from"]
    operator = evidence.operators[0]["metadata"]
    assert peer["podSelector"]["matchLabels"].items() <= operator["labels"].items()
    namespace = peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
    assert namespace == operator["namespace"]


@seen_in(pods_run)
def test_operator_asks_running_pods_how_far_they_are(evidence: RunningPods) -> None:
    records = evidence.progress_seen["records"]
    assert 0 < records["done"] < records["in"] == 60


@seen_in(pods_run)
def test_shards_on_both_workers_write_one_volume(evidence: RunningPods) -> None:
    assert len({pod["spec"]["nodeName"] for pod in evidence.runners}) == 2
    assert evidence.dataset.faults() == []
    assert evidence.dataset.manifest["finishedShards"] == 2
