"""The chart on a real API server: what it accepts, and exactly which rights it then grants."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kubesynth_testing.apiserver import ApiServer
from kubesynth_testing.cluster import paths
from kubesynth_testing.cluster.runners import Kubectl, Runner

Right = tuple[str, str, str]  # group, resource, verb
Render = Callable[..., list[dict[str, Any]]]

OPERATOR_RIGHTS: dict[tuple[str, str], str] = {
    ("kubesynth.io", "syntheticdatajobs"): "get list watch delete",
    ("kubesynth.io", "syntheticdatajobs/status"): "get update",
    ("kubesynth.io", "syntheticdatajobs/finalizers"): "update",
    ("kubesynth.io", "modelservers"): "get list watch create delete",
    ("kubesynth.io", "modelservers/status"): "get update",
    ("kubesynth.io", "modelservers/finalizers"): "update",
    ("kubesynth.io", "modelserverclasses"): "get list watch create",
    ("apps", "deployments"): "get list watch create patch",
    ("leaderworkerset.x-k8s.io", "leaderworkersets"): "get list watch create patch",
    ("", "services"): "get list watch create patch",
    ("batch", "jobs"): "get list watch create patch delete",
    ("", "pods"): "get list watch",
    ("", "configmaps"): "get create",
    ("", "secrets"): "get create",
    ("", "persistentvolumeclaims"): "get create",
    ("networking.k8s.io", "networkpolicies"): "get create patch",
    ("events.k8s.io", "events"): "create patch",
}
NEVER: list[tuple[str, str]] = [
    ("", "events"),
    ("", "namespaces"),
    ("", "nodes"),
    ("", "pods/exec"),
    ("", "pods/log"),
    ("", "serviceaccounts"),
    ("", "serviceaccounts/token"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("apps", "statefulsets"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("rbac.authorization.k8s.io", "rolebindings"),
]
CLUSTER_CLASSES = ("kubesynth.io", "clustermodelserverclasses")
LEASES = ("coordination.k8s.io", "leases")
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
UNIVERSE: list[Right] = [
    (group, resource, verb)
    for (group, resource), verb in itertools.product(
        [*OPERATOR_RIGHTS, *NEVER, CLUSTER_CLASSES, LEASES], VERBS
    )
]
EXPECTED: set[Right] = {
    (group, resource, verb)
    for (group, resource), verbs in OPERATOR_RIGHTS.items()
    for verb in verbs.split()
}


# Only where the operator serves the whole cluster.
OF_THE_CLUSTER: set[Right] = {
    (*CLUSTER_CLASSES, verb) for verb in ("get", "list", "watch", "create")
}
# Only where it runs.
OF_THE_ELECTION: set[Right] = {(*LEASES, verb) for verb in ("get", "create", "update")}


def make_namespace(api_server: ApiServer, name: str) -> Kubectl:
    """Make a namespace that enforces the Pod Security Standard `restricted`."""
    api_server.kubectl("create", "namespace", name)
    enforce = "pod-security.kubernetes.io/enforce=restricted"
    api_server.kubectl("label", "namespace", name, enforce)
    return Kubectl(api_server.bin_folder / "kubectl", api_server.kubeconfig, name)


def helm_for(api_server: ApiServer, kubectl: Kubectl, program: Path) -> Runner:
    return Runner(program, api_server.kubeconfig, kubectl.namespace)


def rights_of(user: str, kubectl: Kubectl) -> set[Right]:
    """Ask the API server which rights of the universe a user has in a namespace."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": kubectl.namespace},
    }
    # Without validation: for that kubectl would list the definitions, which not everybody may.
    ask = ("create", "-f", "-", "-o", "json", "--validate=false", f"--as={user}")
    status = json.loads(kubectl(*ask, stdin=json.dumps(review)))["status"]
    assert not status["incomplete"]
    return {
        right for right in UNIVERSE if any(grants(rule, right) for rule in status["resourceRules"])
    }


def grants(rule: dict[str, Any], right: Right) -> bool:
    """Tell whether a rule of RBAC grants a right to objects of whatever name."""
    if rule.get("resourceNames"):
        return False
    parts = ("apiGroups", "resources", "verbs")
    return all({"*", part} & set(rule[kind]) for kind, part in zip(parts, right, strict=True))


def service_account(namespace: str) -> str:
    return f"system:serviceaccount:{namespace}:kubesynth"


@pytest.fixture(scope="module")
def program(offline_helm: Runner) -> Path:
    return offline_helm.program


@pytest.fixture(scope="module")
def release(api_server: ApiServer, program: Path, chart: Path) -> Kubectl:
    """The chart, installed in cluster mode."""
    kubectl = make_namespace(api_server, "kubesynth-system")
    helm_for(api_server, kubectl, program)("install", "kubesynth", chart)
    return kubectl


@pytest.fixture(scope="module")
def namespaced_release(
    api_server: ApiServer, release: Kubectl, program: Path, chart: Path
) -> Kubectl:
    """The chart, installed for its own namespace and one more; the definitions are there."""
    kubectl = make_namespace(api_server, "team-a")
    make_namespace(api_server, "team-b")
    values = ("--set=namespaced=true", "--set=namespaces={team-a,team-b}")
    helm_for(api_server, kubectl, program)("install", "kubesynth", chart, *values)
    return kubectl


def test_definition_is_established(release: Kubectl) -> None:
    established = 'jsonpath={.status.conditions[?(@.type=="Established")].status}=True'
    release.wait(established, "crd/syntheticdatajobs.kubesynth.io")


def test_restricted_namespace_admits_the_operators_pod(release: Kubectl) -> None:
    """The ReplicaSet's controller makes the pod; a violation would leave none."""
    release.wait("create", "pod", "--selector=app.kubernetes.io/name=kubesynth-operator")


def test_operator_has_exactly_the_listed_rights_everywhere(
    api_server: ApiServer, release: Kubectl
) -> None:
    elsewhere = make_namespace(api_server, "any-namespace")
    everything = EXPECTED | OF_THE_CLUSTER
    assert rights_of(service_account(release.namespace), elsewhere) == everything
    assert rights_of(service_account(release.namespace), release) == everything | OF_THE_ELECTION


def test_namespaced_operator_has_its_rights_there_and_none_elsewhere(
    api_server: ApiServer, namespaced_release: Kubectl
) -> None:
    user = service_account(namespaced_release.namespace)
    other = Kubectl(namespaced_release.program, namespaced_release.kubeconfig, "team-b")
    elsewhere = make_namespace(api_server, "team-c")
    assert rights_of(user, namespaced_release) == EXPECTED | OF_THE_ELECTION
    assert rights_of(user, other) == EXPECTED
    assert rights_of(user, elsewhere) == set()


@pytest.mark.parametrize(
    ("role", "verbs"),
    [
        pytest.param("view", "get list watch", id="view"),
        pytest.param(
            "edit", "get list watch create update patch delete deletecollection", id="edit"
        ),
    ],
)
def test_users_roles_cover_jobs(release: Kubectl, role: str, verbs: str) -> None:
    release("create", "rolebinding", f"user-{role}", f"--clusterrole={role}", f"--user={role}-user")
    wanted = {("kubesynth.io", "syntheticdatajobs", verb) for verb in verbs.split()}
    deadline = time.monotonic() + 30
    while not wanted <= (found := rights_of(f"{role}-user", release)):
        assert time.monotonic() < deadline, "the roles were not aggregated"
    assert {right for right in found if right[1] == "syntheticdatajobs"} == wanted


def test_upgrade_to_two_operators_and_back(
    api_server: ApiServer, release: Kubectl, program: Path, chart: Path
) -> None:
    helm = helm_for(api_server, release, program)
    for replicas in (2, 1):
        helm("upgrade", "kubesynth", chart, f"--set=replicas={replicas}")
        assert release.json("get", "deployment", "kubesynth")["spec"]["replicas"] == replicas


def test_definitions_outlive_the_release(
    api_server: ApiServer, program: Path, chart: Path, release: Kubectl
) -> None:
    kubectl = make_namespace(api_server, "short-lived")
    helm = helm_for(api_server, kubectl, program)
    helm("install", "brief", chart, "--set=crds.enabled=false")
    helm("uninstall", "brief")
    assert kubectl.json("get", "deployments,roles,services,networkpolicies")["items"] == []
    release("get", "crd", "syntheticdatajobs.kubesynth.io")


def test_definitions_move_to_a_chart_of_their_own(
    api_server: ApiServer, release: Kubectl, program: Path, chart: Path
) -> None:
    """With the commands of docs/install.md; no job goes, and Helm takes what it once made."""
    name = "syntheticdatajobs.kubesynth.io"
    before = release.json("get", "crd", name)["metadata"]["uid"]
    helm = helm_for(api_server, release, program)
    helm("upgrade", "kubesynth", chart, "--reuse-values", "--set=crds.enabled=false")
    page = (paths.REPOSITORY / "docs" / "install.md").read_text()
    [kinds] = re.findall(r"^for kind in (.*); do$", page, re.M)
    [annotations] = re.findall(r"^    (meta\.helm\.sh/\S+ meta\.helm\.sh/\S+)$", page, re.M)
    for kind in kinds.split():
        release("annotate", "--overwrite", "crd", f"{kind}.kubesynth.io", *annotations.split())
    crds = helm_for(api_server, Kubectl(release.program, release.kubeconfig, "default"), program)
    crds("install", "kubesynth-crds", chart.parent / "kubesynth-crds")
    crds("upgrade", "kubesynth-crds", chart.parent / "kubesynth-crds")
    assert release.json("get", "crd", name)["metadata"]["uid"] == before
    assert "kubesynth-crds-editor" in release("get", "clusterroles", "-o", "name")
