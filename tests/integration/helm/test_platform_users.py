"""Pods whose user the platform chooses, on a real API server with real admission.

PodSecurity `restricted` is the API server's own. A ValidatingAdmissionPolicy acts the part of
OpenShift's SCC restricted-v2 that matters here: it refuses every pod that names a user or a group.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_api.v1alpha1.server_classes import ServerClassSpec
from kubesynth_operator import settings
from kubesynth_operator.resources import pod_template
from kubesynth_operator.servers import pods
from kubesynth_testing import yaml_files
from kubesynth_testing.apiserver import ApiServer
from kubesynth_testing.builders import a_job
from kubesynth_testing.cluster.runners import Kubectl
from kubesynth_testing.cluster.shell import CommandError
from kubesynth_testing.server_builders import a_server

Manifest = dict[str, Any]
Render = Callable[..., list[Manifest]]

FROM_PLATFORM = "userFromPlatform=true"
NAMED = ("runAsUser", "runAsGroup", "fsGroup")
CONTEXT = "object.spec.securityContext"
POLICY: list[Manifest] = [
    {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "users-of-the-platform"},
        "spec": {
            "matchConstraints": {
                "resourceRules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": ["pods"],
                    }
                ],
                "namespaceSelector": {"matchLabels": {"users": "of-the-platform"}},
            },
            "validations": [
                {
                    "expression": f"!has({CONTEXT}) || !("
                    + " || ".join(f"has({CONTEXT}.{field})" for field in NAMED)
                    + ")",
                    "message": "a user or group is named",
                }
            ],
        },
    },
    {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "users-of-the-platform"},
        "spec": {"policyName": "users-of-the-platform", "validationActions": ["Deny"]},
    },
]


def of_the_operator(manifests: list[Manifest]) -> Manifest:
    [found] = [m for m in manifests if m["kind"] == "Deployment"]
    pod: Manifest = copy.deepcopy(found["spec"]["template"]["spec"])
    return {**pod, "serviceAccountName": "default"}


def chosen(manifests: list[Manifest]) -> settings.OperatorSettings:
    """Read the operator's environment as the operator will."""
    [container] = of_the_operator(manifests)["containers"]
    environment = {
        variable["name"]: variable["value"].replace("$$", "$")
        for variable in container["env"]
        if "value" in variable
    }
    return settings.from_environment(environment)


def of_runners(manifests: list[Manifest]) -> list[Manifest]:
    read = chosen(manifests)
    job = a_job(shards=3)
    return [
        pod_template.build(job, phase, read, run_config_name="qa-run-0123456789")["spec"]
        for phase in RunnerPhase
    ]


def of_classes(manifests: list[Manifest]) -> list[Manifest]:
    [files] = [m["data"] for m in manifests if m["metadata"]["name"].endswith("-classes")]
    found = [ServerClassSpec.from_wire(yaml_files.load(text)) for text in files.values()]
    assert len(found) == 6
    server = a_server(model="meta/llama", gpus=0)
    return [pods.template(server, spec, claim=None, secret_version="")["spec"] for spec in found]


def users(spec: Manifest) -> set[str]:
    """Return which fields of a pod name a user or a group."""
    contexts = [spec.get("securityContext") or {}]
    contexts += [each.get("securityContext") or {} for each in spec["containers"]]
    return {field for context in contexts for field in NAMED if field in context}


@pytest.fixture(scope="module")
def plain(render: Render) -> list[Manifest]:
    return render()


@pytest.fixture(scope="module")
def left(render: Render) -> list[Manifest]:
    return render(FROM_PLATFORM)


def test_only_users_and_groups_are_left_to_the_platform(
    plain: list[Manifest], left: list[Manifest]
) -> None:
    for find in (lambda found: [of_the_operator(found)], of_runners, of_classes):
        for before, after in zip(find(plain), find(left), strict=True):
            assert users(before) >= {"runAsUser", "runAsGroup"}
            assert not users(after)
            for field in NAMED:
                before["securityContext"].pop(field, None)
            # The operator's own environment says what is said of the runners.
            for container in (*before["containers"], *after["containers"]):
                container.pop("env")
            assert after == before, "nothing else changes"


def test_fields_of_the_runners_context_can_be_changed_and_taken_out(
    render: Render, plain: list[Manifest]
) -> None:
    read = chosen(
        render(
            "runner.podSecurityContext.runAsUser=null",
            "runner.podSecurityContext.fsGroup=2000",
            "runner.securityContext.readOnlyRootFilesystem=null",
        )
    )
    before = chosen(plain)
    expected = {**before.runner_security.pod, "fsGroup": 2000}
    del expected["runAsUser"]
    assert read.runner_security.pod == expected
    assert set(before.runner_security.container) - set(read.runner_security.container) == {
        "readOnlyRootFilesystem"
    }
    assert before.runner_security == settings.RunnerSecurity(), "the chart says what the code does"
    nothing = chosen(render("runner.podSecurityContext=null"))
    assert nothing.runner_security.pod == {}


@pytest.fixture(scope="module")
def namespace(api_server: ApiServer) -> Kubectl:
    """A namespace that enforces `restricted`, and refuses pods that name a user."""
    for manifest in POLICY:
        api_server.kubectl("create", "-f", "-", stdin=json.dumps(manifest))
    name = "of-the-platform"
    labels = {"users": name, "pod-security.kubernetes.io/enforce": "restricted"}
    metadata = {"name": name, "labels": labels}
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
    api_server.kubectl("create", "-f", "-", stdin=json.dumps(manifest))
    api_server.kubectl("wait", "--for=create", f"--namespace={name}", "serviceaccount/default")
    return Kubectl(api_server.bin_folder / "kubectl", api_server.kubeconfig, name)


def admit(kubectl: Kubectl, spec: Manifest) -> None:
    """Let the API server admit a pod, without making it.

    Raises:
        CommandError: it is refused; the error says by whom.
    """
    spec.setdefault("restartPolicy", "Never")
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a-pod"}, "spec": spec}
    kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(manifest))


def refusal(kubectl: Kubectl, spec: Manifest) -> str:
    """Return why the API server refuses a pod; "" if it admits it."""
    try:
        admit(kubectl, spec)
    except CommandError as error:
        return str(error)
    return ""


def test_a_platform_with_users_of_its_own_admits_every_pod(
    namespace: Kubectl, plain: list[Manifest], left: list[Manifest]
) -> None:
    # The policy takes a moment until it is in force, and is there to be broken.
    deadline = time.monotonic() + 60
    while "a user or group is named" not in refusal(namespace, of_runners(plain)[0]):
        assert time.monotonic() < deadline, "the policy is not in force"
        time.sleep(0.2)
    for spec in (of_the_operator(left), *of_runners(left), *of_classes(left)):
        admit(namespace, spec)


def test_restricted_admits_every_pod_by_default(
    api_server: ApiServer, namespace: Kubectl, plain: list[Manifest]
) -> None:
    name = "restricted-alone"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    manifest = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": labels},
    }
    api_server.kubectl("create", "-f", "-", stdin=json.dumps(manifest))
    api_server.kubectl("wait", "--for=create", f"--namespace={name}", "serviceaccount/default")
    kubectl = Kubectl(namespace.program, Path(namespace.kubeconfig), name)
    for spec in (of_the_operator(plain), *of_runners(plain), *of_classes(plain)):
        admit(kubectl, spec)
