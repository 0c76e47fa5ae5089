"""The pod network of a cluster on our own node image: what kindnetd does on the stock one.

Each node gives its pods addresses of its own range (the CNI plugins ptp and host-local), knows a
route to the range of every other node, and hides pods behind its own address when they leave the
cluster. It enforces no NetworkPolicy, as kindnetd of the stock image does.

What is sent to an address of the cluster that nobody has, such as that of a pod that has just been
deleted, must not leave the cluster: some networks answer for any address there is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from kubesynth_testing.cluster.docker_client import Docker

POD_SUBNET = "10.244.0.0/16"
SERVICE_SUBNET = "10.96.0.0/16"

_RANGES_SECONDS = 60.0
_POLL_SECONDS = 0.3


class NoPodRangesError(RuntimeError):
    """The controller-manager gave some node no range of pod addresses."""


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """A node, the address at which the others reach it, and the range of its pods."""

    name: str
    address: str
    pod_range: str


def configure(docker: Docker, kubectl: Callable[..., str], *, nodes: int) -> None:
    """Connect the pods of all nodes, which become Ready with it.

    Args:
        docker: The daemon in which the nodes run.
        kubectl: Runs kubectl against the cluster.
        nodes: How many nodes there must be.

    Raises:
        NoPodRangesError: A node still has no range after a minute.
    """
    addresses = _wait_for_ranges(kubectl, nodes)
    with ThreadPoolExecutor(nodes) as pool:
        for done in [pool.submit(_configure_node, docker, n, addresses) for n in addresses]:
            done.result()


def _wait_for_ranges(kubectl: Callable[..., str], nodes: int) -> list[NodeAddress]:
    deadline = time.monotonic() + _RANGES_SECONDS
    while time.monotonic() < deadline:
        addresses = parse_nodes(kubectl("get", "nodes", "-o", "json"))
        if len(addresses) == nodes:
            return addresses
        time.sleep(_POLL_SECONDS)
    raise NoPodRangesError(f"fewer than {nodes} nodes have a podCIDR after {_RANGES_SECONDS:.0f} s")


def parse_nodes(listing: str) -> list[NodeAddress]:
    """Read a NodeList in JSON; nodes that have no range of pods yet are left out."""
    found = []
    for node in json.loads(listing)["items"]:
        addresses = {a["type"]: a["address"] for a in node["status"].get("addresses", [])}
        pod_range = node["spec"].get("podCIDR")
        if pod_range and "InternalIP" in addresses:
            name = node["metadata"]["name"]
            found.append(NodeAddress(name, addresses["InternalIP"], pod_range))
    return found


def cni_configuration(node: NodeAddress) -> str:
    """Return the node's CNI network configuration list."""
    addresses = {
        "type": "host-local",
        "dataDir": "/run/cni-ipam-state",
        "routes": [{"dst": "0.0.0.0/0"}],
        "ranges": [[{"subnet": node.pod_range}]],
    }
    # No portmap, which hostPort needs: no test uses one, and it costs every pod some processes.
    plugins = [{"type": "ptp", "ipMasq": False, "ipam": addresses}]
    return json.dumps({"cniVersion": "0.3.1", "name": "kubesynth", "plugins": plugins}, indent=1)


def routing_script(node: NodeAddress, nodes: list[NodeAddress]) -> str:
    """Return the shell script that a node runs now and whenever it starts."""
    leaving = f"POSTROUTING -s {node.pod_range} ! -d {POD_SUBNET} -j MASQUERADE"
    # Services that kube-proxy knows have other addresses by then.
    unknown = [f"{chain} -d {SERVICE_SUBNET} -j REJECT" for chain in ("FORWARD", "OUTPUT")]
    rules = [f"-t nat {{}} {leaving}", *(f"-t filter {{}} {rule}" for rule in unknown)]
    lines = ["set -eu"]
    lines += [
        f"iptables -w {rule.format('-C')} 2>/dev/null || iptables -w {rule.format('-A')}"
        for rule in rules
    ]
    lines += [f"ip route replace unreachable {POD_SUBNET}"]
    lines += [
        f"ip route replace {other.pod_range} via {other.address}"
        for other in nodes
        if other != node
    ]
    return "\n".join(lines) + "\n"


def _configure_node(docker: Docker, node: NodeAddress, nodes: list[NodeAddress]) -> None:
    files = {
        "/kind/pod-network.sh": routing_script(node, nodes),
        "/etc/cni/net.d/10-kubesynth.conflist": cni_configuration(node),
    }
    for path, content in files.items():
        # Written beside and moved: containerd reads the folder whenever it changes.
        write = f"cat > {path}.new && mv {path}.new {path}"
        docker.run("exec", "-i", node.name, "sh", "-c", write, stdin=content)
    docker.run("exec", node.name, "systemctl", "restart", "pod-network")
