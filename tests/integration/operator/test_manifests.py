"""Every manifest of the operator, as a real API server and PodSecurity `restricted` judge it."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import yaml

from kubesynth_operator.kube.resources import JOBS, NETWORK_POLICIES
from kubesynth_testing.apiserver import ApiServer
from kubesynth_testing.golden import GOLDEN
from kubesynth_testing.operator_harness import Namespace

JOB_FILES = ["one_shard", "plan", "generate", "finalize", "report", "generate_full"]


def golden(name: str, namespace: str) -> dict[str, Any]:
    manifest: dict[str, Any] = yaml.safe_load((GOLDEN / f"{name}.yaml").read_text())
    manifest["metadata"]["namespace"] = namespace
    return manifest


@pytest.mark.parametrize("name", JOB_FILES)
async def test_a_job_is_stored_as_it_was_written(
    api_server: ApiServer, namespace: Namespace, name: str
) -> None:
    manifest = golden(name, namespace.name)
    # `--validate=strict` refuses fields that do not exist; dry run runs admission as well.
    answer = api_server.kubectl(
        *("create", "-f", "-", "--dry-run=server", "--validate=strict", "-o", "json"),
        stdin=json.dumps(manifest),
    )
    stored = json.loads(answer)
    assert stored["spec"]["podFailurePolicy"] == manifest["spec"]["podFailurePolicy"]
    assert stored["spec"]["template"]["spec"]["automountServiceAccountToken"] is False


@pytest.mark.parametrize("name", JOB_FILES)
async def test_its_pods_are_admitted_under_restricted(
    api_server: ApiServer, namespace: Namespace, name: str
) -> None:
    template = copy.deepcopy(golden(name, namespace.name)["spec"]["template"])
    # These would have to exist first, and say nothing about security.
    for field in ("priorityClassName", "runtimeClassName", "serviceAccountName"):
        template["spec"].pop(field, None)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], "name": "pod", "namespace": namespace.name},
        "spec": template["spec"],
    }
    api_server.kubectl(
        *("create", "-f", "-", "--dry-run=server", "--validate=strict"), stdin=json.dumps(pod)
    )


async def test_restricted_is_really_enforced_here(
    api_server: ApiServer, namespace: Namespace
) -> None:
    arguments = ("run", "root", "--image=x", "-n", namespace.name, "--dry-run=server")
    with pytest.raises(Exception, match="violates PodSecurity"):
        api_server.kubectl(*arguments)


async def test_applying_the_network_policy_again_changes_nothing(namespace: Namespace) -> None:
    manifest = golden("network_policy", namespace.name)
    # Garbage collection would soon find that this owner does not exist.
    del manifest["metadata"]["ownerReferences"]
    versions = []
    for _ in range(2):
        await namespace.client.apply(NETWORK_POLICIES, namespace.name, manifest)
        found = await namespace.client.get(NETWORK_POLICIES, namespace.name, "qa-runner")
        versions.append(found["metadata"]["resourceVersion"])
    assert versions[0] == versions[1]
    assert found["spec"] == manifest["spec"]


async def test_a_fail_index_rule_needs_a_backoff_limit_per_index(namespace: Namespace) -> None:
    """Why even a Job of one pod is Indexed and has one."""
    manifest = golden("plan", namespace.name)
    del manifest["spec"]["backoffLimitPerIndex"]
    del manifest["spec"]["maxFailedIndexes"]
    with pytest.raises(Exception, match="FailIndex"):
        await namespace.client.create(JOBS, namespace.name, manifest)
