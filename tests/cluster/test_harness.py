"""The cluster is what the other tests take it for."""

from __future__ import annotations

import json

from kubesynth_testing.cluster import kind
from kubesynth_testing.cluster.kind import Cluster


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
