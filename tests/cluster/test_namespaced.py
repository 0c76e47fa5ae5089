"""The operator serves one namespace under a Role alone, and no other is touched."""

from __future__ import annotations

import dataclasses

from kubesynth_testing.scenarios import job_manifests, model_pods
from kubesynth_testing.scenarios.job_manifests import JobShape
from kubesynth_testing.scenarios.release import release
from kubesynth_testing.scenarios.stage import seen_in
from kubesynth_testing.scenarios.world import Manifest, Workspace, World

RELEASE = "kubesynth-team"


@dataclasses.dataclass(frozen=True, slots=True)
class Served:
    """What happened to a job of the served namespace, and to one of another."""

    end: Manifest
    other: Manifest
    cluster_wide: set[str]
    roles: set[str]
    may: dict[str, str]


def one_namespace_is_served(world: World) -> Served:
    with world.workspace("team") as space, world.workspace("other") as elsewhere:
        operator = release(world.cluster, space.namespace, world.image, RELEASE)
        operator.install({"namespaced": True})
        model = model_pods.start_fake(space)
        job = job_manifests.closed_qa("qa", model.url, JobShape(), model=model.model)
        # The operator that serves the whole cluster would take both jobs.
        with world.operator.lock, world.operator.away():
            for place in (space, elsewhere):
                place.apply(job_manifests.documents(4), job)
            end = space.wait_for_end("qa")
            other = elsewhere.job("qa")
            elsewhere.kubectl("delete", "syntheticdatajob", "qa")
        served = Served(end, other, *rights(space))
        operator.uninstall()
    return served


def rights(space: Workspace) -> tuple[set[str], set[str], dict[str, str]]:
    """Return what the release has for the whole cluster and for its namespace, and what it may."""
    instance = f"app.kubernetes.io/instance={RELEASE}"
    account = f"--as=system:serviceaccount:{space.namespace}:{RELEASE}"
    questions = {
        "get secrets": ("get", "secrets"),
        "list secrets": ("list", "secrets"),
        "create jobs": ("create", "jobs.batch"),
        "list jobs of all namespaces": ("list", "jobs.batch", "--all-namespaces"),
        "update jobs of its own kind": ("update", "syntheticdatajobs.kubesynth.io"),
    }

    def names(kinds: str) -> set[str]:
        return set(space.kubectl("get", kinds, "-o", "name", "--selector", instance).split())

    return (
        names("clusterroles,clusterrolebindings,crds"),
        names("roles,rolebindings"),
        {
            name: space.try_kubectl("auth", "can-i", *question, account).splitlines()[-1]
            for name, question in questions.items()
        },
    )


@seen_in(one_namespace_is_served)
def test_job_of_the_served_namespace_completes(evidence: Served) -> None:
    (complete,) = (item for item in evidence.end["conditions"] if item["type"] == "Complete")
    assert complete["status"] == "True"
    assert evidence.end["progress"]["records"]["accepted"] == 8


@seen_in(one_namespace_is_served)
def test_job_of_another_namespace_is_not_touched(evidence: Served) -> None:
    assert "status" not in evidence.other


@seen_in(one_namespace_is_served)
def test_nothing_of_the_release_is_cluster_wide(evidence: Served) -> None:
    assert evidence.cluster_wide == set()
    assert evidence.roles == {
        f"{kind}.rbac.authorization.k8s.io/{name}"
        for kind in ("role", "rolebinding")
        for name in (RELEASE, f"{RELEASE}-leader-election")
    }


@seen_in(one_namespace_is_served)
def test_operator_may_do_what_it_does_and_no_more(evidence: Served) -> None:
    assert evidence.may == {
        "get secrets": "yes",
        "list secrets": "no",
        "create jobs": "yes",
        "list jobs of all namespaces": "no",
        "update jobs of its own kind": "no",
    }
