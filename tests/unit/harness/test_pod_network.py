"""Every node learns the way to the pods of the others."""

from __future__ import annotations

import json
from typing import Any

from kubesynth_testing.cluster import pod_network
from kubesynth_testing.cluster.pod_network import NodeAddress

ONE = NodeAddress("one", "172.18.0.2", "10.244.0.0/24")
TWO = NodeAddress("two", "172.18.0.3", "10.244.1.0/24")


def node(name: str, address: str | None, pod_range: str | None) -> dict[str, Any]:
    addresses = [{"type": "Hostname", "address": name}]
    if address is not None:
        addresses.append({"type": "InternalIP", "address": address})
    spec = {} if pod_range is None else {"podCIDR": pod_range}
    return {"metadata": {"name": name}, "spec": spec, "status": {"addresses": addresses}}


def test_nodes_without_an_address_or_a_range_are_left_out() -> None:
    listing = {
        "items": [
            node("one", ONE.address, ONE.pod_range),
            node("no-range", "172.18.0.9", None),
            node("no-address", None, "10.244.9.0/24"),
        ]
    }
    assert pod_network.parse_nodes(json.dumps(listing)) == [ONE]


def test_a_node_routes_to_the_others_and_not_to_itself() -> None:
    script = pod_network.routing_script(ONE, [ONE, TWO])
    assert "ip route replace 10.244.1.0/24 via 172.18.0.3" in script
    assert "ip route replace 10.244.0.0/24" not in script


def test_what_is_sent_to_nobody_stays_in_the_cluster() -> None:
    script = pod_network.routing_script(ONE, [ONE, TWO])
    assert "ip route replace unreachable 10.244.0.0/16" in script
    for chain in ("FORWARD", "OUTPUT"):
        assert f"iptables -w -t filter -A {chain} -d 10.96.0.0/16 -j REJECT" in script


def test_pods_take_addresses_of_their_nodes_range() -> None:
    configuration = json.loads(pod_network.cni_configuration(TWO))
    (ranges,) = configuration["plugins"][0]["ipam"]["ranges"]
    assert ranges == [{"subnet": "10.244.1.0/24"}]
