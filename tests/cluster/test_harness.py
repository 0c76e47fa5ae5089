"""The cluster is what the other tests take it for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kubesynth_testing.cluster import kind
from kubesynth_testing.cluster.kind import Cluster
from kubesynth_testing.cluster.runners import Kubectl, Runner
from kubesynth_testing.cluster.shell import CommandError
from kubesynth_testing.scenarios import gpu_node

Manifest = dict[str, Any]


def python_container(image: str, program: str) -> Manifest:
    return {"name": "main", "image": image, "command": ["python", "-c", program]}


def spread_over_workers(label: str) -> Manifest:
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": label}},
    }


def indexed_job(name: str, completions: int, pod: Manifest, **spec: Any) -> Manifest:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {
            "completionMode": "Indexed",
            "completions": completions,
            "parallelism": completions,
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "restartPolicy": "Never",
                    # Another test may make a GPU node of a worker meanwhile.
                    "tolerations": [{"key": gpu_node.RESOURCE, "operator": "Exists"}],
                    "topologySpreadConstraints": [spread_over_workers(name)],
                    **pod,
                },
            },
            **spec,
        },
    }


def test_nodes_are_a_control_plane_and_two_workers_of_kubernetes_1_37(
    kind_cluster: Cluster,
) -> None:
    nodes = json.loads(kind_cluster.kubectl("get", "nodes", "-o", "json"))["items"]
    versions = {
        node["metadata"]["name"]: node["status"]["nodeInfo"]["kubeletVersion"] for node in nodes
    }
    assert set(versions) == set(kind.NODES)
    assert all(version.startswith("v1.37.") for version in versions.values())


def test_up_on_a_running_cluster_leaves_it_as_it_is(kind_cluster: Cluster) -> None:
    def identity() -> str:
        return kind_cluster.kubectl(
            "get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}"
        )

    before = identity()
    assert kind.up() == kind_cluster
    assert identity() == before


def test_pods_on_two_nodes_write_one_shared_volume(
    kubectl: Kubectl, project_image: str, shared_storage_class: str
) -> None:
    # Each waits for the other's file: a pod that has ended no longer counts for the spread.
    write = """if True:
        import os, pathlib, time
        out, node = pathlib.Path("/out"), os.environ["NODE"]
        (out / node).write_text(node)
        while len(list(out.iterdir())) < 2:
            time.sleep(0.2)
    """
    container = python_container(project_image, write)
    container["volumeMounts"] = [{"name": "out", "mountPath": "/out"}]
    container["env"] = [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]
    volume = {"name": "out", "persistentVolumeClaim": {"claimName": "out"}}
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "out"},
        "spec": {
            "storageClassName": shared_storage_class,
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    kubectl.apply(claim, indexed_job("write", 2, {"containers": [container], "volumes": [volume]}))
    kubectl.wait("condition=Complete", "job/write")

    read = "import pathlib; print(sorted(p.read_text() for p in pathlib.Path('/out').iterdir()))"
    container = {**container, **python_container(project_image, read)}
    kubectl.apply(indexed_job("read", 1, {"containers": [container], "volumes": [volume]}))
    kubectl.wait("condition=Complete", "job/read")

    pods = kubectl.json("get", "pods", "-l", "app=write")["items"]
    nodes = sorted(pod["spec"]["nodeName"] for pod in pods)
    assert len(set(nodes)) == 2
    assert kubectl("logs", "job/read").strip() == str(nodes)


def test_service_is_reached_by_name_from_both_nodes(kubectl: Kubectl, project_image: str) -> None:
    server: Manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "containers": [
                {
                    "name": "main",
                    "image": project_image,
                    "command": ["python", "-m", "http.server", "8000"],
                    "workingDir": "/etc",
                    "readinessProbe": {
                        "tcpSocket": {"port": 8000},
                        "periodSeconds": 1,
                    },
                }
            ]
        },
    }
    service: Manifest = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8000}]},
    }
    kubectl.apply(service, server)
    kubectl.wait("condition=Ready", "pod/web")
    fetch = "import urllib.request as r; print(r.urlopen('http://web/hostname', timeout=20).read())"
    kubectl.apply(indexed_job("ask", 2, {"containers": [python_container(project_image, fetch)]}))
    kubectl.wait("condition=Complete", "job/ask")


@pytest.mark.parametrize(
    ("exit_code", "failed_indexes", "attempts"),
    [pytest.param(65, "1", 2, id="fail-index"), pytest.param(1, "1", 3, id="counted-and-retried")],
)
def test_pod_failure_policy_decides_by_exit_code(
    kubectl: Kubectl, project_image: str, exit_code: int, failed_indexes: str, attempts: int
) -> None:
    end = f"import os, sys; sys.exit({exit_code} * int(os.environ['JOB_COMPLETION_INDEX']))"
    kubectl.apply(
        indexed_job(
            "shards",
            2,
            {"containers": [python_container(project_image, end)]},
            backoffLimitPerIndex=1,
            podFailurePolicy={
                "rules": [
                    {
                        "action": "FailIndex",
                        "onExitCodes": {"operator": "In", "values": [65]},
                    }
                ]
            },
        )
    )
    kubectl.wait("condition=Failed", "job/shards")

    status = kubectl.json("get", "job", "shards")["status"]
    assert (status["completedIndexes"], status["failedIndexes"]) == ("0", failed_indexes)
    assert status["succeeded"] + status["failed"] == attempts


def test_pod_security_refuses_a_pod_that_is_not_restricted(
    kubectl: Kubectl, cluster: Cluster, namespace: str, project_image: str
) -> None:
    label = "pod-security.kubernetes.io/enforce=restricted"
    cluster.kubectl("label", "namespace", namespace, label)
    run = ("run", "plain", f"--image={project_image}")
    with pytest.raises(CommandError, match="violates PodSecurity"):
        kubectl(*run)


def test_helm_installs_a_chart(helm: Runner, kubectl: Kubectl, tmp_path: Any) -> None:
    (tmp_path / "Chart.yaml").write_text("{apiVersion: v2, name: tiny, version: 0.1.0}")
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates/map.yaml").write_text(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: '{{ .Release.Name }}'}}"
    )
    helm("install", "first", tmp_path)
    assert kubectl("get", "configmap", "first", "-o", "name").strip() == "configmap/first"
