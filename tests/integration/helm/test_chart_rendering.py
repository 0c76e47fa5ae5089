"""What the chart renders, for each value that changes its shape."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kubesynth_api.v1alpha1.runner_pods import RunnerPods
from kubesynth_api.v1alpha1.server_classes import ServerClassSpec
from kubesynth_api.version import VERSION
from kubesynth_operator import settings
from kubesynth_testing import yaml_files
from kubesynth_testing.cluster import paths
from kubesynth_testing.cluster.runners import Runner
from kubesynth_testing.cluster.shell import CommandError

Manifest = dict[str, Any]
Render = Callable[..., list[Manifest]]

CLUSTER_SCOPED = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "Namespace"}
SHAPES = [
    pytest.param([], id="default"),
    pytest.param(["replicas=2"], id="highly-available"),
    pytest.param(["namespaced=true", "namespaces={team-a,team-b}"], id="namespaced"),
    pytest.param(["crds.enabled=false", "userRoles.create=false"], id="bare"),
]


def only(manifests: list[Manifest], kind: str, name: str = "kubesynth") -> Manifest:
    [found] = [m for m in manifests if m["kind"] == kind and m["metadata"]["name"] == name]
    return found


def kinds(manifests: list[Manifest]) -> set[str]:
    return {manifest["kind"] for manifest in manifests}


def rules(manifests: list[Manifest]) -> list[Manifest]:
    roles = [m for m in manifests if m["kind"] in ("Role", "ClusterRole")]
    return [rule for role in roles for rule in role["rules"]]


def operator_settings(
    manifests: list[Manifest], name: str = "kubesynth"
) -> settings.OperatorSettings:
    """Read the operator's environment as the operator will."""
    [container] = only(manifests, "Deployment", name)["spec"]["template"]["spec"]["containers"]
    fields = {"metadata.name": "kubesynth-0", "metadata.namespace": "kubesynth-system"}
    environment = {
        # `$$` is how the kubelet is told that a dollar is one.
        variable["name"]: variable["value"].replace("$$", "$")
        if "value" in variable
        else fields[variable["valueFrom"]["fieldRef"]["fieldPath"]]
        for variable in container["env"]
    }
    return settings.from_environment(environment)


def test_lint_finds_nothing(offline_helm: Runner, chart: Path) -> None:
    assert "0 chart(s) failed" in offline_helm("lint", "--strict", chart)


@pytest.mark.parametrize("values", SHAPES)
def test_no_role_has_a_wildcard(render: Render, values: list[str]) -> None:
    granted = rules(render(*values))
    assert granted
    assert not [rule for rule in granted if any("*" in part for part in rule.values())]


@pytest.mark.parametrize("values", SHAPES)
def test_secrets_are_read_by_name_only(render: Render, values: list[str]) -> None:
    verbs = [
        set(rule["verbs"]) for rule in rules(render(*values)) if "secrets" in rule["resources"]
    ]
    assert verbs
    assert all(granted == {"get", "create"} for granted in verbs)


@pytest.mark.parametrize("values", SHAPES)
def test_no_binding_names_a_role_of_the_cluster(render: Render, values: list[str]) -> None:
    manifests = render(*values)
    bound = {m["roleRef"]["name"] for m in manifests if m["kind"].endswith("RoleBinding")}
    own = {m["metadata"]["name"] for m in manifests if m["kind"] in ("Role", "ClusterRole")}
    assert bound <= own


def test_chart_of_the_definitions_has_the_users_rights_that_cluster_mode_has(
    render: Render, offline_helm: Runner, chart: Path
) -> None:
    """In namespaced mode the operator's chart may not make them."""

    def of_users(manifests: list[Manifest]) -> list[tuple[list[Manifest], set[str]]]:
        found = [
            (m["rules"], {key for key in m["metadata"]["labels"] if "aggregate-to" in key})
            for m in manifests
            if m["kind"] == "ClusterRole"
        ]
        return [(granted, labels) for granted, labels in found if labels]

    def definitions(*values: str) -> list[Manifest]:
        text = offline_helm("template", "crds", chart.parent / "kubesynth-crds", *values)
        return yaml_files.load_all(text)

    expected = of_users(render())
    assert len(expected) == 2
    assert of_users(definitions()) == expected
    assert kinds(definitions("--set=userRoles.create=false")) == {"CustomResourceDefinition"}


def test_cluster_mode_brings_the_definitions_and_keeps_them(render: Render) -> None:
    definition = only(render(), "CustomResourceDefinition", "syntheticdatajobs.kubesynth.io")
    assert definition["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_definitions_can_be_left_out(render: Render) -> None:
    assert "CustomResourceDefinition" not in kinds(render("crds.enabled=false"))


def test_namespaced_mode_has_nothing_of_the_cluster(render: Render) -> None:
    assert not kinds(render("namespaced=true", "replicas=2")) & CLUSTER_SCOPED


def test_namespaced_mode_serves_the_releases_namespace(render: Render) -> None:
    manifests = render("namespaced=true")
    assert operator_settings(manifests).namespaces == ("kubesynth-system",)
    assert only(manifests, "Role")["metadata"]["namespace"] == "kubesynth-system"


def test_namespaced_mode_has_a_role_in_each_namespace(render: Render) -> None:
    manifests = render("namespaced=true", "namespaces={team-a,team-b}")
    assert operator_settings(manifests).namespaces == ("team-a", "team-b")
    for kind in ("Role", "RoleBinding"):
        found = {
            m["metadata"]["namespace"]
            for m in manifests
            if (m["kind"], m["metadata"]["name"]) == (kind, "kubesynth")
        }
        assert found == {"team-a", "team-b"}


def test_cluster_mode_serves_every_namespace(render: Render) -> None:
    assert operator_settings(render()).namespaces == ()


def test_one_operator_is_replaced_and_several_roll(render: Render) -> None:
    manifests = render()
    assert only(manifests, "Deployment")["spec"]["strategy"] == {"type": "Recreate"}
    assert "PodDisruptionBudget" not in kinds(manifests)
    manifests = render("replicas=2")
    assert only(manifests, "Deployment")["spec"]["strategy"]["type"] == "RollingUpdate"
    assert only(manifests, "PodDisruptionBudget")["spec"]["minAvailable"] == 1


@pytest.mark.parametrize("replicas", [1, 2])
def test_operators_elect_a_leader_however_many_there_should_be(
    render: Render, replicas: int
) -> None:
    """A single one too: `kubectl scale`, or an upgrade to two, sets another one beside it."""
    manifests = render(f"replicas={replicas}")
    assert operator_settings(manifests).leader_election is True
    other = render(f"replicas={replicas}", "fullnameOverride=other")
    assert operator_settings(manifests).lease_name == "kubesynth"
    assert operator_settings(other, "other").lease_name == "other", "an election of its own"
    role = only(manifests, "Role", "kubesynth-leader-election")
    assert role["rules"] == [
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "verbs": ["get", "create", "update"],
        }
    ]


def test_image_is_the_one_of_this_version(render: Render) -> None:
    manifests = render("image.repository=registry.example/kubesynth")
    expected = f"registry.example/kubesynth:{VERSION}"
    [container] = only(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == expected
    assert operator_settings(manifests).runner_image == expected


def test_digest_takes_the_place_of_the_tag(render: Render) -> None:
    digest = f"sha256:{'0' * 64}"
    manifests = render("image.tag=v9", f"image.digest={digest}", "runner.image=other:1")
    [container] = only(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"kubesynth@{digest}"
    assert operator_settings(manifests).runner_image == "other:1"


def test_values_reach_the_operator(render: Render) -> None:
    read = operator_settings(
        render(
            "log.level=DEBUG",
            "workers=3",
            "jobs.networkPolicy.enabled=false",
            "jobs.queueAll=true",
            "metrics.namespaces={monitoring}",
        )
    )
    assert (read.log_level, read.workers, read.network_policy) == ("DEBUG", 3, False)
    assert read.queue_all_jobs
    assert read.metrics_namespaces == ("monitoring",)


def test_what_is_said_of_runner_pods_reaches_the_operator(
    offline_helm: Runner, chart: Path
) -> None:
    values: Manifest = {
        "imagePullPolicy": "Always",
        "imagePullSecrets": ["regcred", {"name": "other"}],
        "env": [
            {"name": "HTTPS_PROXY", "value": "http://proxy.example:3128"},
            {"name": "ODD", "value": "$(POD_NAME) $$ <&> \"'"},
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "extra", "key": "t"}}},
        ],
        "nodeSelector": {"pool": "batch"},
        "tolerations": [{"key": "batch", "operator": "Exists", "effect": "NoExecute"}],
        "affinity": {"podAntiAffinity": {}},
        "priorityClassName": "low",
        "resources": {"requests": {"cpu": 2, "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
        "labels": {"cost": "shared"},
        "annotations": {"sidecar.istio.io/inject": "false"},
    }
    text = offline_helm("template", "kubesynth", chart, f"--set-json=runner={json.dumps(values)}")
    read = operator_settings(yaml_files.load_all(text))
    expected = {**values, "imagePullSecrets": [{"name": "regcred"}, {"name": "other"}]}
    assert read.runner_defaults == RunnerPods.from_wire(expected)


def test_nothing_is_said_of_runner_pods_by_default(render: Render) -> None:
    assert operator_settings(render()).runner_defaults == RunnerPods()
    [container] = only(render(), "Deployment")["spec"]["template"]["spec"]["containers"]
    names = {variable["name"] for variable in container["env"]}
    assert "KUBESYNTH_RUNNER_DEFAULTS" not in names


def classes_of(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Read the classes of model servers as the operator will."""
    files = only(manifests, "ConfigMap", "kubesynth-classes")["data"]
    return {name: yaml_files.load(text) for name, text in files.items()}


@pytest.mark.parametrize(
    ("mirror", "vllm", "nim"),
    [
        pytest.param(
            "mirror.example:5000/engines",
            "mirror.example:5000/engines/vllm/vllm-openai:",
            "mirror.example:5000/engines/nim/{model}:{revision}",
            id="in-place-of-the-registry",
        ),
        pytest.param(
            "mirror.example/{registry}",
            "mirror.example/docker.io/vllm/vllm-openai:",
            "mirror.example/nvcr.io/nim/{model}:{revision}",
            id="before-the-registry",
        ),
    ],
)
def test_engines_come_from_a_mirror(render: Render, mirror: str, vllm: str, nim: str) -> None:
    before = classes_of(render())
    after = classes_of(render(f"modelServers.classes.imageRegistry={mirror}"))
    assert after["vllm.yaml"]["image"].startswith(vllm)
    assert after["nim.yaml"]["image"] == nim
    for name, spec in after.items():
        assert spec["image"].startswith("mirror.example")
        assert {**spec, "image": before[name]["image"]} == before[name], "nothing else changes"


def test_classes_get_pull_secrets_beside_their_own(render: Render) -> None:
    found = classes_of(render("modelServers.classes.imagePullSecrets={regcred,ngc-registry}"))
    assert found["vllm.yaml"]["imagePullSecrets"] == [{"name": "regcred"}, {"name": "ngc-registry"}]
    assert found["nim.yaml"]["imagePullSecrets"] == [{"name": "ngc-registry"}, {"name": "regcred"}]
    for name, spec in found.items():
        assert ServerClassSpec.from_wire(spec).image_pull_secrets, name
        assert spec["image"] == classes_of(render())[name]["image"]


def test_every_engine_gets_the_environment_of_the_chart(offline_helm: Runner, chart: Path) -> None:
    env = [
        {"name": "HTTPS_PROXY", "value": "http://proxy.example:3128"},
        {"name": "HF_HOME", "value": "{cache}/hub"},
        {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}},
    ]
    flag = f"--set-json=modelServers.classes.env={json.dumps(env)}"
    text = offline_helm("template", "kubesynth", chart, flag)
    found = classes_of(yaml_files.load_all(text))
    before = classes_of(yaml_files.load_all(offline_helm("template", "kubesynth", chart)))
    for name, spec in found.items():
        ServerClassSpec.from_wire(spec)
        own = [each for each in before[name]["env"] if each["name"] != "HF_HOME"]
        assert spec["env"] == [*own, *env], name
        assert {**spec, "env": before[name]["env"]} == before[name], "nothing else changes"


def test_pods_carry_the_label_by_which_runners_admit_the_operator(render: Render) -> None:
    manifests = render("podLabels.app\\.kubernetes\\.io/name=mine")
    labels = only(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
    name = operator_settings(manifests).operator_pod_name_label
    assert labels["app.kubernetes.io/name"] == name


def test_probes_and_metrics_use_the_port_that_the_operator_listens_on(render: Render) -> None:
    manifests = render("metrics.serviceMonitor.enabled=true")
    [container] = only(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    port = {"name": "http", "containerPort": operator_settings(manifests).http_port}
    assert container["ports"] == [port]
    assert {
        container[f"{probe}Probe"]["httpGet"]["port"] for probe in ("liveness", "readiness")
    } == {"http"}
    service = only(manifests, "Service", "kubesynth-metrics")
    assert service["spec"]["ports"][0]["targetPort"] == "http"
    [endpoint] = only(manifests, "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["port"] == service["spec"]["ports"][0]["name"]


def test_commands_of_the_documentation_use_values_that_there_are(render: Render) -> None:
    pages = [paths.REPOSITORY / "README.md", *(paths.REPOSITORY / "docs").rglob("*.md")]
    shown = [value for page in pages for value in documented_values(page.read_text())]
    assert shown
    for values in shown:
        assert render(*values)


def test_values_of_the_documentation_are_values_that_there_are(
    offline_helm: Runner, chart: Path, tmp_path: Path
) -> None:
    page = (paths.REPOSITORY / "docs" / "install.md").read_text()
    blocks = re.findall(r"^```yaml\n(# values\.yaml\n.*?)^```$", page, re.M | re.S)
    assert blocks
    for block in blocks:
        (tmp_path / "values.yaml").write_text(block)
        text = offline_helm("template", "x", chart, "--values", tmp_path / "values.yaml")
        manifests = yaml_files.load_all(text)
        assert operator_settings(manifests, "x-kubesynth").runner_defaults != RunnerPods()


def documented_values(page: str) -> list[list[str]]:
    """Return the values of each `helm install kubesynth` on a page."""
    commands = [
        shlex.split(line)
        for line in page.replace("\\\n", " ").splitlines()
        if line.startswith("helm install kubesynth helm/")
    ]
    return [
        [value for flag, value in itertools.pairwise(words) if flag == "--set"]
        for words in commands
    ]


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        pytest.param(["replica=2"], "replica", id="misspelt"),
        pytest.param(["namespaces={team-a}"], "namespaces", id="namespaces-in-cluster-mode"),
        pytest.param(["log.level=LOUD"], "level", id="unknown-level"),
        pytest.param(["image.digest=sha256:1"], "digest", id="short-digest"),
        pytest.param(["runner.nodeSelectors.a=b"], "nodeSelectors", id="misspelt-of-runners"),
        pytest.param(["runner.imagePullPolicy=Often"], "imagePullPolicy", id="unknown-policy"),
        pytest.param(["runner.env[0].value=x"], "env", id="variable-without-a-name"),
        pytest.param(["runner.resources.limits.memory=1GB"], "memory", id="no-quantity"),
        pytest.param(["userFromPlatform=yes-please"], "userFromPlatform", id="no-boolean"),
        pytest.param(
            ["modelServers.classes.env[0].value=x"], "env", id="variable-of-engines-without-a-name"
        ),
        pytest.param(
            ["modelServers.classes.imageRegistry=https://mirror.example"],
            "imageRegistry",
            id="mirror-with-scheme",
        ),
        pytest.param(
            ["metrics.serviceMonitor.enabled=true", "metrics.service.enabled=false"],
            "metrics.service.enabled",
            id="monitor-without-service",
        ),
    ],
)
def test_wrong_values_are_refused_by_name(
    render: Render, values: list[str], complaint: str
) -> None:
    with pytest.raises(CommandError, match=complaint):
        render(*values)
